"""Mutations of packets: seeded, pure, and each a function with a name that a report can tell.

Blind ones know nothing of what they change; the others know the datum's leaves, its frame, its schema or
its stamps. `mutate(base, seed)` draws one. Beyond these, a message may lack its value or wear odd headers
(`dress`), as Kafka allows.
"""

from __future__ import annotations

import gzip
import json
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from broker.packets.container import long, read_long
from rayfinch.fuzz.leaves import Leaf
from rayfinch.fuzz.packet import Base, Edit, container, wire

Mutation = Callable[[Base, int, random.Random], bytes | None]

EXTREMES = (0, -1, 1, 127, -(2**31), 2**31, 2**31 - 1, 2**32, 2**53 + 1, -(2**63), 2**63 - 1, 10**18)
LENGTHS = (0, -1, 1, 2**15, 2**24, 2**31 - 1, 2**31, 2**40, 2**62, -(2**63), 2**63 - 1)
_NAN = struct.unpack("<d", b"\x01\x00\x00\x00\x00\x00\xf0\x7f")[0]
FLOATS = (
    float("nan"),
    _NAN,
    float("inf"),
    -float("inf"),
    0.0,
    -0.0,
    1e308,
    -1e308,
    5e-324,
    1e38,
    -999.0,
    361.0,
)
# Varints that are none: of eleven bytes, of ten with bits too many, one that never ends.
OVERLONG = (b"\x80" * 10 + b"\0", b"\xff" * 9 + b"\x7f", b"\xff" * 64, b"\x80\x80\x80\0")
TEXTS = (
    b"",
    b"\0",
    b"\xff\xfe\xfd",
    b"\xed\xa0\x80",
    b"'; drop table objects; --",
    b"\r\n" * 50,
    b"x" * 100_000,
)
WIRE_IDS = (0, 1, 700, 704, 800, 899, 900, 1000, 1100, 9999, 2**31, 2**32 - 1)


@dataclass(frozen=True)
class Mutant:
    """A mutated message. `name` says what was done; `headers` and `value` are Kafka's (None: no value)."""

    name: str
    value: bytes | None
    headers: list[tuple[str, bytes]]


def mutate(base: Base, alert_id: int, seed: int | str) -> Mutant:
    """The mutation that `seed` draws, of a packet with this id. The same for the same arguments."""
    rng = random.Random(seed)
    name = rng.choice(sorted(MUTATIONS))
    value = MUTATIONS[name](base, alert_id, rng)
    headers = [("\0", rng.randbytes(50)), ("schema", b"")] if rng.random() < 0.05 else []
    return Mutant(name, value, headers)


# -- blind, on the packet


def bit(base: Base, alert_id: int, rng: random.Random) -> bytes:
    return _flip(_whole(base, alert_id), 1, rng)


def bits(base: Base, alert_id: int, rng: random.Random) -> bytes:
    return _flip(_whole(base, alert_id), rng.randrange(2, 65), rng)


def datum_bit(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """In front of the stamps, where every bit means something."""
    datum = base.edited([], alert_id)
    return base.framed(_flip(datum[:3000], rng.randrange(1, 4), rng) + datum[3000:])


def truncated(base: Base, alert_id: int, rng: random.Random) -> bytes:
    packet = _whole(base, alert_id)
    return packet[: rng.randrange(len(packet))]


def truncated_datum(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """Its frame is whole."""
    datum = base.edited([], alert_id)
    return base.framed(datum[: rng.randrange(len(datum))])


def extended(base: Base, alert_id: int, rng: random.Random) -> bytes:
    return _whole(base, alert_id) + rng.randbytes(rng.choice((1, 4, 16, 1000)))


def extended_datum(base: Base, alert_id: int, rng: random.Random) -> bytes:
    return base.framed(base.edited([], alert_id) + rng.randbytes(rng.choice((1, 4, 16, 1000))))


def overwritten(base: Base, alert_id: int, rng: random.Random) -> bytes:
    packet = _whole(base, alert_id)
    at = rng.randrange(len(packet))
    new = rng.randbytes(rng.randrange(1, 200))
    return packet[:at] + new + packet[at + len(new) :]


def inserted(base: Base, alert_id: int, rng: random.Random) -> bytes:
    packet = _whole(base, alert_id)
    at = rng.randrange(len(packet))
    return packet[:at] + rng.randbytes(rng.randrange(1, 20)) + packet[at:]


def inserted_datum(base: Base, alert_id: int, rng: random.Random) -> bytes:
    datum = base.edited([], alert_id)
    at = rng.randrange(min(3000, len(datum)))
    return base.framed(datum[:at] + rng.choice((*OVERLONG, rng.randbytes(8))) + datum[at:])


def deleted(base: Base, alert_id: int, rng: random.Random) -> bytes:
    packet = _whole(base, alert_id)
    at = rng.randrange(len(packet))
    return packet[:at] + packet[at + rng.randrange(1, 500) :]


def repeated(base: Base, alert_id: int, rng: random.Random) -> bytes:
    return _whole(base, alert_id) * rng.randrange(2, 4)


def noise(base: Base, alert_id: int, rng: random.Random) -> bytes:
    start = rng.choice((b"", b"Obj\x01", b"\0\0\0\x03\x84", b"\0"))
    return start + rng.randbytes(rng.randrange(1, 5000))


def nothing(base: Base, alert_id: int, rng: random.Random) -> bytes | None:
    return rng.choice((None, b"", b"\0", b"\0\0\0\x03\x84", b"Obj\x01", b"\0" * 1000))


# -- the datum's leaves


def number(base: Base, alert_id: int, rng: random.Random) -> bytes:
    leaf = _one(base, ("int", "long", "enum"), rng)
    return _edit(base, alert_id, leaf, long(rng.choice(EXTREMES)))


def overlong(base: Base, alert_id: int, rng: random.Random) -> bytes:
    leaf = _one(base, ("int", "long", "length", "branch", "count"), rng)
    return _edit(base, alert_id, leaf, rng.choice(OVERLONG))


def real(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """A float or double that a packet should not have, but may."""
    edits = []
    for _ in range(rng.choice((1, 1, 1, 20))):
        leaf = _one(base, ("float", "double"), rng)
        value = rng.choice(FLOATS)
        if leaf.kind == "float":
            new = struct.pack("<f", max(-3.4e38, min(3.4e38, value)) if abs(value) > 3.4e38 else value)
        else:
            new = struct.pack("<d", value)
        edits.append((leaf.start, leaf.end, new))
    return base.framed(base.edited(edits, alert_id))


def length(base: Base, alert_id: int, rng: random.Random) -> bytes:
    return _edit(base, alert_id, _one(base, ("length",), rng), long(rng.choice(LENGTHS)))


def length_by_a_little(base: Base, alert_id: int, rng: random.Random) -> bytes:
    leaf = _one(base, ("length",), rng)
    true = leaf.reach - leaf.end
    return _edit(base, alert_id, leaf, long(true + rng.choice((-2, -1, 1, 2, 100))))


def branch(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """A union's branch: the other one, or one that there is not."""
    new = long(rng.choice((0, 1, 2, 63, 64, -1, -64, 2**31, 2**63 - 1)))
    return _edit(base, alert_id, _one(base, ("branch",), rng), new)


def count(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """An array's count: too many, too few, or negative, which announces a size in bytes."""
    new = long(rng.choice(LENGTHS))
    if rng.random() < 0.3:
        new = long(-rng.choice((1, 5, 2**31, 2**63))) + long(rng.choice(LENGTHS))
    return _edit(base, alert_id, _one(base, ("count",), rng), new)


def blocked(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """Well-formed, but as few writers do it: an array's block with its size in bytes (right or wrong)."""
    leaf = _one(base, ("count",), rng)
    items, _ = read_long(base.datum, leaf.start)
    size = leaf.reach - leaf.end if leaf.reach else 0
    return _edit(base, alert_id, leaf, long(-abs(items or 1)) + long(size + rng.choice((0, 0, 1, -5))))


def huge_array(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """An array with very many items, all of them there."""
    full = [leaf for leaf in base.leaves if leaf.kind == "count" and leaf.reach]
    if not full:
        return count(base, alert_id, rng)
    leaf = rng.choice(full)
    items = base.datum[leaf.end : leaf.reach]
    times = min(rng.choice((10, 1000, 100_000)), (4 << 20) // max(len(items), 1))
    block = base.datum[leaf.start : leaf.end] + items
    return base.framed(base.edited([(leaf.start, leaf.reach, block * max(times, 1))], alert_id))


def text(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """A string of another length and kind: not UTF-8, empty, very long."""
    return _replace(base, alert_id, "string", rng.choice(TEXTS), rng)


def several(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """Several leaves at once."""
    edits: list[Edit] = []
    for leaf in rng.choices(base.leaves, k=rng.randrange(2, 10)):
        if leaf.kind in ("int", "long", "enum", "length", "branch", "count"):
            edits.append((leaf.start, leaf.end, long(rng.choice(EXTREMES + LENGTHS))))
        else:
            edits.append((leaf.start, leaf.end, rng.randbytes(leaf.end - leaf.start)))
    return base.framed(base.edited(edits, alert_id))


# -- stamps


def stamp(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """A stamp that is none, or half of one, or damaged inside."""
    held = _held(base, "bytes", rng)
    old = base.datum[held[1].start : held[1].end] if held else b""
    choices = [b"", b"x", rng.randbytes(500), old[: len(old) // 2], old[:12] + rng.randbytes(300), old * 2]
    choices += [gzip.compress(b"", mtime=0), gzip.compress(rng.randbytes(2880), mtime=0)]
    choices += [_flip(old, 8, rng)] * 3 if old else []
    return _replace(base, alert_id, "bytes", rng.choice(choices), rng, held)


def stamp_bomb(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """A stamp that unpacks to very much."""
    return _replace(base, alert_id, "bytes", rng.choice(_bombs()), rng)


def fits_header(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """A FITS header that promises what is not there."""
    cards = {
        "SIMPLE": "T",
        "BITPIX": rng.choice(("-32", "8", "16", "0", "-64", "7", "1e9", "'x'", "")),
        "NAXIS": rng.choice(("2", "2", "2", "0", "999", "-1", "3")),
        "NAXIS1": rng.choice(("63", "0", "-63", "1000000000", "63.5", "9" * 60)),
        "NAXIS2": rng.choice(("63", "1", "1000000000", "0")),
        "BZERO": rng.choice(("0", "1E400", "NaN")),
        "BSCALE": rng.choice(("1", "0", "1E400", "'a'")),
    }
    header = b"".join(f"{key:<8}= {value:>20}".ljust(80).encode()[:80] for key, value in cards.items())
    if rng.random() < 0.8:
        header += b"END".ljust(80)
    image = header.ljust(2880) + rng.randbytes(rng.choice((0, 100, 2880 * 6)))
    new = image if rng.random() < 0.5 else gzip.compress(image, 1, mtime=0)
    return _replace(base, alert_id, "bytes", new, rng)


# -- frames and schemas


def frame(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """A container that lies about what it holds."""
    datum, schema = base.edited([], alert_id), base.schema.encode()
    lies: list[dict[str, Any]] = [
        {"codec": rng.choice((b"snappy", b"zstandard", b"", b"\xff", b"DEFLATE"))},
        {"count": rng.choice((0, 2, -1, 2**62, -(2**63)))},
        {"size": rng.choice((0, -1, len(datum) - 1, len(datum) + 1, 2**31, 2**62))},
        {"tail": rng.choice((b"", b"x" * 16, b"x" * 15))},
        {"more": {b"avro.codec": b"deflate"}},
        {"more": {rng.randbytes(5): rng.randbytes(100) for _ in range(200)}},
        {"codec": b"deflate"},
    ]
    return container(schema, datum, **rng.choice(lies))


def metadata(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """The header's map damaged: its count, the lengths in it."""
    packet = container(base.schema.encode(), base.edited([], alert_id))
    at = rng.choice((4, 5, 17, 18, 19))
    return packet[:at] + rng.choice((long(rng.choice(LENGTHS)), *OVERLONG)) + packet[at + 1 :]


def zip_bomb(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """A deflated block that is small, and unpacks to 8 to 256 MiB."""
    return container(base.schema.encode(), _zeros(rng.choice((8, 32, 256))), codec=b"raw").replace(
        b"\x06raw", b"\x0edeflate", 1
    )


def damaged_schema(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """The schema's text with a few bytes changed."""
    return container(_flip(base.schema.encode(), rng.randrange(1, 5), rng), base.edited([], alert_id))


def altered_schema(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """A valid schema that says something else: a field of another type or name, one gone, two exchanged."""
    schema = json.loads(base.schema)
    records = [node for node in _records(schema) if node["fields"]]
    fields = rng.choice(records)["fields"]
    field = rng.choice(fields)
    what = rng.randrange(6)
    if what == 0:
        field["type"] = rng.choice(("null", "int", "long", "float", "double", "string", "bytes", "boolean"))
    elif what == 1:
        field["name"] = rng.choice(("candid", "x" * 300, "", "1", "a b", "rayfinch_guard", "source", "é"))
    elif what == 2:
        fields.remove(field)
    elif what == 3:
        rng.shuffle(fields)
    elif what == 4:
        field["type"] = {"type": "array", "items": field["type"]}
    else:
        fields.append({"name": field["name"], "type": "null"})
    return container(json.dumps(schema).encode(), base.edited([], alert_id))


def foreign_schema(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """A schema of something else altogether, or of nothing."""
    return container(rng.choice(_schemas()), rng.choice((b"", b"\0" * 200, base.edited([], alert_id))))


def schema_id(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """Confluent's framing with an id that is another's, or nobody's."""
    return wire(rng.choice(WIRE_IDS), base.edited([], alert_id))


def other_framing(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """A container in Confluent's framing, the framing's first byte another, a bare datum, JSON."""
    datum = base.edited([], alert_id)
    packet = container(base.schema.encode(), datum)
    return rng.choice(
        (
            wire(900, packet),
            b"\x01" + wire(900, datum)[1:],
            datum,
            b'{"candid": 1}',
            b"\xc3\x01" + rng.randbytes(8) + datum,
            gzip.compress(packet, 1, mtime=0),
            packet[4:],
        )
    )


def healthy(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """Nothing changed but the id; or deflated, which is as good."""
    datum = base.edited([], alert_id)
    return (
        base.framed(datum) if rng.random() < 0.5 else container(base.schema.encode(), datum, codec=b"deflate")
    )


MUTATIONS: dict[str, Mutation] = {
    function.__name__: function
    for function in (
        bit,
        bits,
        datum_bit,
        truncated,
        truncated_datum,
        extended,
        extended_datum,
        overwritten,
        inserted,
        inserted_datum,
        deleted,
        repeated,
        noise,
        nothing,
        number,
        overlong,
        real,
        length,
        length_by_a_little,
        branch,
        count,
        blocked,
        huge_array,
        text,
        several,
        stamp,
        stamp_bomb,
        fits_header,
        frame,
        metadata,
        zip_bomb,
        damaged_schema,
        altered_schema,
        foreign_schema,
        schema_id,
        other_framing,
        healthy,
    )
}


def _whole(base: Base, alert_id: int) -> bytes:
    return base.framed(base.edited([], alert_id))


def _flip(data: bytes, n: int, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(n):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _one(base: Base, kinds: Sequence[str], rng: random.Random) -> Leaf:
    """A leaf of these kinds; half the time one of the record's own, which are few beside the history's."""
    found = [leaf for leaf in base.leaves if leaf.kind in kinds] or list(base.leaves)
    own = [leaf for leaf in found if leaf.path[0] in ("candidate", "diaSource") or len(leaf.path) == 1]
    return rng.choice(own if own and rng.random() < 0.5 else found)


def _edit(base: Base, alert_id: int, leaf: Leaf, new: bytes) -> bytes:
    return base.framed(base.edited([(leaf.start, leaf.end, new)], alert_id))


def _held(base: Base, kind: str, rng: random.Random) -> tuple[Leaf, Leaf] | None:
    """A value of strings or bytes with the length in front of it; None where the base has none."""
    pairs = [(a, b) for a, b in zip(base.leaves, base.leaves[1:], strict=False) if b.kind == kind]
    return rng.choice(pairs) if pairs else None


def _replace(
    base: Base,
    alert_id: int,
    kind: str,
    new: bytes,
    rng: random.Random,
    held: tuple[Leaf, Leaf] | None = None,
) -> bytes:
    held = held or _held(base, kind, rng)
    if held is None:
        return several(base, alert_id, rng)
    edit = (held[0].start, held[1].end, long(len(new)) + new)
    return base.framed(base.edited([edit], alert_id))


def _records(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, list):
        return [found for branch in node for found in _records(branch)]
    if not isinstance(node, dict):
        return []
    inner = [found for key in ("type", "items", "values") for found in _records(node.get(key))]
    if node.get("type") == "record":
        return [node, *(found for f in node["fields"] for found in _records(f["type"]))]
    return inner


@cache
def _zeros(mib: int) -> bytes:
    """So many MiB of zeros, deflated."""
    import zlib

    packer = zlib.compressobj(9, wbits=-15)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(mib)) + packer.flush()


@cache
def _bombs() -> tuple[bytes, ...]:
    """Gzip files that unpack to 256 MiB, to a FITS header and 64 MiB, to another gzip file, and on and on."""
    header = b"".join(
        f"{key:<8}= {value:>20}".ljust(80).encode()
        for key, value in (
            ("SIMPLE", "T"),
            ("BITPIX", "-32"),
            ("NAXIS", "2"),
            ("NAXIS1", "4096"),
            ("NAXIS2", "4096"),
        )
    ) + b"END".ljust(80)
    zeros = gzip.compress(bytes(256 << 20), 1, mtime=0)
    image = gzip.compress(header.ljust(2880) + bytes(64 << 20), 1, mtime=0)
    return zeros, image, gzip.compress(zeros, mtime=0), gzip.compress(b"", mtime=0) * 5000


@cache
def _schemas() -> tuple[bytes, ...]:
    """Schemas of other things, and such as no reader should follow."""

    def record(*fields: Any) -> Any:
        return {
            "type": "record",
            "name": "alert",
            "fields": [{"name": f"f{i}", "type": t} for i, t in enumerate(fields)],
        }

    deep: Any = "long"
    for _ in range(400):
        deep = {"type": "array", "items": deep}
    twice: Any = "long"
    for i in range(24):
        twice = {"type": "record", "name": f"r{i}", "fields": [{"name": n, "type": twice} for n in "ab"][:2]}
        twice["fields"][1]["type"] = twice["fields"][0]["type"] if i == 0 else f"r{i - 1}"
    list_of_itself = {
        "type": "record",
        "name": "alert",
        "fields": [{"name": "next", "type": ["null", "alert"]}, {"name": "candid", "type": "long"}],
    }
    itself = {"type": "record", "name": "alert", "fields": [{"name": "me", "type": "alert"}]}
    schemas = [
        record("string", "long"),
        record({"type": "array", "items": "null"}, "long"),
        record({"type": "array", "items": {"type": "fixed", "name": "none", "size": 0}}),
        record({"type": "fixed", "name": "huge", "size": 2**40}),
        record({"type": "fixed", "name": "less", "size": -1}),
        record(["null", "int", "string", "double"] * 100),
        record({"type": "map", "values": "string"}),
        record({"type": "bytes", "logicalType": "decimal", "precision": 10**6, "scale": 3}),
        record({"type": "enum", "name": "e", "symbols": []}),
        record(deep),
        record(*["long"] * 5000),
        record("no.such.type"),
        record([]),
        record([["null", "long"], "string"]),
        {"type": "record", "name": "outer", "fields": [{"name": "candidate", "type": twice}]},
        list_of_itself,
        itself,
        "long",
        ["null", "long"],
        [],
        {},
        {"type": "record"},
        {"type": "record", "name": "alert", "fields": []},
        {"type": "error", "name": "alert", "fields": [{"name": "candid", "type": "long"}]},
        7,
        None,
    ]
    written = [json.dumps(schema).encode() for schema in schemas]
    return (*written, b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"type":' * 5000, b" " * 100_000)
