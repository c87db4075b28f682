"""Mutations that know nothing of what they change."""

from __future__ import annotations

import random

from rayfinch.fuzz.packet import Base, container
from rayfinch.fuzz.varints import OVERLONG


def bit(base: Base, alert_id: int, rng: random.Random) -> bytes:
    return flip(base.packet(alert_id), 1, rng)


def bits(base: Base, alert_id: int, rng: random.Random) -> bytes:
    return flip(base.packet(alert_id), rng.randrange(2, 65), rng)


def datum_bit(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """In front of the stamps, where every bit means something."""
    datum = base.edited([], alert_id)
    return base.framed(flip(datum[:3000], rng.randrange(1, 4), rng) + datum[3000:])


def truncated(base: Base, alert_id: int, rng: random.Random) -> bytes:
    packet = base.packet(alert_id)
    return packet[: rng.randrange(len(packet))]


def truncated_datum(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """Its frame is whole."""
    datum = base.edited([], alert_id)
    return base.framed(datum[: rng.randrange(len(datum))])


def extended(base: Base, alert_id: int, rng: random.Random) -> bytes:
    return base.packet(alert_id) + rng.randbytes(rng.choice((1, 4, 16, 1000)))


def extended_datum(base: Base, alert_id: int, rng: random.Random) -> bytes:
    return base.framed(base.edited([], alert_id) + rng.randbytes(rng.choice((1, 4, 16, 1000))))


def overwritten(base: Base, alert_id: int, rng: random.Random) -> bytes:
    packet = base.packet(alert_id)
    at = rng.randrange(len(packet))
    new = rng.randbytes(rng.randrange(1, 200))
    return packet[:at] + new + packet[at + len(new) :]


def inserted(base: Base, alert_id: int, rng: random.Random) -> bytes:
    packet = base.packet(alert_id)
    at = rng.randrange(len(packet))
    return packet[:at] + rng.randbytes(rng.randrange(1, 20)) + packet[at:]


def inserted_datum(base: Base, alert_id: int, rng: random.Random) -> bytes:
    datum = base.edited([], alert_id)
    at = rng.randrange(min(3000, len(datum)))
    return base.framed(datum[:at] + rng.choice((*OVERLONG, rng.randbytes(8))) + datum[at:])


def deleted(base: Base, alert_id: int, rng: random.Random) -> bytes:
    packet = base.packet(alert_id)
    at = rng.randrange(len(packet))
    return packet[:at] + packet[at + rng.randrange(1, 500) :]


def repeated(base: Base, alert_id: int, rng: random.Random) -> bytes:
    return base.packet(alert_id) * rng.randrange(2, 4)


def noise(base: Base, alert_id: int, rng: random.Random) -> bytes:
    start = rng.choice((b"", b"Obj\x01", b"\0\0\0\x03\x84", b"\0"))
    return start + rng.randbytes(rng.randrange(1, 5000))


def nothing(base: Base, alert_id: int, rng: random.Random) -> bytes | None:
    return rng.choice((None, b"", b"\0", b"\0\0\0\x03\x84", b"Obj\x01", b"\0" * 1000))


def healthy(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """Nothing changed but the id; or deflated, which is as good."""
    datum = base.edited([], alert_id)
    return (
        base.framed(datum) if rng.random() < 0.5 else container(base.schema.encode(), datum, codec=b"deflate")
    )


def flip(data: bytes, n: int, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(n):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)
