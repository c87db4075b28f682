"""The frames that packets travel in: Avro object containers, and Confluent's wire format.

Containers: https://avro.apache.org/docs/1.12.0/specification/#object-container-files. One packet holds one
datum. Bytes in, bytes out: nothing here knows what a datum means.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import lru_cache

from broker.packets.survey import Datum, PacketError, SchemaSource, WriterSchema

MAGIC = b"Obj\x01"
SYNC = 16
MAX_PACKET = 16 << 20  # bytes, of the packet and of its inflated block

# Headers seen lately, newest first, without their sync marker (random in each file). A stream has one or two,
# and comparing bytes costs a tenth of parsing them.
_seen: list[tuple[bytes, WriterSchema, str]] = []
_SEEN_MAX = 16


def split(packet: bytes, schemas: SchemaSource | None) -> Datum:
    """Take the datum out of an Avro container or of Confluent's wire format. Raises PacketError."""
    if len(packet) > MAX_PACKET:
        raise PacketError(f"the packet has {len(packet):,} bytes, more than the {MAX_PACKET:,} allowed")
    if packet.startswith(MAGIC):
        return _container(packet)
    if not packet:
        raise PacketError("the packet is empty")
    if packet[0] == 0 and len(packet) > 5:
        return _wire(packet, schemas)
    raise PacketError(
        f"neither an Avro container nor Confluent's wire format: it starts with {bytes(packet[:5]).hex(' ')}"
    )


def _wire(packet: bytes, schemas: SchemaSource | None) -> Datum:
    schema_id = int.from_bytes(packet[1:5], "big")
    if schemas is None:
        raise PacketError(
            f"the packet names schema {schema_id}: give a registry or a folder of ID.avsc files (--schemas)"
        )
    return Datum(_writer_schema(schemas.schema(schema_id)), packet, 5, len(packet))


def _container(packet: bytes) -> Datum:
    schema, codec, at = _header(packet)
    sync = packet[at : at + SYNC]
    count, at = read_long(packet, at + SYNC)
    size, at = read_long(packet, at)
    if count != 1:
        raise PacketError(f"the container's first block holds {count} alerts; a packet holds one")
    end = at + size
    if size < 0 or packet[end:] != sync:
        if packet[end : end + SYNC] == sync and size >= 0:
            raise PacketError("the container holds more than one block; a packet holds one alert")
        raise PacketError("the container is cut short, or its sync marker is damaged")
    if codec == "null":
        return Datum(schema, packet, at, end)
    body = _inflate(packet[at:end])
    return Datum(schema, body, 0, len(body))


def _header(packet: bytes) -> tuple[WriterSchema, str, int]:
    """Return the writer schema, the codec and where the sync marker starts."""
    for i, (head, schema, codec) in enumerate(_seen):
        if packet.startswith(head):
            if i:
                _seen.insert(0, _seen.pop(i))
            return schema, codec, len(head)
    meta, at = _metadata(packet)
    if "avro.schema" not in meta:
        raise PacketError("the container has no schema in its header")
    codec = meta.get("avro.codec", b"null").decode("ascii", "replace")
    if codec not in ("null", "deflate"):
        raise PacketError(f"the container is compressed by {codec!r}; null and deflate are read")
    try:
        schema = _writer_schema(meta["avro.schema"].decode())
    except UnicodeDecodeError as error:
        raise PacketError(f"the container's schema is not UTF-8: {error}") from None
    _seen.insert(0, (packet[:at], schema, codec))
    del _seen[_SEEN_MAX:]
    return schema, codec, at


@lru_cache(maxsize=256)
def _writer_schema(json: str) -> WriterSchema:
    return WriterSchema(json)


def _metadata(packet: bytes) -> tuple[dict[str, bytes], int]:
    """Read the header's map of metadata; return it and where it ends."""
    meta: dict[str, bytes] = {}
    at = len(MAGIC)
    while True:
        count, at = read_long(packet, at)
        if count == 0:
            return meta, at
        if count < 0:  # a block that tells its size in bytes, too
            count, at = -count, read_long(packet, at)[1]
        if count > len(packet):
            raise PacketError("the container's header is damaged")
        for _ in range(count):
            key, at = _read_bytes(packet, at)
            value, at = _read_bytes(packet, at)
            meta[key.decode("utf-8", "replace")] = value


def _inflate(block: bytes) -> bytes:
    inflater = zlib.decompressobj(-15)
    try:
        body = inflater.decompress(block, MAX_PACKET)
    except zlib.error as error:
        raise PacketError(f"the container's deflated block is damaged: {error}") from None
    if inflater.unconsumed_tail or not inflater.eof:
        raise PacketError(f"the container's block is cut short or inflates to more than {MAX_PACKET:,} bytes")
    return body


def join(schema_json: bytes, bodies: Iterable[bytes], count: int) -> bytes:
    """Make one uncompressed container of `count` data of one schema. `bodies` may come in any pieces."""
    payload = b"".join(bodies)
    sync = b"rayfinch rayfinc"
    return b"".join(
        [
            MAGIC,
            long(2),
            long(11) + b"avro.schema" + long(len(schema_json)),
            schema_json,
            long(10) + b"avro.codec" + long(4) + b"null",
            long(0) + sync,
            long(count) + long(len(payload)),
            payload,
            sync,
        ]
    )


def long(n: int) -> bytes:
    """Encode an Avro long: zigzag, 7 bits a byte, lowest first."""
    n = n << 1 if n >= 0 else ~(n << 1)
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def read_long(data: bytes, at: int) -> tuple[int, int]:
    """Decode the Avro long at `at`; return it and where it ends. Raises PacketError."""
    n = shift = 0
    while True:
        try:
            byte = data[at]
        except IndexError:
            raise PacketError("the container is cut short") from None
        n |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return (n >> 1) ^ -(n & 1), at
        shift += 7
        if shift > 63:
            raise PacketError("the container's header is damaged: a number of more than ten bytes")


def _read_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = read_long(data, at)
    if size < 0 or at + size > len(data):
        raise PacketError("the container's header is cut short")
    return data[at : at + size], at + size
