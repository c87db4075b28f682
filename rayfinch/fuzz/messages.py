"""The messages of a campaign: mutants, and a healthy packet behind every fourth. Each can be made again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rayfinch.fuzz.mutations import mutate
from rayfinch.fuzz.packet import Base

NEIGHBOURS = 4  # mutants for each healthy packet
PARTITIONS = 4  # of the input: message k is in partition k % 4, at offset k // 4
_FIRST_MUTANT, _FIRST_HEALTHY = 1 << 59, 1 << 60


@dataclass(frozen=True)
class Message:
    """`mutation`: its name, or None of a healthy packet."""

    value: bytes | None
    headers: list[tuple[str, bytes]]
    alert_id: int
    mutation: str | None


@dataclass(frozen=True)
class Messages:
    """`mutants` of them, and the healthy ones; the same for the same arguments."""

    bases: Sequence[Base]
    mutants: int
    seed: int

    def __len__(self) -> int:
        return self.mutants + self.healthy

    @property
    def healthy(self) -> int:
        return self.mutants // NEIGHBOURS

    def __getitem__(self, k: int) -> Message:
        if not 0 <= k < len(self):
            raise IndexError(k)
        group, place = divmod(k, NEIGHBOURS + 1)
        if place == NEIGHBOURS:
            alert_id = _FIRST_HEALTHY + group
            return Message(self.base(alert_id).packet(alert_id), [], alert_id, None)
        i = group * NEIGHBOURS + place
        mutant = mutate(self.bases[i % len(self.bases)], _FIRST_MUTANT + i, f"{self.seed}/{i}")
        return Message(mutant.value, mutant.headers, _FIRST_MUTANT + i, mutant.name)

    def healthy_ids(self) -> range:
        return range(_FIRST_HEALTHY, _FIRST_HEALTHY + self.healthy)

    def base(self, healthy_id: int) -> Base:
        """What the healthy alert of this id was made of."""
        return self.bases[(healthy_id - _FIRST_HEALTHY) % len(self.bases)]


def number(partition: int, offset: int) -> int:
    """Which message stands there."""
    return offset * PARTITIONS + partition


def healthy_number(healthy_id: int) -> int:
    """Which message the healthy alert of this id is."""
    return (healthy_id - _FIRST_HEALTHY) * (NEIGHBOURS + 1) + NEIGHBOURS
