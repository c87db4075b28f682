"""What came of a campaign. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

# What the surveys' results are added up by.
SUMS = (
    "packets",
    "healthy",
    "decoded",
    "resent",
    "dead_letters",
    "crashes",
    "hangs",
    "neighbours_harmed",
    "second_attempts",
    "decoder_killed",
    "unreadable",
)


@dataclass
class Result:
    """Of one survey. `packets` counts the mutants; `decoded` and `dead_letters` what became of them.

    crashes: times that the stream ended by itself. hangs: times that it did nothing for too long.
    neighbours_harmed: healthy packets that did not come out once, with the values and scores of their own.
    second_attempts: of batches, whose packets were isolated then. decoder_killed: dead letters that killed
    or hung the decoder. unreadable: published alerts that no consumer can decode.
    faults: what is wrong, in sentences. evidence: files of packets to look at, or to replay.
    """

    survey: str
    packets: int = 0
    healthy: int = 0
    decoded: int = 0
    resent: int = 0
    dead_letters: int = 0
    crashes: int = 0
    hangs: int = 0
    neighbours_harmed: int = 0
    accounted: bool = False
    second_attempts: int = 0
    decoder_killed: int = 0
    unreadable: int = 0
    seconds: float = 0.0
    mutations: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return self.accounted and not (self.crashes or self.hangs or self.neighbours_harmed or self.faults)


def added(results: list[Result]) -> dict[str, Any]:
    """The surveys' results as one: the sums, whether all is accounted for, and each by its name."""
    return {
        **{name: sum(getattr(r, name) for r in results) for name in SUMS},
        "accounted": all(r.accounted for r in results),
        "surveys": {r.survey: asdict(r) for r in results},
    }
