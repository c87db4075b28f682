"""Packets taken apart for mutation, and put together again with identities of their own."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from broker.packets.container import MAGIC, SYNC, long, split
from broker.packets.survey import SchemaSource
from rayfinch.fuzz.leaves import Leaf, leaves

# What makes an alert of its own, in ZTF's and LSST's schemas; a mutated packet must not pass for another.
_IDENTITIES = {
    ("candid",),
    ("alertId",),
    ("diaSourceId",),
    ("diaSource", "diaSourceId"),
    ("candidate", "candid"),
}

Edit = tuple[int, int, bytes]  # datum[start:end] becomes these bytes


@dataclass(frozen=True)
class Base:
    """A healthy packet. `wire`: Confluent's framing, with `schema_id`; else a container."""

    datum: bytes
    schema: str
    leaves: tuple[Leaf, ...]
    wire: bool
    schema_id: int = 0

    def packet(self, alert_id: int, edits: Iterable[Edit] = ()) -> bytes:
        """The packet with the edits and the id."""
        return self.framed(self.edited(edits, alert_id))

    def edited(self, edits: Iterable[Edit], alert_id: int) -> bytes:
        """The datum with the edits and the id; where two overlap the earlier one counts."""
        chosen: list[Edit] = []
        for edit in [*edits, *((start, end, long(alert_id)) for start, end in self._identities)]:
            if all(edit[1] <= start or edit[0] >= end for start, end, _ in chosen):
                chosen.append(edit)
        pieces, last = [], 0
        for start, end, new in sorted(chosen):
            pieces += [self.datum[last:start], new]
            last = end
        return b"".join([*pieces, self.datum[last:]])

    @cached_property
    def _identities(self) -> list[tuple[int, int]]:
        numbers = (leaf for leaf in self.leaves if leaf.kind in ("int", "long"))
        return [(leaf.start, leaf.end) for leaf in numbers if leaf.path in _IDENTITIES]

    def framed(self, datum: bytes) -> bytes:
        """A packet around a datum, framed as this one was."""
        return wire(self.schema_id, datum) if self.wire else container(self.schema.encode(), datum)


def base(packet: bytes, schemas: SchemaSource | None) -> Base:
    """Take a healthy packet apart. Raises PacketError where it is none."""
    found = split(packet, schemas)
    is_wire = not packet.startswith(MAGIC)
    return Base(
        found.body,
        found.schema.json,
        tuple(leaves(found.schema.json, found.body)),
        is_wire,
        int.from_bytes(packet[1:5], "big") if is_wire else 0,
    )


def wire(schema_id: int, datum: bytes) -> bytes:
    return b"\0" + (schema_id & 0xFFFFFFFF).to_bytes(4, "big") + datum


def container(
    schema: bytes,
    datum: bytes,
    *,
    codec: bytes = b"null",
    count: int = 1,
    size: int | None = None,
    more: Mapping[bytes, bytes] | None = None,
    sync: bytes = b"rayfinch fuzzing",
    tail: bytes | None = None,
) -> bytes:
    """An Avro container of one block; every part of it can lie."""
    assert len(sync) == SYNC
    if codec == b"deflate":
        packer = zlib.compressobj(wbits=-15)
        datum = packer.compress(datum) + packer.flush()
    meta = {b"avro.schema": schema, b"avro.codec": codec, **(more or {})}
    return b"".join(
        [
            MAGIC,
            long(len(meta)),
            *(part for key, value in meta.items() for part in (_bytes(key), _bytes(value))),
            long(0),
            sync,
            long(count),
            long(len(datum) if size is None else size),
            datum,
            sync if tail is None else tail,
        ]
    )


def _bytes(value: bytes) -> bytes:
    return long(len(value)) + value
