import json
from pathlib import Path

import fastavro
import pytest

from broker.publish.schemas import extended, slim

LSST_VERSIONS = (700, 701, 702, 703, 704, 800, 900, 1000, 1100)


def records(node, space=""):
    """Full names of the records in a schema, in the order of their definitions."""
    if isinstance(node, list):
        return [name for branch in node for name in records(branch, space)]
    if not isinstance(node, dict):
        return []
    if node["type"] == "record":
        name = f"{node['namespace']}.{node['name']}"
        return [name, *(n for f in node["fields"] for n in records(f["type"]))]
    return records(node.get("items", node["type"]))


@pytest.mark.parametrize("packet", ["full", "no-cutouts"])
def test_every_schema_that_packets_were_written_with_can_be_extended(ztf, lsst, packet):
    for writer in {o.schema_json for o in ztf + lsst}:
        before = json.loads(writer)
        after = json.loads(extended(writer, "any", packet).json)
        fastavro.parse_schema(after)
        kept = [f["name"] for f in before["fields"] if packet == "full" or not f["name"].startswith("cutout")]
        assert [f["name"] for f in after["fields"]] == [*kept, "rayfinch_ingested_at", "rayfinch_scores"]
        names = records(after)
        assert len(set(names)) == len(names)
        assert names[0] == (
            "rayfinch.any.alert" if packet == "full" else "rayfinch.any.alert_without_cutouts"
        )


@pytest.mark.parametrize("version", LSST_VERSIONS)
def test_every_published_lsst_schema_can_be_extended(lsst_schemas: Path, version):
    writer = (lsst_schemas / f"{version}.avsc").read_text()
    for packet in ("full", "no-cutouts"):
        fastavro.parse_schema(json.loads(extended(writer, "lsst", packet).json))


@pytest.mark.parametrize("version", ["3.0", "3.1", "3.2", "3.3", "4.01", "4.02"])
def test_every_published_ztf_schema_can_be_extended(shared: Path, version):
    folder = shared / "data" / "ztf" / "schemas" / version
    parts = sorted(folder.glob("*.avsc"), key=lambda path: path.stem == "alert")  # what uses the others last
    whole = fastavro.schema.load_schema_ordered([str(path) for path in parts], _write_hint=False)
    writer = json.dumps(whole)
    for packet in ("full", "no-cutouts"):
        fastavro.parse_schema(json.loads(extended(writer, "ztf", packet).json))


def test_a_type_that_a_dropped_cutout_defined_is_defined_where_it_is_used_next():
    stamp = {"type": "record", "name": "stamp", "fields": [{"name": "data", "type": "bytes"}]}
    fields = [
        {"name": "cutoutScience", "type": stamp},
        {"name": "finder", "type": {"type": "array", "items": "stamp"}},
    ]
    writer = json.dumps({"type": "record", "name": "a", "namespace": "x.y", "fields": fields})
    after = json.loads(extended(writer, "s", "no-cutouts").json)
    assert after["fields"][0]["type"]["items"]["namespace"] == "x.y"
    fastavro.parse_schema(after)


def test_a_type_without_a_namespace_stays_apart_from_those_of_the_record_around_it():
    inner = {"type": "record", "name": "score", "fields": [{"name": "x", "type": "int"}]}
    writer = json.dumps({"type": "record", "name": "a", "fields": [{"name": "own", "type": inner}]})
    assert records(json.loads(extended(writer, "s", "full").json)) == [
        "rayfinch.s.alert",
        "rayfinch.s.score",
        "rayfinch.score",
        "rayfinch.class_probability",
    ]


def test_defaults_that_contradict_their_type_are_left_out():
    fields = [
        {"name": "wrong", "type": ["float", "null"], "default": None},
        {"name": "right", "type": ["null", "float"], "default": None},
        {"name": "number", "type": ["null", "int"], "default": 0},
        {"name": "word", "type": "string", "default": ""},
    ]
    writer = json.dumps({"type": "record", "name": "a", "fields": fields})
    after = json.loads(extended(writer, "s", "full").json)
    assert [f["name"] for f in after["fields"][:4] if "default" in f] == ["right", "word"]


def test_a_packet_that_another_rayfinch_published_is_extended_again(ztf):
    once = extended(ztf[0].schema_json, "ztf", "full").json
    twice = json.loads(extended(once, "ztf", "full").json)
    fastavro.parse_schema(twice)
    assert [f["name"] for f in twice["fields"][-2:]] == ["rayfinch_ingested_at_2", "rayfinch_scores_2"]
    assert len(set(records(twice))) == len(records(twice))


@pytest.mark.parametrize("writer", ['"string"', '{"type": "array", "items": "int"}', "not JSON"])
def test_what_is_no_record_is_refused(writer):
    with pytest.raises(ValueError, match="writer schema of ztf is not"):
        extended(writer, "ztf", "full")


def test_a_reference_to_nothing_is_refused():
    writer = json.dumps({"type": "record", "name": "a", "fields": [{"name": "x", "type": "b"}]})
    with pytest.raises(ValueError, match="refers to 'b'"):
        extended(writer, "ztf", "full")


def test_an_id_is_the_digest_of_its_schema(ztf):
    one, two = (extended(ztf[0].schema_json, "ztf", packet) for packet in ("full", "no-cutouts"))
    assert one == extended(ztf[0].schema_json, "ztf", "full")
    assert len({one.id, two.id, slim().id, slim((("candid", "long"),)).id}) == 4
    assert all(len(s.id) == 16 and int(s.id, 16) for s in (one, two))
