"""Packets that kill or hang the decoder cost only themselves."""

from __future__ import annotations

import multiprocessing
import signal
import time

import numpy as np
import pytest

from broker.packets.decode import decode
from broker.packets.registry import Folder
from broker.packets.survey import SchemasUnavailable, survey
from tests.packets.deadly import Deadly

ZTF = survey("ztf")


@pytest.fixture(scope="module")
def packets(ztf_packets) -> list[bytes]:
    return [packet for name, packet in ztf_packets if "20181128" in name][:80]


@pytest.fixture(scope="module")
def ids(packets) -> list[int]:
    return decode(ZTF, packets).alerts["alert_id"].to_pylist()


def test_isolated_packets_decode_to_the_same(packets):
    packets = [*packets[:70], b"junk", *packets[70:]]
    near, far = decode(ZTF, packets, cutouts=True), decode(ZTF, packets, cutouts=True, isolate=True)
    assert far.alerts.drop(["cutouts"]).equals(near.alerts.drop(["cutouts"]))
    pixels = [d.alerts["cutouts"].combine_chunks().to_numpy_ndarray() for d in (near, far)]
    assert np.array_equal(*pixels, equal_nan=True)
    assert far.index.tolist() == near.index.tolist()
    assert (far.failures, far.counts, far.schemas) == (near.failures, near.counts, near.schemas)


def test_a_packet_that_kills_the_decoder_fails_alone(packets, ids):
    deadly = Deadly(killers=frozenset([ids[5]]))
    decoded = decode(deadly, packets, isolate=True)
    assert [(f.index, f.reason) for f in decoded.failures] == [(5, "killed the decoder: signal 11 (SIGSEGV)")]
    assert decoded.alerts["alert_id"].to_pylist() == ids[:5] + ids[6:]
    assert decoded.index.tolist() == [i for i in range(80) if i != 5]


def test_a_packet_that_hangs_the_decoder_fails_alone(packets, ids):
    deadly = Deadly(sleepers=frozenset([ids[66]]))
    decoded = decode(deadly, packets, isolate=True, watchdog_s=3)
    assert [(f.index, f.reason) for f in decoded.failures] == [(66, "hung the decoder for 3 s")]
    assert decoded.alerts["alert_id"].to_pylist() == ids[:66] + ids[67:]


def test_several_at_once(packets, ids):
    deadly = Deadly(killers=frozenset([ids[0], ids[79]]), signal_=signal.SIGKILL)
    decoded = decode(deadly, packets, isolate=True)
    why = "killed the decoder: signal 9 (SIGKILL)"
    assert [(f.index, f.reason) for f in decoded.failures] == [(0, why), (79, why)]
    assert decoded.alerts.num_rows == 78


def _hang(packets: list[bytes], alert_id: int) -> None:
    decode(Deadly(sleepers=frozenset([alert_id])), packets, watchdog_s=1)


def test_without_isolation_the_watchdog_ends_a_process_that_hangs(packets, ids):
    process = multiprocessing.get_context("spawn").Process(target=_hang, args=(packets, ids[3]))
    start = time.monotonic()
    process.start()
    process.join(50)
    assert process.exitcode == 1
    assert time.monotonic() - start < 50


def test_a_schema_source_that_does_not_answer_is_no_fault_of_the_packets(lsst_wire, tmp_path):
    folder = tmp_path / "schemas"
    folder.mkdir()
    (folder / "900.avsc").mkdir()
    packets = [packet for _, packet in lsst_wire[:2]]
    for isolate in (False, True):
        with pytest.raises(SchemasUnavailable, match=r"900\.avsc cannot be read"):
            decode(survey("lsst"), packets, Folder(folder), isolate=isolate)
