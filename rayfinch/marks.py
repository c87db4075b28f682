"""Where in a packet's bytes its identities and times stand: a walk through an Avro datum, decoding no more.

Avro writes a record as its fields in order, without names or lengths, so that a field's position is only
known after all before it were stepped over. The walk is compiled once a schema, to closures.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["id", "object", "time"]

# What makes an alert or an object itself (ZTF; LSST 7.0 to 11.0): int64 ids, names, and times in days.
FIELDS: dict[str, Kind] = {
    **dict.fromkeys(("candid", "alertId", "diaSourceId", "parentDiaSourceId", "diaObjectId"), "id"),
    **dict.fromkeys(("ssObjectId", "diaForcedSourceId"), "id"),
    "objectId": "object",
    **dict.fromkeys(
        ("jd", "jdstarthist", "jdendhist", "midpointMjdTai", "midPointTai", "radecMjdTai"), "time"
    ),
    **dict.fromkeys(("firstDiaSourceMjdTai", "lastDiaSourceMjdTai", "validityStartMjdTai"), "time"),
    **dict.fromkeys(("timeProcessedMjdTai", "timeWithdrawnMjdTai", "validityEndMjdTai"), "time"),
}
_AVRO_TYPE = {"id": ("int", "long"), "object": ("string",), "time": ("double",)}

MAGIC = b"Obj\x01"
_MAX_INFLATED = 64 << 20


class UnreadablePacket(ValueError):
    """These bytes are no packet whose identities can be found; the sentence says why."""


@dataclass(frozen=True)
class Mark:
    """One field of the datum: its bytes are datum[start:end]."""

    field: str
    kind: Kind
    start: int
    end: int


@dataclass(frozen=True)
class Frame:
    """One packet taken apart: what stands around its datum, so that another datum can be framed alike."""

    datum: bytes
    marks: tuple[Mark, ...]
    head: bytes  # before the block (container) or the datum (wire)
    sync: bytes  # the container's sync marker; empty on the wire
    deflate: bool = False

    def with_datum(self, datum: bytes) -> bytes:
        if not self.sync:
            return self.head + datum
        if self.deflate:
            packer = zlib.compressobj(wbits=-15)
            datum = packer.compress(datum) + packer.flush()
        return b"".join((self.head, b"\x02", varint(len(datum)), datum, self.sync))


Walk = Callable[[bytes, int, list[Mark]], int]


class Framer:
    """Takes packets apart, remembering every schema it has met.

    `schemas` is a folder of ID.avsc for packets in Confluent's framing; without it those are unreadable.
    """

    def __init__(self, schemas: Path | None = None) -> None:
        self.schemas = schemas
        self._walks: dict[bytes | int, Walk] = {}

    def frame(self, packet: bytes) -> Frame:
        """Raises UnreadablePacket."""
        try:
            return self._container(packet) if packet.startswith(MAGIC) else self._wire(packet)
        except (IndexError, KeyError, RecursionError, UnicodeDecodeError, zlib.error) as error:
            raise UnreadablePacket(
                f"its bytes do not fit its schema ({type(error).__name__}: {error})"
            ) from error

    def _container(self, packet: bytes) -> Frame:
        at, meta = 4, {}
        count, at = read_varint(packet, at)
        while count:
            if count < 0:
                count, at = -count, read_varint(packet, at)[1]
            for _ in range(count):
                key, at = _read_bytes(packet, at)
                meta[key.decode()], at = _read_bytes(packet, at)
            count, at = read_varint(packet, at)
        head, sync, at = packet[: at + 16], packet[at : at + 16], at + 16
        codec = meta.get("avro.codec", b"null").decode()
        if codec not in ("null", "deflate"):
            raise UnreadablePacket(f"its container is packed with {codec!r}, not null or deflate")
        count, at = read_varint(packet, at)
        datum, at = _read_bytes(packet, at)
        if count != 1 or packet[at:] != sync:
            raise UnreadablePacket("its container does not hold exactly one alert")
        if codec == "deflate":
            unpacker = zlib.decompressobj(wbits=-15)
            datum = unpacker.decompress(datum, _MAX_INFLATED)
            if not unpacker.eof:
                raise UnreadablePacket("its container is truncated, or unpacks to more than 64 MiB")
        schema = meta["avro.schema"]
        return Frame(datum, self._marks(schema, schema, datum), head, sync, codec == "deflate")

    def _wire(self, packet: bytes) -> Frame:
        if packet[:1] != b"\0" or len(packet) < 6:
            raise UnreadablePacket("it is neither an Avro container nor in Confluent's framing")
        if self.schemas is None:
            raise UnreadablePacket("it is in Confluent's framing: name the folder of its schemas (ID.avsc)")
        number = int.from_bytes(packet[1:5], "big")
        path = self.schemas / f"{number}.avsc"
        if number not in self._walks and not path.is_file():
            raise UnreadablePacket(f"its schema {number} is not in the folder {self.schemas}")
        schema = b"" if number in self._walks else path.read_bytes()
        return Frame(packet[5:], self._marks(number, schema, packet[5:]), packet[:5], b"")

    def _marks(self, key: bytes | int, schema: bytes, datum: bytes) -> tuple[Mark, ...]:
        if key not in self._walks:
            self._walks[key] = _compile(json.loads(schema), {}, "", "")
        marks: list[Mark] = []
        if (end := self._walks[key](datum, 0, marks)) != len(datum):
            raise UnreadablePacket(
                f"its bytes do not fit its schema ({len(datum)} bytes, of which {end} belong)"
            )
        return tuple(marks)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The zigzag integer that starts at `at`, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7


def varint(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    length, at = read_varint(data, at)
    if length < 0 or at + length > len(data):
        raise IndexError("a length runs past the end")
    return data[at : at + length], at + length


def _skip_varint(data: bytes, at: int, marks: list[Mark]) -> int:
    while data[at] > 0x7F:
        at += 1
    return at + 1


def _skip_bytes(data: bytes, at: int, marks: list[Mark]) -> int:
    length, at = read_varint(data, at)
    if length < 0:
        raise IndexError("a negative length")
    return at + length


def _fixed(size: int) -> Walk:
    return lambda data, at, marks: at + size


_PRIMITIVE: dict[str, Walk] = {
    "null": _fixed(0),
    "boolean": _fixed(1),
    "float": _fixed(4),
    "double": _fixed(8),
    "int": _skip_varint,
    "long": _skip_varint,
    "string": _skip_bytes,
    "bytes": _skip_bytes,
}


def _compile(schema: Any, named: dict[str, Walk], space: str, field: str) -> Walk:
    """The walk over one value of `schema`; `field` is the name of the record's field that it fills."""
    if isinstance(schema, list):
        return _union([_compile(branch, named, space, field) for branch in schema])
    if isinstance(schema, str):
        if schema not in _PRIMITIVE:
            # A named type may hold itself: it is looked up when it is walked.
            full = schema if "." in schema or not space else f"{space}.{schema}"
            return lambda data, at, marks: (named.get(full) or named[schema])(data, at, marks)
        kind = FIELDS.get(field)
        return (
            _marking(field, kind, _PRIMITIVE[schema])
            if kind and schema in _AVRO_TYPE[kind]
            else _PRIMITIVE[schema]
        )
    what = schema["type"]
    if what in ("array", "map"):
        item = _compile(schema["items" if what == "array" else "values"], named, space, "")
        return _blocks(item, keys=what == "map")
    if what in ("record", "error", "enum", "fixed"):
        name = schema["name"]
        space = name.rpartition(".")[0] or schema.get("namespace", space)
        full = name if "." in name or not space else f"{space}.{name}"
        if what == "record" or what == "error":
            walks: list[Walk] = []
            named[full] = _record(walks)
            walks += [_compile(f["type"], named, space, f["name"]) for f in schema["fields"]]
        else:
            named[full] = _skip_varint if what == "enum" else _fixed(schema["size"])
        return named[full]
    return _compile(what, named, space, field)


def _marking(field: str, kind: Kind, step: Walk) -> Walk:
    def walk(data: bytes, at: int, marks: list[Mark]) -> int:
        end = step(data, at, marks)
        marks.append(Mark(field, kind, at, end))
        return end

    return walk


def _union(branches: list[Walk]) -> Walk:
    def walk(data: bytes, at: int, marks: list[Mark]) -> int:
        branch, at = data[at] >> 1, at + 1
        return branches[branch](data, at, marks)

    return walk


def _record(fields: list[Walk]) -> Walk:
    def walk(data: bytes, at: int, marks: list[Mark]) -> int:
        for field in fields:
            at = field(data, at, marks)
        return at

    return walk


def _blocks(item: Walk, keys: bool) -> Walk:
    def walk(data: bytes, at: int, marks: list[Mark]) -> int:
        count, at = read_varint(data, at)
        while count:
            if count < 0:
                count, at = -count, _skip_varint(data, at, marks)
            for _ in range(count):
                at = item(data, _skip_bytes(data, at, marks) if keys else at, marks)
            count, at = read_varint(data, at)
        return at

    return walk
