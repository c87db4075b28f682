"""Mutations of packets: seeded, pure, and each a function with a name that a report can tell.

Blind ones know nothing of what they change; the others know the datum's leaves, its frame, its schema or
its stamps. `mutate(base, seed)` draws one. Beyond these, a message may lack its value or wear odd headers,
as Kafka allows.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from rayfinch.fuzz import blind, datum, frames, schemas, stamps
from rayfinch.fuzz.packet import Base

Mutation = Callable[[Base, int, random.Random], bytes | None]

MUTATIONS: dict[str, Mutation] = {
    function.__name__: function
    for function in (
        blind.bit,
        blind.bits,
        blind.datum_bit,
        blind.truncated,
        blind.truncated_datum,
        blind.extended,
        blind.extended_datum,
        blind.overwritten,
        blind.inserted,
        blind.inserted_datum,
        blind.deleted,
        blind.repeated,
        blind.noise,
        blind.nothing,
        blind.healthy,
        datum.number,
        datum.overlong,
        datum.real,
        datum.length,
        datum.length_by_a_little,
        datum.branch,
        datum.count,
        datum.blocked,
        datum.huge_array,
        datum.text,
        datum.several,
        stamps.stamp,
        stamps.stamp_bomb,
        stamps.fits_header,
        frames.frame,
        frames.metadata,
        frames.zip_bomb,
        frames.schema_id,
        frames.other_framing,
        schemas.damaged_schema,
        schemas.altered_schema,
        schemas.wide_array,
        schemas.foreign_schema,
    )
}


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
