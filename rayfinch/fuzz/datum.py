"""Mutations of a datum's leaves: its numbers, lengths, branches, counts and texts."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

from broker.packets.container import long, read_long
from rayfinch.fuzz.leaves import Leaf
from rayfinch.fuzz.packet import Base, Edit
from rayfinch.fuzz.varints import EXTREMES, LENGTHS, OVERLONG

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
TEXTS = (
    b"",
    b"\0",
    b"\xff\xfe\xfd",
    b"\xed\xa0\x80",
    b"'; drop table objects; --",
    b"\r\n" * 50,
    b"x" * 100_000,
)


def number(base: Base, alert_id: int, rng: random.Random) -> bytes:
    leaf = one(base, ("int", "long", "enum"), rng)
    return edited(base, alert_id, leaf, long(rng.choice(EXTREMES)))


def overlong(base: Base, alert_id: int, rng: random.Random) -> bytes:
    leaf = one(base, ("int", "long", "length", "branch", "count"), rng)
    return edited(base, alert_id, leaf, rng.choice(OVERLONG))


def real(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """A float or double that a packet should not have, but may."""
    edits = []
    for _ in range(rng.choice((1, 1, 1, 20))):
        leaf = one(base, ("float", "double"), rng)
        value = rng.choice(FLOATS)
        if leaf.kind == "float":
            new = struct.pack("<f", max(-3.4e38, min(3.4e38, value)) if abs(value) > 3.4e38 else value)
        else:
            new = struct.pack("<d", value)
        edits.append((leaf.start, leaf.end, new))
    return base.packet(alert_id, edits)


def length(base: Base, alert_id: int, rng: random.Random) -> bytes:
    return edited(base, alert_id, one(base, ("length",), rng), long(rng.choice(LENGTHS)))


def length_by_a_little(base: Base, alert_id: int, rng: random.Random) -> bytes:
    leaf = one(base, ("length",), rng)
    true = leaf.reach - leaf.end
    return edited(base, alert_id, leaf, long(true + rng.choice((-2, -1, 1, 2, 100))))


def branch(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """A union's branch: the other one, or one that there is not."""
    new = long(rng.choice((0, 1, 2, 63, 64, -1, -64, 2**31, 2**63 - 1)))
    return edited(base, alert_id, one(base, ("branch",), rng), new)


def count(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """An array's count: too many, too few, or negative, which announces a size in bytes."""
    new = long(rng.choice(LENGTHS))
    if rng.random() < 0.3:
        new = long(-rng.choice((1, 5, 2**31, 2**63))) + long(rng.choice(LENGTHS))
    return edited(base, alert_id, one(base, ("count",), rng), new)


def blocked(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """Well-formed, but as few writers do it: an array's block with its size in bytes (right or wrong)."""
    leaf = one(base, ("count",), rng)
    items, _ = read_long(base.datum, leaf.start)
    size = leaf.reach - leaf.end if leaf.reach else 0
    return edited(base, alert_id, leaf, long(-abs(items or 1)) + long(size + rng.choice((0, 0, 1, -5))))


def huge_array(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """An array with very many items, all of them there."""
    full = [leaf for leaf in base.leaves if leaf.kind == "count" and leaf.reach]
    if not full:
        return count(base, alert_id, rng)
    leaf = rng.choice(full)
    items = base.datum[leaf.end : leaf.reach]
    most = rng.choice((1, 1, 1, 1, 1, 1, 1, 16)) << 18  # bytes: few are very large, Kafka has to carry them
    times = min(rng.choice((10, 1000, 100_000)), most // max(len(items), 1))
    block = base.datum[leaf.start : leaf.end] + items
    return base.framed(base.edited([(leaf.start, leaf.reach, block * max(times, 1))], alert_id))


def text(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """A string of another length and kind: not UTF-8, empty, very long."""
    return replace(base, alert_id, "string", rng.choice(TEXTS), rng)


def several(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """Several leaves at once."""
    edits: list[Edit] = []
    for leaf in rng.choices(base.leaves, k=rng.randrange(2, 10)):
        if leaf.kind in ("int", "long", "enum", "length", "branch", "count"):
            edits.append((leaf.start, leaf.end, long(rng.choice(EXTREMES + LENGTHS))))
        else:
            edits.append((leaf.start, leaf.end, rng.randbytes(leaf.end - leaf.start)))
    return base.packet(alert_id, edits)


def one(base: Base, kinds: Sequence[str], rng: random.Random) -> Leaf:
    """A leaf of these kinds; half the time one of the record's own, which are few beside the history's."""
    found = [leaf for leaf in base.leaves if leaf.kind in kinds] or list(base.leaves)
    own = [leaf for leaf in found if leaf.path[0] in ("candidate", "diaSource") or len(leaf.path) == 1]
    return rng.choice(own if own and rng.random() < 0.5 else found)


def edited(base: Base, alert_id: int, leaf: Leaf, new: bytes) -> bytes:
    return base.packet(alert_id, [(leaf.start, leaf.end, new)])


def held_in(base: Base, kind: str, rng: random.Random) -> tuple[Leaf, Leaf] | None:
    """A value of strings or bytes with the length in front of it; None where the base has none."""
    pairs = [(a, b) for a, b in zip(base.leaves, base.leaves[1:], strict=False) if b.kind == kind]
    return rng.choice(pairs) if pairs else None


def replace(
    base: Base,
    alert_id: int,
    kind: str,
    new: bytes,
    rng: random.Random,
    held: tuple[Leaf, Leaf] | None = None,
) -> bytes:
    held = held or held_in(base, kind, rng)
    if held is None:
        return several(base, alert_id, rng)
    edit = (held[0].start, held[1].end, long(len(new)) + new)
    return base.packet(alert_id, [edit])
