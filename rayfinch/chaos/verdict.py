"""What became of a campaign: the line of JSON, and what is wrong, a sentence each. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from statistics import median
from typing import Any

from rayfinch.bench.judge import Held
from rayfinch.chaos.targets import TARGETS, Strike


@dataclass(frozen=True)
class Hit:
    """A strike that was made `at_s` seconds after the first packet; None: no recovery, for that reason."""

    strike: Strike
    at_s: float
    recovery_s: float | None
    reason: str = ""

    def __str__(self) -> str:
        name = f"{self.strike.target} {self.strike.point}".strip()
        after = f"recovered in {self.recovery_s:.1f} s" if self.recovery_s is not None else self.reason
        return f"{self.strike.number:>4}  {self.at_s:7.1f} s  {name:<26} {after}"


def lost(sent: Set[int], held: Iterable[Held]) -> set[int]:
    """Alerts that were sent and that some place does not hold."""
    return {i for where in held for i in sent - set(where.alert_ids)}


def doubled(held: Iterable[Held]) -> set[int]:
    """Alerts that some place holds more than once."""
    return {i for where in held for i, n in Counter(where.alert_ids).items() if n > 1}


def recoveries(hits: Sequence[Hit]) -> dict[str, list[float]]:
    """Seconds by target, in the targets' order."""
    by_target: dict[str, list[float]] = {name: [] for name in TARGETS}
    for hit in hits:
        if hit.recovery_s is not None:
            by_target[hit.strike.target].append(hit.recovery_s)
    return {name: seconds for name, seconds in by_target.items() if seconds}


def figures(
    hits: Sequence[Hit],
    sent: Set[int],
    held: Sequence[Held],
    difference: str | None,
    skipped: Mapping[str, str],
) -> dict[str, Any]:
    """The numbers of the line of JSON."""
    recovered = recoveries(hits)
    return {
        "kills": len(hits),
        "lost": len(lost(sent, held)),
        "doubled": len(doubled(held)),
        "topics_equal_archive": difference is None,
        "recovery_median_s": {name: median(seconds) for name, seconds in recovered.items()},
        "recovery_max_s": {name: max(seconds) for name, seconds in recovered.items()},
        "kills_by_target": dict(Counter(hit.strike.target for hit in hits)),
        "not_recovered": sum(hit.recovery_s is None for hit in hits),
        "skipped": dict(skipped),
        "alerts": len(sent),
    }


def slow(hits: Sequence[Hit]) -> list[str]:
    """Targets whose median recovery is above their bar, a sentence each."""
    return [
        f"{name}: the median recovery of {median(seconds):.1f} s is above {TARGETS[name].bar_s:g} s"
        for name, seconds in recoveries(hits).items()
        if median(seconds) > TARGETS[name].bar_s
    ]


def not_recovered(hits: Sequence[Hit]) -> list[str]:
    """Strikes that the stream did not recover from, a sentence each."""
    return [
        f"strike {hit.strike.number} on {hit.strike.target} at {hit.at_s:.0f} s: {hit.reason}"
        for hit in hits
        if hit.recovery_s is None
    ]
