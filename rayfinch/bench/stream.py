"""One benchmark of a stream: fill, run, measure, judge.

The input is sent before the stream starts: alerts to warm up, and behind them those that count, in a Kafka
transaction. It is committed when the warm-up is done. So they are there at one instant, in front of a stream
that is warm and has nothing in flight, and the clock runs from that instant to their last batch. With a rate
they are sent at that rate instead.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from rayfinch.bench.cpu import Meter, cpu_s, middle
from rayfinch.bench.driver import Batch, Driver, configure
from rayfinch.bench.fill import Input
from rayfinch.bench.held import all_topics, judge
from rayfinch.bench.kafka import Kafka
from rayfinch.bench.sample import Sample
from rayfinch.bench.watch import Watch
from rayfinch.config import Settings

PARTITIONS = 4


@dataclass(frozen=True)
class Asked:
    """What is to be measured: `alerts` at `rate` a second, or all at once (None).

    warm_up: alerts before those. None: two batches, or half of `alerts` where that is less.
    watched: whether a consumer reads along, so that latencies are known; it costs the machine a little.
    """

    alerts: int
    rate: float | None = None
    warm_up: int | None = None
    watched: bool = True

    def warm(self, settings: Settings) -> int:
        if self.warm_up is not None:
            return self.warm_up
        return min(2 * settings.batch.max_alerts, max(self.alerts // 2, 50))


@dataclass(frozen=True)
class Span:
    """The measured part of a run: when it began and ended (time.monotonic()), and the CPU that it took."""

    begin: float
    end: float
    cpu: Counter[str]  # seconds, by role
    kafka_cpu_s: float


def run(
    asked: Asked,
    sample: Sample,
    kafka: Kafka,
    config: Path,
    folder: Path,
    tell: Callable[[str], None],
) -> tuple[dict[str, Any], list[str]]:
    """Measure one stream; the figures, and what is wrong with what it has kept.

    Raises StreamFailed where the stream ends or stalls, ReplayError where Kafka does not take the input.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"bench-{uuid.uuid4().hex[:8]}"
    # In one topic; what is held back stands behind the warm-up, and the stream cannot see past the latter.
    warm, counted = Input(kafka, f"{name}-in"), Input(kafka, f"{name}-in")
    path = configure(config, folder, kafka.bootstrap, warm.topic, name, sample.schemas)
    settings = written(path)
    warm_up = asked.warm(settings)
    topics = _make_topics(settings, warm.topic)
    watch = Watch(kafka.bootstrap, topics) if asked.watched else None
    driver = Driver(path)
    meter: Meter | None = None
    try:
        alerts = sample.messages(warm_up + asked.alerts)
        tell(f"sending {warm_up} alerts to warm up" + ("" if asked.rate else f", {asked.alerts} that count"))
        warm.pace(islice(alerts, warm_up), None)
        if asked.rate is None and kafka.isolates:
            counted.hold(alerts)
        tell("starting the stream")
        driver.start()
        meter = Meter(driver.pid)
        meter.start()
        if watch:
            watch.start()
        driver.wait_for(warm_up)
        tell("warm; measuring")
        cpu, kafka_cpu, begin = meter.cpu_s(), cpu_s(kafka.pid), time.monotonic()
        if asked.rate is not None:
            counted.pace(alerts, asked.rate)
        else:
            if not kafka.isolates:  # nothing can be held back: it is read while it is sent
                counted.hold(alerts)
            counted.release()
        driver.wait_for(warm_up + asked.alerts)
        span = Span(begin, driver.batches[-1].at, meter.cpu_s() - cpu, cpu_s(kafka.pid) - kafka_cpu)
        if watch:
            watch.stop(warm_up + asked.alerts)
    finally:
        if meter:
            meter.stop()
        driver.stop()
    tell("judging what it has kept")
    wrong, places = judge(settings, warm.sent.keys() | counted.sent.keys())
    waits = _waits(places, watch.readable, counted.sent) if watch else []
    if watch and len(waits) != asked.alerts:
        wrong.append(f"the consumer that read along saw {len(waits)} of {asked.alerts} alerts")
    measured = [b for b in driver.batches if b.at > span.begin]
    figures = _figures(asked, span, measured, waits, meter.pss_mb)
    return {**figures, "warm_up": warm_up, "survey": sample.survey, "kafka": kafka.what}, wrong


def written(path: Path) -> Settings:
    """The configuration as the stream under test reads it: the environment is in it already."""
    import yaml

    return Settings.model_validate(yaml.safe_load(path.read_text()))


def _make_topics(settings: Settings, source: str) -> list[str]:
    """Make the input's topic, and those of all alerts as the stream would make them: these."""
    from confluent_kafka import Producer

    from broker.publish.topics import Topics
    from rayfinch.embedded import create_topic
    from rayfinch.wiring import outputs

    kafka = {"bootstrap.servers": str(settings.publish.kafka["bootstrap.servers"])}
    create_topic(kafka["bootstrap.servers"], source, PARTITIONS)
    topics = all_topics(settings)
    Topics(kafka, outputs(settings), 30).ensure(topics, Producer(kafka))
    return topics


def _waits(places: dict[Any, int], readable: dict[Any, float], sent: dict[int, float]) -> list[float]:
    """Seconds from each alert's Kafka timestamp in the input until a consumer had read it in the output."""
    return [
        readable[place] - sent[alert_id]
        for place, alert_id in places.items()
        if alert_id in sent and place in readable
    ]


def _figures(
    asked: Asked,
    span: Span,
    batches: Sequence[Batch],
    waits: Sequence[float],
    pss_mb: Sequence[tuple[float, float]],
) -> dict[str, Any]:
    """The line of JSON. Stages are ms of wall clock a batch; those of tasks are added up over the tasks."""
    seconds, n = span.end - span.begin, asked.alerts
    during = [mb for at, mb in pss_mb if span.begin <= at <= span.end] or [mb for _, mb in pss_mb[-1:]]
    tenth = max(len(during) // 10, 1)
    stages: Counter[str] = Counter()
    for batch in batches:
        stages.update(batch.outcome.get("stages_ms", {}))
    latency = {
        f"latency_p{p}_s": float(np.percentile(waits, p)) if len(waits) else None for p in (50, 95, 99)
    }
    return {
        "alerts": n,
        "rate": asked.rate or "max",
        "seconds": seconds,
        "alerts_per_s": n / seconds,
        "cpu_ms_per_alert": sum(span.cpu.values()) / n * 1e3,
        "cpu_ms_by_process": {what: s / n * 1e3 for what, s in sorted(span.cpu.items()) if s > 0},
        "kafka_cpu_ms_per_alert": span.kafka_cpu_s / n * 1e3,
        **latency,
        "latency_max_s": max(waits, default=None),
        "peak_pss_mb": max(during, default=None),
        "pss_mb_first_tenth": middle(during[:tenth]),
        "pss_mb_last_tenth": middle(during[-tenth:]),
        "batches": len(batches),
        "alerts_per_s_by_quarter": _by_quarter(span.begin, batches),
        "stages_ms": {name: ms / max(len(batches), 1) for name, ms in stages.items()},
    }


def _by_quarter(begin: float, batches: Sequence[Batch]) -> list[float]:
    """Alerts a second in each quarter of the batches: whether the cost grows."""
    rates = []
    for part in np.array_split(np.arange(len(batches)), 4):
        if len(part):
            end = batches[part[-1]].at
            rates.append(sum(batches[i].alerts for i in part) / (end - begin))
            begin = end
    return rates
