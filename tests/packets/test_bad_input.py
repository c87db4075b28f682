"""Bad packets become failures with their reasons; the packets beside them decode."""

from __future__ import annotations

import copy
import gzip
import io
import json
import random
import zlib

import fastavro
import pytest

from broker.packets import container, reference
from broker.packets.cutouts import MAX_STAMP
from broker.packets.decode import decode
from broker.packets.survey import survey
from tests.packets import made

ZTF = survey("ztf")


@pytest.fixture(scope="module")
def good(ztf_packets) -> list[bytes]:
    return [packet for name, packet in ztf_packets if "20200101" in name][:8]


@pytest.fixture(scope="module")
def written(shared) -> dict:
    return made.ztf_schema(shared / "data" / "ztf" / "schemas", "3.3")


def reason(good: list[bytes], bad: bytes, cutouts: bool = False) -> str:
    """Decode `bad` among good packets: they must all be there; return why it is not."""
    packets = [*good[:4], bad, *good[4:]]
    decoded = decode(ZTF, packets, cutouts=cutouts)
    assert decoded.index.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    names = [ZTF_ID(packet) for packet in good]
    assert decoded.alerts["alert_id"].to_pylist() == names
    (failure,) = decoded.failures
    assert failure.index == 4
    return failure.reason


def ZTF_ID(packet: bytes) -> int:
    return next(fastavro.reader(io.BytesIO(packet)))["candid"]


def with_body(packet: bytes, body: bytes) -> bytes:
    """The packet's container around another body."""
    datum = ZTF.split(packet, None)
    head = packet[: datum.start].removesuffix(container.long(datum.end - datum.start))
    return head + container.long(len(body)) + body + packet[datum.end :]


def test_an_empty_packet(good):
    assert reason(good, b"") == "the packet is empty"


@pytest.mark.parametrize(
    "junk", [b"\0", b"\0\0\0\0\1", b"hello, world", b"\x89PNG\r\n", b"Obj\x02" + bytes(99)]
)
def test_what_is_no_packet(good, junk):
    assert "neither an Avro container nor" in reason(good, junk)


@pytest.mark.parametrize("end", [4, 5, 40, 20_000, -20_000, -17, -16, -1])
def test_a_truncated_packet(good, end):
    assert "short" in reason(good, good[0][:end])


def test_a_damaged_sync_marker(good):
    assert "sync marker" in reason(good, good[0][:-1] + bytes([good[0][-1] ^ 1]))


def test_a_header_of_random_bytes(good):
    assert reason(good, b"Obj\x01" + random.Random(0).randbytes(3000))


def test_an_unknown_codec(good, written):
    packet = made.container(written, made.record(written)).replace(b"\x08null", b"\x08zstd", 1)
    assert "'zstd'" in reason(good, packet)


def test_two_alerts_in_one_packet(good, written):
    alert = made.record(written)
    assert "a packet holds one alert" in reason(good, made.container(written, alert, alert))


def test_a_schema_that_is_no_json(good):
    packet = good[0].replace(b'"type"', b'"typo"', 1)
    assert "its schema" in reason(good, packet)


def test_a_schema_of_another_kind_of_record(good):
    schema = {"type": "record", "name": "cat", "fields": [{"name": "name", "type": "string"}]}
    assert "candidate.jd" in reason(good, made.container(schema, {"name": "Tom"}))


@pytest.mark.parametrize("cut", [1, 100, 9_000, 30_000])
def test_a_datum_that_ends_too_soon(good, cut):
    body = ZTF.split(good[0], None).body
    assert reason(good, with_body(good[0], body[:-cut]))


def test_a_datum_that_ends_too_late(good):
    body = ZTF.split(good[0], None).body
    assert "4 bytes are left over" in reason(good, with_body(good[0], body + b"tail"))


def test_a_datum_with_a_byte_in_its_texts_changed(good):
    body = ZTF.split(good[0], None).body
    assert "utf-8" in reason(good, with_body(good[0], body.replace(b"ZTF (www", b"ZTF\xff(www", 1)))


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("ra", 400.0, "right ascension 400"),
        ("ra", float("nan"), "right ascension NaN"),
        ("dec", -90.5, "declination -90.5"),
        ("jd", float("nan"), "its time"),
        ("jd", float("inf"), "its time"),
        ("jd", 0.0, "its time"),
        ("jd", 1e300, "its time"),
        ("fid", 9, "filter"),
    ],
)
def test_absurd_values(good, written, field, value, why):
    alert = made.record(written)
    alert["candidate"][field] = value
    assert why in reason(good, made.container(written, alert))


def test_no_object_id(good, written):
    assert "no object id" in reason(good, made.container(written, made.record(written, objectId="")))


def test_a_field_of_another_type(good, written):
    schema = copy.deepcopy(written)
    next(f for f in schema["fields"] if f["name"] == "candid")["type"] = "string"
    assert reason(good, made.container(schema, made.record(schema, candid="twelve")))


def under(schema: dict, packet: bytes) -> bytes:
    """The packet's datum in a container that names another schema."""
    said = {key: value for key, value in schema.items() if not key.startswith("__")}  # fastavro's marks
    return container.join(json.dumps(said).encode(), [ZTF.split(packet, None).body], 1)


def limit(schema: dict) -> dict:
    candidate = next(f for f in schema["fields"] if f["name"] == "candidate")["type"]["fields"]
    return next(f for f in candidate if f["name"] == "diffmaglim")


def test_a_schema_that_no_consumer_can_parse_is_refused(good, written):
    """A default of another type: what we publish would bear it."""
    schema = copy.deepcopy(written)
    limit(schema)["type"] = "string"
    alert = made.record(schema)
    alert["candidate"]["diffmaglim"] = "twenty"
    del limit(schema)["default"]
    packet = made.container(schema, alert)
    limit(schema)["default"] = None
    assert "must match schema type" in reason(good, under(schema, packet))


def test_a_schema_that_is_not_the_packets_own_is_refused(good, written):
    """Though columns can be read by it to the end: their reader takes branch 2 of two for a number."""
    own, claimed = copy.deepcopy(written), copy.deepcopy(written)
    limit(own)["type"], limit(claimed)["type"] = ["null", "int", "float"], ["null", "float"]
    alert = made.record(own)
    alert["candidate"]["diffmaglim"] = 20.5
    assert "list index out of range" in reason(good, under(claimed, made.container(own, alert)))


@pytest.mark.parametrize(("kind", "value"), [("string", "twenty"), ("long", 2**60 + 1)])
def test_a_field_of_the_source_of_another_kind_harms_no_neighbour(good, written, kind, value):
    """It goes on under a second name; once it took the whole block with it, again and again."""
    schema = copy.deepcopy(written)
    limit(schema)["type"] = kind
    limit(schema).pop("default")
    alert = made.record(schema)
    alert["candidate"]["diffmaglim"] = value
    decoded = decode(ZTF, [*good, made.container(schema, alert)], cutouts=True)
    assert decoded.index.tolist() == [*range(len(good)), len(good)]
    source = decoded.alerts["source"].to_pylist()
    assert source[-1]["diffmaglim"] is None
    assert source[-1][f"diffmaglim@{'large_string' if kind == 'string' else 'int64'}"] == value
    alone = decode(ZTF, good).alerts["source"].to_pylist()
    assert [row["diffmaglim"] for row in source[:-1]] == [row["diffmaglim"] for row in alone]


def test_an_array_that_claims_a_trillion_points(good, written):
    body = ZTF.split(made.container(written, made.record(written)), None).body
    alert = made.record(written, prv_candidates=None)
    # an array that claims 2**40 items and has the bytes of one
    bare = ZTF.split(made.container(written, alert), None).body
    at = next(i for i in range(len(bare)) if bare[i] != body[i])
    huge = bare[:at] + b"\0" + container.long(2**40) + body[at + 2 :]
    assert reason(good, with_body(made.container(written, alert), huge))


def test_more_history_than_any_object_has(good, written):
    assert "100001 points" in reason(good, made.container(SLIGHT, slight(100_001)))


def slight(points: int) -> dict:
    """An alert of few fields (SLIGHT) and many points."""
    candidate = {"jd": 2460000.5, "fid": 1.0, "ra": 1.0, "dec": 1.0}
    history = [{"jd": 2459000.5, "fid": 1.0, "diffmaglim": 20.0}] * points
    return {"candid": 1, "objectId": "ZTF", "candidate": candidate, "prv_candidates": history}


def _slight(name: str, fields: str) -> dict:
    return {"type": "record", "name": name, "fields": [{"name": f, "type": "double"} for f in fields.split()]}


SLIGHT = {
    "type": "record",
    "name": "slight",
    "fields": [
        {"name": "candid", "type": "long"},
        {"name": "objectId", "type": "string"},
        {"name": "candidate", "type": _slight("candidate", "jd fid ra dec")},
        {"name": "prv_candidates", "type": {"type": "array", "items": _slight("p", "jd fid diffmaglim")}},
    ],
}


def test_a_schema_with_arrays_of_nothing(good, written):
    schema = copy.deepcopy(written)
    schema["fields"].append({"name": "void", "type": {"type": "array", "items": "null"}})
    packet = made.container(schema, made.record(schema, void=[None]))
    assert "arrays of nothing" in reason(good, packet)


def test_an_array_of_nulls_that_would_fill_the_memory(good, written):
    """A million nulls in a megabyte would be columns of four gigabytes."""
    schema = copy.deepcopy(written)
    wide = {
        "type": "record",
        "name": "wide",
        "fields": [{"name": f"f{i}", "type": "double"} for i in range(500)],
    }
    schema["fields"].append({"name": "void", "type": {"type": "array", "items": ["null", wide]}})
    body = ZTF.split(made.container(schema, made.record(schema, void=[])), None).body
    bomb = body[:-1] + container.long(1 << 20) + bytes((1 << 20) + 1)
    packet = container.join(json.dumps(schema).encode(), [bomb], 1)
    assert "may unfold to 4,0" in reason(good, packet)


def test_a_large_datum_is_read_by_columns_alone(good, written, monkeypatch):
    """As Python's objects a hundred thousand points take minutes and gigabytes."""
    monkeypatch.setattr(reference, "frame", None)
    schema = copy.deepcopy(SLIGHT)
    whole = made.container(schema, slight(50_000))
    assert "ends elsewhere" in reason(good, with_body(whole, ZTF.split(whole, None).body + b"tail"))
    decoded = decode(ZTF, [with_body(whole, ZTF.split(whole, None).body[:-1]), whole])
    assert decoded.index.tolist() == [1]
    assert "slow_packets" not in decoded.counts


def test_a_schema_that_unfolds_without_end(good):
    laughs = [{"type": "record", "name": "l0", "fields": [{"name": "f", "type": "int"}]}]
    for i in range(1, 40):
        pair = [{"name": "a", "type": laughs[-1]}, {"name": "b", "type": f"l{i - 1}"}]
        laughs.append({"type": "record", "name": f"l{i}", "fields": pair})
    packet = container.join(str(laughs[-1]).replace("'", '"').encode(), [b"\0"], 1)
    assert "types" in reason(good, packet)


def test_a_packet_bigger_than_any(good):
    assert "more than the" in reason(good, good[0] + bytes(16 << 20))


def test_a_deflated_block_that_inflates_without_end(good, written):
    bomb = zlib.compress(bytes(64 << 20), 9, wbits=-15)
    plain = container.join(json.dumps(written).encode(), [bomb], 1)
    packet = plain.replace(b"avro.codec\x08null", b"avro.codec\x0edeflate", 1)
    assert "inflates to more than" in reason(good, packet)


def with_stamp(written: dict, stamp: bytes) -> bytes:
    alert = made.record(written)
    alert["cutoutTemplate"] = {"fileName": "t.fits.gz", "stampData": stamp}
    return made.container(written, alert)


BOMB = gzip.compress(made.stamp(gzipped=False) + bytes(MAX_STAMP), mtime=0)


@pytest.mark.parametrize("cutouts", [True, False])
def test_a_zip_bomb_for_a_stamp(good, written, cutouts):
    why = reason(good, with_stamp(written, BOMB), cutouts)
    assert "cutout_template: it inflates to more than" in why if cutouts else "would inflate to 4," in why


def test_a_zip_bomb_that_lies_about_its_size(good, written):
    liar = BOMB[:-4] + (20160).to_bytes(4, "little")
    why = reason(good, with_stamp(written, liar), cutouts=True)
    assert why.startswith("cutout_template: it")


@pytest.mark.parametrize(
    "stamp",
    [b"no image at all", made.stamp()[:-100], made.stamp()[:40] + b"\xff" * 60 + made.stamp()[100:]],
    ids=["text", "cut short", "damaged"],
)
def test_a_stamp_that_is_no_image(good, written, stamp):
    assert reason(good, with_stamp(written, stamp), cutouts=True).startswith("cutout_template: ")


def test_many_bad_packets_among_good_ones(ztf_packets):
    """Every third body of a big block is mutated; the others are there, each under its own id."""
    packets = [packet for name, packet in ztf_packets if "20181128" in name][:90]
    names = [ZTF_ID(packet) for packet in packets]
    dice = random.Random(7)
    mixed = list(packets)
    for i in range(0, 90, 3):
        body = bytearray(ZTF.split(packets[i], None).body)
        at = dice.randrange(60, 1500)
        body[at : at + 4] = dice.randbytes(4)
        mixed[i] = with_body(packets[i], bytes(body))
    decoded = decode(ZTF, mixed, isolate=True, watchdog_s=6)
    found = dict(zip(decoded.index.tolist(), decoded.alerts["alert_id"].to_pylist(), strict=True))
    assert all(found[i] == names[i] for i in range(90) if i % 3)
    assert all(found[i] == names[i] for i in found)
    assert {f.index for f in decoded.failures} | set(found) == set(range(90))
    assert len(decoded.failures) > 10
