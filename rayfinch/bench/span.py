"""The measured part of a run, and its figures. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayfinch.bench.driver import Batch


@dataclass(frozen=True)
class Mark:
    """A moment (time.monotonic()), and the CPU seconds until then: by role, and Kafka's."""

    at: float
    cpu: Counter[str]
    kafka_cpu_s: float


@dataclass(frozen=True)
class Span:
    """From one mark to another, and the batches that were committed in between."""

    begin: Mark
    end: Mark
    batches: Sequence[Batch]

    @property
    def alerts(self) -> int:
        return sum(b.alerts for b in self.batches)


def steady(batches: Sequence[Batch], warm_up: int, in_flight: int) -> Span:
    """The part of a run with a full backlog in which as much was in flight at its end as at its beginning.

    It begins when the first `warm_up` alerts are committed and ends before the last `in_flight` - 1 batches:
    what had been done ahead when it began is made up for by what is done ahead when it ends.
    Raises ValueError where nothing lies between.
    """
    done = np.cumsum([b.alerts for b in batches])
    first = int(np.searchsorted(done, warm_up)) + 1
    between = batches[first : len(batches) - (in_flight - 1)]
    if not between:
        raise ValueError(f"{len(batches)} batches are too few to measure: ask for more alerts")
    return Span(batches[first - 1].mark, between[-1].mark, between)


def figures(span: Span, waits: Sequence[float], pss_mb: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """The numbers of the line of JSON. docs/benchmarks.md defines them.

    waits: seconds that each alert took to be readable. pss_mb: (time.monotonic(), MB) of all our processes.
    """
    seconds, n = span.end.at - span.begin.at, span.alerts
    cpu = span.end.cpu - span.begin.cpu
    during = [mb for at, mb in pss_mb if span.begin.at <= at <= span.end.at] or [mb for _, mb in pss_mb[-1:]]
    tenth = max(len(during) // 10, 1)
    stages: Counter[str] = Counter()
    for batch in span.batches:
        stages.update(batch.outcome.get("stages_ms", {}))
    percentiles = np.percentile(waits, [50, 95, 99]).tolist() if len(waits) else [None] * 3
    return {
        "measured": n,
        "seconds": seconds,
        "alerts_per_s": n / seconds,
        "cpu_ms_per_alert": cpu.total() / n * 1e3,
        "cpu_ms_by_process": {what: s / n * 1e3 for what, s in sorted(cpu.items())},
        "kafka_cpu_ms_per_alert": (span.end.kafka_cpu_s - span.begin.kafka_cpu_s) / n * 1e3,
        **dict(zip(("latency_p50_s", "latency_p95_s", "latency_p99_s"), percentiles, strict=True)),
        "latency_max_s": max(waits, default=None),
        "peak_pss_mb": max(during, default=None),
        "pss_mb_first_tenth": float(np.median(during[:tenth])) if during else None,
        "pss_mb_last_tenth": float(np.median(during[-tenth:])) if during else None,
        "batches": len(span.batches),
        "alerts_per_s_by_quarter": by_quarter(span),
        "stages_ms": {name: ms / len(span.batches) for name, ms in stages.items()},
    }


def by_quarter(span: Span) -> list[float]:
    """Alerts a second in each quarter of the batches: whether the cost grows."""
    rates, begin = [], span.begin.at
    for part in np.array_split(np.arange(len(span.batches)), 4):
        if len(part):
            end = span.batches[part[-1]].mark.at
            rates.append(sum(span.batches[i].alerts for i in part) / (end - begin))
            begin = end
    return rates
