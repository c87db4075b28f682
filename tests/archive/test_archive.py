"""What is archived is what came: every byte, in order, and found again quickly."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from broker.archive.archive import Archive, ArchiveError
from broker.archive.queries import separation
from broker.packets.decode import Decoded, decode
from broker.packets.registry import Folder
from broker.packets.schema import CUTOUTS, datum
from broker.packets.survey import survey
from tests.archive.conftest import tagged
from tests.conftest import Packets

Keep = Callable[[pa.Table, str], None]


def data(table: pa.Table) -> list[bytes]:
    return [datum(row) for row in table.select(["packet", "packet_cuts", *CUTOUTS]).to_pylist()]


def folder_bytes(folder: str) -> int:
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


def test_a_batch_comes_back_as_it_was_written(ztf: Decoded, archive: Archive, keep: Keep) -> None:
    keep(ztf.alerts.slice(0, 20), "s/1")
    keep(ztf.alerts.slice(20), "s/2")
    rows, written = archive.read_batch("s/2"), tagged(ztf.alerts.slice(20), "s/2")
    assert rows.column_names == written.column_names
    for name in rows.column_names:
        assert rows[name].to_pylist() == written[name].to_pylist(), name
    assert data(rows) == data(written)


def test_every_packet_of_every_schema_keeps_its_bytes_and_takes_no_more_room(
    ztf_packets: Packets, archive: Archive, keep: Keep
) -> None:
    packets = [packet for _, packet in ztf_packets]
    decoded = decode(survey("ztf"), packets)
    keep(decoded.alerts.slice(0, 600), "s/1")
    keep(decoded.alerts.slice(600), "s/2")
    archive.keep_schemas(decoded.schemas)
    archive.compact()
    assert data(pa.concat_tables([archive.read_batch("s/1"), archive.read_batch("s/2")])) == data(
        decoded.alerts
    )
    assert folder_bytes(archive.uri) <= 1.05 * sum(map(len, packets))


@pytest.mark.parametrize("which", ["wire", "containers"])
def test_so_do_lsst_packets(
    which: str, lsst_wire: Packets, lsst_containers: Packets, lsst_schemas: Path, tmp_path: Path
) -> None:
    packets = [packet for _, packet in (lsst_wire if which == "wire" else lsst_containers)]
    decoded = decode(survey("lsst"), packets, Folder(lsst_schemas))
    archive = Archive(str(tmp_path), "lsst")
    rows = tagged(decoded.alerts, "s/1")
    archive.prepare(rows.schema)
    archive.commit(archive.write(rows), "s/1", lambda: None)
    archive.keep_schemas(decoded.schemas)
    archive.compact()
    assert data(archive.read_batch("s/1")) == data(rows)
    assert folder_bytes(archive.uri) <= 1.05 * sum(map(len, packets))


@pytest.mark.parametrize("compacted", [False, True])
def test_alerts_are_found_by_id_object_place_and_sql(
    compacted: bool, ztf: Decoded, archive: Archive, keep: Keep
) -> None:
    alerts = ztf.alerts
    keep(alerts.slice(0, 40), "s/1")
    if compacted:
        archive.compact()
    keep(alerts.slice(40), "s/2")  # of which no index knows
    for row in (3, 50):
        alert, name = alerts["alert_id"][row].as_py(), alerts["object_id"][row].as_py()
        ra, dec = alerts["ra"][row].as_py(), alerts["dec"][row].as_py()
        assert archive.get(alert_ids=[alert])["alert_id"].to_pylist() == [alert]
        of_object = archive.get(object_id=name, columns=["alert_id"])["alert_id"].to_pylist()
        assert alert in of_object
        assert sorted(of_object) == sorted(
            a
            for a, o in zip(alerts["alert_id"].to_pylist(), alerts["object_id"].to_pylist(), strict=True)
            if o == name
        )
        assert alert in archive.get(cone=(ra, dec, 1.0), columns=["alert_id"])["alert_id"].to_pylist()
    assert len(archive.get(where="source.magpsf < 18 AND band = 'g'")) == sum(
        s["magpsf"] < 18 and b == "g"
        for s, b in zip(alerts["source"].to_pylist(), alerts["band"].to_pylist(), strict=True)
    )
    assert len(archive.get(where="true", limit=7)) == 7


@pytest.mark.parametrize("radius", [0.1, 5.0, 300.0, 36_000.0])
def test_a_cone_has_all_within_it_and_no_other(
    radius: float, ztf: Decoded, archive: Archive, keep: Keep
) -> None:
    keep(ztf.alerts, "s/1")
    ra, dec = ztf.alerts["ra"].to_numpy(), ztf.alerts["dec"].to_numpy()
    for row in range(0, 60, 12):
        place = float(ra[row]), float(dec[row])
        inside = ztf.alerts["alert_id"].to_numpy()[separation(ra, dec, *place) <= radius]
        found = archive.get(cone=(*place, radius), columns=["alert_id"])["alert_id"].to_numpy()
        assert np.array_equal(np.sort(found), np.sort(inside))


def test_rights_narrow_whatever_is_asked(ztf: Decoded, archive: Archive, keep: Keep) -> None:
    rights = ["public" if i % 3 else "partner" for i in range(len(ztf.alerts))]
    at = ztf.alerts.column_names.index("rights")
    keep(ztf.alerts.set_column(at, ztf.alerts.schema.field("rights"), pa.array(rights)), "s/1")
    assert len(archive.get(where="true OR true", rights=["public"])) == rights.count("public")
    assert len(archive.get(where="true", rights=[])) == 0
    for trick in ("1=1) OR (1=1", "true) OR true --", "true OR rights = 'partner'", "rights <> '' OR 1=1"):
        found = archive.get(where=trick, rights=["public"], columns=["alert_id", "rights"])
        assert set(found["rights"].to_pylist()) == {"public"}


def test_writer_schemas_are_kept_once_and_known_by_name(ztf: Decoded, archive: Archive) -> None:
    archive.keep_schemas(ztf.schemas)
    archive.keep_schemas(ztf.schemas)
    assert archive.writer_schemas(ztf.schemas) == ztf.schemas
    with pytest.raises(ArchiveError, match=r"9\.9/beef"):
        archive.writer_schemas(["9.9/beef"])


def test_it_travels_by_pickle(ztf: Decoded, archive: Archive, keep: Keep) -> None:
    keep(ztf.alerts, "s/1")
    assert len(pickle.loads(pickle.dumps(archive)).read_batch("s/1")) == len(ztf.alerts)


def test_what_is_not_there_is_said_so(archive: Archive, ztf: Decoded, keep: Keep) -> None:
    assert not archive.find("s/1")
    with pytest.raises(ArchiveError, match="there is no archive at"):
        archive.get(where="true")
    keep(ztf.alerts, "s/1")
    with pytest.raises(ArchiveError, match="'nosuch = 1' cannot be asked"):
        archive.get(where="nosuch = 1")
    with pytest.raises(ArchiveError, match="no batch s/2"):
        archive.read_batch("s/2")
    with pytest.raises(ArchiveError, match="no batch of the archive"):
        archive.find("nonsense")


def test_stats_tell_room_nights_and_indices(ztf: Decoded, archive: Archive, keep: Keep) -> None:
    keep(ztf.alerts, "s/1")
    archive.compact()
    stats = archive.stats()
    assert stats["alerts"] == len(ztf.alerts)
    assert stats["bytes"] == folder_bytes(archive.address)
    assert stats["nights"] == {"number": 1, "first": 58451, "last": 58451}
    assert stats["indices"] == {f"{name}_idx": 60 for name in ("object_id", "alert_id", "hpx29")}
    assert 0.5 < stats["ratio"] < 1.2
