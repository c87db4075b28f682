"""Packets made with each published schema decode, with every field and with every field null that may be."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from broker.packets import schema
from broker.packets.check import check
from broker.packets.decode import decode
from broker.packets.registry import Folder
from broker.packets.survey import survey
from tests.packets import made

ZTF, LSST = survey("ztf"), survey("lsst")


@pytest.fixture(scope="module")
def ztf_schemas(shared) -> Path:
    return shared / "data" / "ztf" / "schemas"


@pytest.mark.parametrize("codec", ["null", "deflate"])
@pytest.mark.parametrize("version", made.ZTF_VERSIONS)
def test_ztf(version, codec, ztf_schemas):
    written = made.ztf_schema(ztf_schemas, version)
    full = made.container(written, made.record(written, schemavsn=version), codec=codec)
    bare = made.container(written, made.record(written, nulls=True, schemavsn=version), codec=codec)
    decoded = decode(ZTF, [full, bare], cutouts=True)
    assert decoded.failures == []
    assert "slow_packets" not in decoded.counts
    with_all, with_nulls = decoded.alerts.drop(["cutouts"]).to_pylist()
    assert with_all["packet_schema"].partition("/")[0] == version
    assert with_all["alert_id"] == with_nulls["alert_id"] == 2475433850015015001
    assert with_all["cutout_shape"] == [63, 63]
    assert with_nulls["history"] == []
    assert with_nulls["packet_cuts"] == [-1, -1, -1]
    assert [with_nulls[name] for name in schema.CUTOUTS] == [None] * 3
    assert with_nulls["cutout_shape"] == [0, 0]


@pytest.mark.parametrize("schema_id", made.LSST_IDS)
def test_lsst(schema_id, lsst_schemas):
    written = made.lsst_schema(lsst_schemas, schema_id)
    full = made.wire(schema_id, written, made.record(written))
    bare = made.wire(schema_id, written, made.record(written, nulls=True))
    decoded = decode(LSST, [full, bare, made.container(written, made.record(written))], Folder(lsst_schemas))
    assert decoded.failures == []
    assert "slow_packets" not in decoded.counts
    with_all, with_nulls, contained = decoded.alerts.to_pylist()
    assert with_all["packet_schema"].partition("/")[0] == f"{schema_id // 100}.{schema_id % 100}"
    assert with_all["object_id"] == "169298432639893512"
    assert with_all["flux"] == 1234.5
    assert contained["history"] == with_all["history"]
    # It names no object: it starts its own, as the survey numbers a new object by its first source
    assert with_nulls["object_id"] == "169298432603193359"
    assert with_nulls["flux"] is None
    assert with_nulls["band"] == ""


@pytest.mark.parametrize("schema_id", [700, 704])
def test_lsst_7_names_the_alert_by_alert_id_and_has_limits(schema_id, lsst_schemas):
    written = made.lsst_schema(lsst_schemas, schema_id)
    datum = made.record(written, alertId=42)
    for name in ("prvDiaSources", "prvDiaForcedSources", "prvDiaNondetectionLimits"):
        datum[name][0]["midpointMjdTai"] = 60899.0
    datum["diaObject"] = None
    datum["diaSource"]["diaObjectId"] = None
    row = decode(LSST, [made.container(written, datum)]).alerts.to_pylist()[0]
    assert row["alert_id"] == 42
    assert row["object_id"] == "21164719644750924"
    assert [point["kind"] for point in row["history"]] == ["detection", "forced", "limit"]
    assert row["history"][2]["flux"] is None
    assert row["history"][2]["flux_err"] == 0.5


@pytest.mark.parametrize("schema_id", [704, 900, 1100])
def test_a_later_minor_version_that_only_adds_fields_needs_no_code(schema_id, lsst_schemas, tmp_path):
    later = copy.deepcopy(made.lsst_schema(lsst_schemas, schema_id))
    text = json.dumps(later).replace(f"v{schema_id // 100}_{schema_id % 100}", f"v{schema_id // 100}_9")
    later = json.loads(text)
    source = next(f for f in later["fields"] if f["name"] == "diaSource")
    new = {"type": "record", "name": "novelty", "fields": [{"name": "level", "type": "float"}]}
    source["type"]["fields"] += [
        {"name": "glow", "type": ["null", "float"]},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
    ]
    later["fields"] += [
        {"name": "novelty", "type": ["null", new]},
        {"name": "notes", "type": {"type": "map", "values": "string"}},
    ]
    (tmp_path / f"{schema_id + 5}.avsc").write_text(json.dumps(later))
    datum = made.record(later, notes={"a": "b"}, novelty={"level": 1.5})
    decoded = decode(LSST, [made.wire(schema_id + 5, later, datum)], Folder(tmp_path))
    assert decoded.failures == []
    assert "slow_packets" not in decoded.counts
    row = decoded.alerts.to_pylist()[0]
    assert row["packet_schema"].startswith(f"{schema_id // 100}.9/")
    assert row["source"]["glow"] == 0.5
    assert row["source"]["tags"] == ["text"]


def test_tables_of_different_schemas_are_one_table(ztf_schemas):
    packets = []
    for version in made.ZTF_VERSIONS:
        written = made.ztf_schema(ztf_schemas, version)
        packets.append(made.container(written, made.record(written, schemavsn=version)))
    decoded = decode(ZTF, packets[::-1])
    versions = [name.partition("/")[0] for name in decoded.alerts["packet_schema"].to_pylist()]
    assert versions == list(made.ZTF_VERSIONS)[::-1]
    drb = [source.get("drb") for source in decoded.alerts["source"].to_pylist()]
    assert drb[0] == 0.5
    assert drb[-1] is None


def test_a_ztf_packet_that_another_wrote_anew_has_other_names_and_orders(ztf_schemas):
    """Renamed records, every field nullable, reordered and widened: what Spark makes of a packet."""
    written = made.ztf_schema(ztf_schemas, "3.3")
    datum = made.record(written, schemavsn="3.3")
    widened = {"float": "double", "int": "long"}
    candidate = next(f for f in written["fields"] if f["name"] == "candidate")["type"]["fields"]
    fields = [(f["name"], f["type"][0] if isinstance(f["type"], list) else f["type"]) for f in candidate]
    record = {
        "type": "record",
        "name": "candidate",
        "namespace": "topLevelRecord",
        "fields": [{"name": n, "type": [widened.get(t, t), "null"]} for n, t in sorted(fields)],
    }
    top = {
        "type": "record",
        "name": "topLevelRecord",
        "fields": [
            {"name": "candid", "type": ["long", "null"]},
            {"name": "schemavsn", "type": ["string", "null"]},
            {"name": "objectId", "type": ["string", "null"]},
            {"name": "candidate", "type": [record, "null"]},
        ],
    }
    packet = made.container(
        top, {name: datum[name] for name in ("candid", "schemavsn", "objectId", "candidate")}
    )
    row = decode(ZTF, [packet]).alerts.to_pylist()[0]
    assert row["flux"] == pytest.approx(3631e9 * 10 ** (-0.4 * 20))
    assert row["band"] == "r"
    nulls = {**datum["candidate"], "candid": None, "magpsf": None, "programid": None}
    packet = made.container(top, {"candid": 1, "schemavsn": None, "objectId": "Z", "candidate": nulls})
    row = decode(ZTF, [packet]).alerts.to_pylist()[0]
    assert row["flux"] is None
    assert row["rights"] != schema.PUBLIC
    assert row["packet_schema"].startswith("unknown/")


def test_the_check_finds_nothing_amiss_in_made_packets(ztf_schemas, lsst_schemas):
    packets = []
    for version in made.ZTF_VERSIONS:
        written = made.ztf_schema(ztf_schemas, version)
        for nulls in (False, True):
            packets.append((f"{version}{nulls}", made.container(written, made.record(written, nulls))))
    for schema_id in made.LSST_IDS:
        written = made.lsst_schema(lsst_schemas, schema_id)
        for nulls in (False, True):
            packets.append(
                (f"{schema_id}{nulls}", made.wire(schema_id, written, made.record(written, nulls)))
            )
    *_, report = check(packets, Folder(lsst_schemas))
    assert (report.mismatched, report.unreadable) == ({}, {})
    assert report.decoded == 30
