"""Hostile packets: the same for the same seed, of every kind; and a small campaign through a whole stream."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from broker.packets.decode import decode
from broker.packets.registry import Folder
from broker.packets.survey import PacketError, survey
from rayfinch.fuzz import lsst
from rayfinch.fuzz.campaign import keep
from rayfinch.fuzz.kept import values
from rayfinch.fuzz.leaves import leaves
from rayfinch.fuzz.messages import NEIGHBOURS, PARTITIONS, Messages, healthy_number, number
from rayfinch.fuzz.mutations import MUTATIONS, mutate
from rayfinch.fuzz.packet import Base, base
from rayfinch.fuzz.result import Result, added
from training.simulation import packets


@pytest.fixture(scope="module")
def bases() -> list[Base]:
    return [base(simulated.packet, None) for simulated in packets(4, 1)]


@pytest.fixture(scope="module")
def schemas(tmp_path_factory) -> Folder:
    folder = tmp_path_factory.mktemp("schemas")
    (folder / f"{lsst.SCHEMA_ID}.avsc").write_text(lsst.schema_json())
    return Folder(folder)


# -- packets taken apart


def test_the_leaves_tile_the_datum(bases):
    one = bases[0]
    places = [(leaf.start, leaf.end) for leaf in one.leaves]
    assert places[0][0] == 0
    assert places[-1][1] == len(one.datum)
    assert all(end == start for (_, end), (start, _) in pairwise(places))


def test_real_packets_are_taken_apart(ztf_packets, lsst_wire, lsst_schemas):
    for _, packet in [*ztf_packets[::100], *lsst_wire[::20]]:
        one = base(packet, Folder(lsst_schemas))
        assert one.leaves[-1].end == len(one.datum)


def test_a_datum_that_is_no_whole_one_is_refused(bases):
    with pytest.raises(PacketError, match="must be a whole one"):
        leaves(bases[0].schema, bases[0].datum[:-1])


def test_a_packet_with_another_id_is_otherwise_the_same(bases):
    one = bases[0]
    rows = decode(survey("ztf"), [one.framed(one.datum), one.packet(77)]).alerts.to_pylist()
    assert rows[1]["alert_id"] == 77
    for column in ("object_id", "ra", "dec", "mjd", "flux", "history", "cutout_science"):
        assert rows[0][column] == rows[1][column]


def test_simulated_lsst_packets_are_lsst_packets(schemas):
    made = list(lsst.packets(5, 1))
    decoded = decode(survey("lsst"), made, schemas, cutouts=True)
    assert not decoded.failures
    assert len(decoded.alerts) == 5
    assert all(name.startswith("9.0/") for name in decoded.alerts["packet_schema"].to_pylist())


def test_a_healthy_alert_is_itself_whatever_order_a_neighbours_schema_gave_the_columns(bases):
    (row,) = decode(survey("ztf"), [bases[0].packet(77)]).alerts.to_pylist()
    turned = {**row, "source": dict(reversed(row["source"].items())) | {"a neighbour's": None}}
    assert values(turned) == values(row)
    assert values({**row, "source": {**row["source"], "ra": 1.0}}) != values(row)


# -- mutations


def test_the_same_seed_makes_the_same_packets(bases):
    assert list(Messages(bases, 60, 5)) == list(Messages(bases, 60, 5))
    assert Messages(bases, 60, 5)[7] != Messages(bases, 60, 6)[7]


def test_every_mutation_is_drawn_and_most_change_the_packet(bases):
    drawn = [mutate(bases[i % 4], 5, i) for i in range(600)]
    assert {m.name for m in drawn} == set(MUTATIONS)
    whole = {one.packet(5) for one in bases}
    assert sum(m.value in whole for m in drawn) < 60


def test_a_healthy_packet_follows_every_fourth_mutant(bases):
    sent = Messages(bases, 14, 1)
    assert [i for i, m in enumerate(sent) if m.mutation is None] == [4, 9, 14]
    assert len({m.alert_id for m in sent}) == len(sent) == 14 + 14 // NEIGHBOURS
    assert [m.alert_id for m in sent if m.mutation is None] == list(sent.healthy_ids())
    assert [healthy_number(i) for i in sent.healthy_ids()] == [4, 9, 14]


def test_a_message_is_found_again_by_its_place():
    assert [number(k % PARTITIONS, k // PARTITIONS) for k in range(50)] == list(range(50))


def changed(bases: list[Base], name: str, times: int = 6) -> list[bytes]:
    return [MUTATIONS[name](bases[i % 4], 100 + i, random.Random(f"{name}{i}")) or b"" for i in range(times)]


def test_truncated_packets_are_the_beginnings_of_whole_ones(bases):
    for i, short in enumerate(changed(bases, "truncated")):
        assert bases[i % 4].packet(100 + i).startswith(short)
        assert len(short) < len(bases[i % 4].packet(100 + i))


def test_one_flipped_bit_is_one(bases):
    for i, other in enumerate(changed(bases, "bit")):
        whole = np.frombuffer(bases[i % 4].packet(100 + i), np.uint8)
        assert int(np.bitwise_count(whole ^ np.frombuffer(other, np.uint8)).sum()) == 1


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("repeated", "cut short|more than one block|sync marker"),
        ("truncated_datum", "cannot be decoded"),
        ("extended_datum", "left over"),
        ("zip_bomb", "inflates to more than|left over|ends elsewhere|cannot be decoded"),
        ("stamp_bomb", "inflates|gzip|no two-dimensional|astropy|neither gzip nor FITS"),
        ("foreign_schema", "schema|left over"),
        ("nothing", "empty|neither an Avro|cut short|names schema"),
    ],
)
def test_what_is_certainly_no_packet_has_the_reason(bases, name, reasons):
    decoded = decode(survey("ztf"), changed(bases, name), cutouts=True)
    assert len(decoded.failures) == 6
    assert all(re.search(reasons, failure.reason) for failure in decoded.failures), decoded.failures


@pytest.mark.parametrize("name", ["real", "healthy", "schema_id"])
def test_what_only_looks_odd_may_be_an_alert(bases, name):
    decoded = decode(survey("ztf"), changed(bases, name, 12), cutouts=True)
    assert len(decoded.alerts) + len(decoded.failures) == 12
    if name == "healthy":
        assert not decoded.failures


def test_no_mutation_harms_its_neighbours_in_a_block(bases):
    """Decoded in one call: whatever a mutant is, the healthy packets around it are alerts."""
    good = [one.packet(10 + i) for i, one in enumerate(bases)]
    for name in MUTATIONS:
        bad = changed(bases, name)
        block = [*good[:2], *bad[:3], good[2], *bad[3:], good[3]]
        decoded = decode(survey("ztf"), block, cutouts=True)
        assert {10, 11, 12, 13} <= set(decoded.alerts["alert_id"].to_pylist()), name
        assert len(decoded.alerts) + len(decoded.failures) == len(block)
        assert all(failure.reason for failure in decoded.failures)


@pytest.mark.parametrize("name", ["ztf", "lsst"])
def test_a_block_is_the_same_isolated(bases, schemas, name):
    """Alert or failure, each of a block of mutants; and the same of them in a process of their own."""
    whole = bases if name == "ztf" else [base(packet, schemas) for packet in lsst.packets(4, 1)]
    block = [message.value or b"" for message in Messages(whole, 50, 3)]
    near = decode(survey(name), block, schemas, cutouts=True)
    far = decode(survey(name), block, schemas, cutouts=True, isolate=True)
    assert sorted([*near.index, *(f.index for f in near.failures)]) == list(range(len(block)))
    assert {4, 9, 14} <= set(near.index.tolist())
    assert far.index.tolist() == near.index.tolist()
    assert far.failures == near.failures


# -- judgement


def test_what_makes_a_result_bad():
    good = Result("ztf", packets=80, accounted=True)
    assert good.good
    for bad in (
        {"crashes": 1},
        {"hangs": 1},
        {"neighbours_harmed": 1},
        {"accounted": False},
        {"faults": ["x"]},
    ):
        assert not Result(**{"survey": "ztf", "accounted": True, **bad}).good
    assert added([good, Result("lsst", packets=7)])["packets"] == 87


def test_a_packet_to_look_at_is_kept_as_it_was_sent(bases, tmp_path):
    sent, result = Messages(bases, 20, 1), Result("ztf")
    keep(sent, [7, 4], tmp_path / "deadly", result)
    assert result.evidence == [str(tmp_path / "deadly")]
    files = {path.name: path.read_bytes() for path in (tmp_path / "deadly").iterdir()}
    assert files == {f"7-{sent[7].mutation}.avro": sent[7].value or b"", "4-healthy.avro": sent[4].value}


@pytest.mark.timeout(600)
def test_a_small_campaign(kafka, tmp_path):
    """Of one survey, because a stream takes its time to start; what is left out is in the tests above."""
    command = [sys.executable, "-m", "rayfinch", "fuzz", "--packets", "120", "--survey", "lsst", "--json"]
    run = subprocess.run(
        [*command, "--bootstrap", kafka, "--data", str(tmp_path)], capture_output=True, text=True, timeout=580
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    told = json.loads(run.stdout.splitlines()[-1])
    assert (told["crashes"], told["hangs"], told["neighbours_harmed"]) == (0, 0, 0)
    assert told["packets"] == 120 == told["decoded"] + told["resent"] + told["dead_letters"]
    assert told["accounted"] is True
    assert sum(told["surveys"]["lsst"]["mutations"].values()) == 120
