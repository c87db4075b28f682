"""Mutations of what a datum travels in: Avro's container, and Confluent's framing."""

from __future__ import annotations

import gzip
import random
import zlib
from functools import cache
from typing import Any

from broker.packets.container import long
from rayfinch.fuzz.packet import Base, container, wire
from rayfinch.fuzz.varints import LENGTHS, OVERLONG

WIRE_IDS = (0, 1, 700, 704, 800, 899, 900, 1000, 1100, 9999, 2**31, 2**32 - 1)


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


@cache
def _zeros(mib: int) -> bytes:
    """So many MiB of zeros, deflated."""
    packer = zlib.compressobj(9, wbits=-15)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(mib)) + packer.flush()
