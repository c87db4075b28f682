"""Which offsets make the next batch: a pure function of what is planned and what the source holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from broker.stream.plan import Range

Key = tuple[str, str, int]  # topic, topic_id, partition


@dataclass(frozen=True, order=True)
class Partition:
    """A partition as the source shows it: offsets up to `high` (exclusive) can be read now."""

    topic: str
    topic_id: str
    partition: int
    high: int

    @property
    def key(self) -> Key:
        return self.topic, self.topic_id, self.partition


def due(partitions: Iterable[Partition], planned: Mapping[Key, int]) -> list[Range]:
    """Everything that the source holds and no batch has taken yet, a range a partition, in topic order.

    A partition that was never planned starts at 0: what has expired there is found, and told, by the reader.
    """
    ranges = (
        Range(p.topic, p.topic_id, p.partition, planned.get(p.key, 0), p.high) for p in sorted(partitions)
    )
    return [r for r in ranges if r.end > r.first]


def choose(ranges: Sequence[Range], limit: int) -> tuple[Range, ...]:
    """At most `limit` offsets of `ranges`, shared fairly: a long partition never starves a short one."""
    chosen: dict[Range, int] = {}
    left = limit
    for count, r in zip(range(len(ranges), 0, -1), sorted(ranges, key=len), strict=True):
        chosen[r] = min(len(r), -(-left // count))
        left -= chosen[r]
    return tuple(
        Range(r.topic, r.topic_id, r.partition, r.first, r.first + chosen[r]) for r in ranges if chosen[r] > 0
    )


def chunks(ranges: Sequence[Range], size: int) -> list[list[Range]]:
    """Split `ranges` into pieces of at most `size` offsets: what one task reads. Order is kept."""
    pieces: list[list[Range]] = []
    room = 0
    for r in ranges:
        first = r.first
        while first < r.end:
            if room == 0:
                pieces.append([])
                room = size
            end = min(r.end, first + room)
            pieces[-1].append(Range(r.topic, r.topic_id, r.partition, first, end))
            room -= end - first
            first = end
    return pieces
