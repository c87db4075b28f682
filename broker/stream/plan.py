"""What a batch is made of: ranges of offsets, and what was found wanting in them. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# The topic name of ranges that point into the dead-letter table (`first` = its row id), so that a retried
# dead letter goes through plan, run, archive, publish and commit like any other packet.
DEAD_LETTERS = "deadletters"


@dataclass(frozen=True, order=True)
class Range:
    """Offsets `first` to `end` (exclusive) of a partition. `topic_id` tells a recreated topic apart."""

    topic: str
    topic_id: str
    partition: int
    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first


@dataclass(frozen=True)
class Plan:
    """A batch as it was written to the database before any work: the same after every restart."""

    stream: str
    batch: int
    ranges: tuple[Range, ...]
    models: Mapping[str, str] = field(default_factory=dict)
    attempt: int = 0
    identity: str = ""  # of the stream's row: another database's batch of the same number is another batch

    @property
    def tag(self) -> str:
        """The batch's name in the archive and in the topics, unique over all streams and databases."""
        return f"{self.stream}/{self.identity}/{self.batch}"

    def __len__(self) -> int:
        return sum(len(r) for r in self.ranges)


@dataclass(frozen=True)
class DeadLetter:
    """A packet that could not be decoded: where it stood, why, and its bytes.

    `kafka_timestamp` is in ms, UTC.
    """

    topic: str
    topic_id: str
    partition: int
    offset: int
    reason: str
    packet: bytes
    kafka_timestamp: int | None = None


@dataclass(frozen=True)
class Gap:
    """Offsets that were planned or due but that the source no longer has."""

    topic: str
    topic_id: str
    partition: int
    first: int
    end: int
    reason: str
