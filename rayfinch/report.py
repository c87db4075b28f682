"""What a run of the stream has done so far, added up batch by batch."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Report:
    """Totals over batches. Latencies (Kafka timestamp in to readable out, ms) are those of the batches."""

    batches: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    classes: dict[str, Counter[str]] = field(default_factory=dict)
    stages_ms: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[tuple[float, float, int]] = field(default_factory=list)  # p50, max, alerts
    started: float = field(default_factory=time.monotonic)
    first: float | None = None
    last: float | None = None

    def add(self, outcome: dict[str, Any]) -> None:
        """Take in the outcome of a batch that was committed just now."""
        now = time.monotonic()
        self.first = self.first or now
        self.last = now
        self.batches += 1
        self.counts.update(outcome.get("counts", {}))
        self.stages_ms.update(outcome.get("stages_ms", {}))
        for model, tops in outcome.get("classes", {}).items():
            self.classes.setdefault(model, Counter()).update(tops)
        latency = outcome.get("latency_ms")
        if latency:
            self.latencies_ms.append((latency["p50"], latency["max"], outcome["counts"]["alerts"]))

    @property
    def latency_p50_ms(self) -> float | None:
        """The median of the batches' medians, each weighed by its alerts."""
        weighed = sorted((p50, n) for p50, _, n in self.latencies_ms)
        half, seen = sum(n for _, n in weighed) / 2, 0
        for p50, n in weighed:
            seen += n
            if seen >= half:
                return p50
        return None

    def as_json(self) -> dict[str, Any]:
        return {
            "batches": self.batches,
            **{k: self.counts[k] for k in ("alerts", "resent", "dead_letters", "gap_offsets", "restricted")},
            "classes": {model: dict(c.most_common()) for model, c in self.classes.items()},
            "latency_p50_ms": self.latency_p50_ms,
            "latency_max_ms": max((m for _, m, _ in self.latencies_ms), default=None),
            "first_batch_s": self.first - self.started if self.first else None,
            "stages_ms": dict(self.stages_ms),
        }
