"""One benchmark of a stream: fill, run, measure, judge.

First come alerts to warm up, then those that count: all of them before the stream starts (`max`); or all at
one instant, once the stream has done the warm-up and idles (a burst: they stand in a Kafka transaction that
is committed then); or from then on at a rate.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import yaml

from rayfinch.bench.cpu import Meter, cpu_s
from rayfinch.bench.driver import Driver, configure
from rayfinch.bench.fill import Input
from rayfinch.bench.held import all_topics, judge
from rayfinch.bench.kafka import Kafka
from rayfinch.bench.sample import Sample
from rayfinch.bench.span import Mark, Span, figures, steady
from rayfinch.bench.watch import Watch
from rayfinch.config import Settings
from rayfinch.fresh import Message

PARTITIONS = 4


@dataclass(frozen=True)
class Asked:
    """What is to be measured: `alerts`, at so many a second, or all there from the start, or at one instant.

    warm_up: alerts before those. None: two batches, or without a backlog half of `alerts` where that is less.
    """

    alerts: int
    rate: float | Literal["max", "burst"] = "max"
    warm_up: int | None = None

    def warm(self, settings: Settings) -> int:
        """How many alerts warm up. Raises ValueError where `alerts` are too few for a backlog."""
        size, in_flight = settings.batch.max_alerts, settings.batch.in_flight
        if self.rate == "max" and self.alerts < in_flight * size:
            raise ValueError(
                f"{self.alerts} alerts are no backlog for {in_flight} batches of {size}: ask for at least "
                f"{in_flight * size}, or for a rate or a burst"
            )
        if self.warm_up is not None:
            return self.warm_up
        return 2 * size if self.rate == "max" else min(2 * size, max(self.alerts // 2, 50))


def run(
    asked: Asked,
    sample: Sample,
    kafka: Kafka,
    config: Path,
    folder: Path,
    tell: Callable[[str], None],
) -> tuple[dict[str, Any], list[str]]:
    """Measure one stream; the figures, and what is wrong with what it has kept.

    Raises ValueError where too little is asked for, StreamFailed where the stream ends or stalls, ReplayError
    where Kafka does not take the input.
    """
    path, settings, topics = placed(sample, kafka, config, folder)
    warm_up = asked.warm(settings)
    source = Input(kafka, settings.source.topics[0])
    driver, meter = Driver(path), Meter()
    driver.mark = lambda: Mark(time.monotonic(), meter.cpu_s(), cpu_s(kafka.pid))
    # With a backlog an alert waits for its turn: a latency would say nothing, and reading along costs CPU.
    watch = Watch(kafka.bootstrap, topics) if asked.rate != "max" else None
    tell(f"sending {warm_up} alerts to warm up")
    alerts = sample.messages(warm_up + asked.alerts)
    source.pace(islice(alerts, warm_up), None)
    warming = set(source.sent)
    try:
        span = _measure(asked, warm_up, settings.batch.in_flight, alerts, source, driver, meter, watch, tell)
    finally:
        meter.stop()
        driver.stop()
    tell("judging what it has kept")
    wrong, places = judge(settings, source.sent.keys())
    waits: list[float] = []
    if watch:
        waits = [
            watch.readable[place] - source.sent[alert_id]
            for place, alert_id in places.items()
            if alert_id in source.sent and alert_id not in warming and place in watch.readable
        ]
        if len(waits) != asked.alerts:
            wrong.append(f"the consumer that read along saw {len(waits)} of {asked.alerts} alerts")
    said = {"survey": sample.survey, "alerts": asked.alerts, "rate": asked.rate, "warm_up": warm_up}
    return {**said, **figures(span, waits, meter.pss_mb), "kafka": kafka.what}, wrong


def _measure(
    asked: Asked,
    warm_up: int,
    in_flight: int,
    alerts: Iterator[tuple[int, Message]],
    source: Input,
    driver: Driver,
    meter: Meter,
    watch: Watch | None,
    tell: Callable[[str], None],
) -> Span:
    """Run the stream over the warm-up and over `alerts`, as they are asked for; the part that counts."""
    held = asked.rate == "burst" and source.kafka.isolates
    if asked.rate == "max" or held:
        tell(f"sending {asked.alerts} alerts that count")
        if held:
            source.hold(alerts)
        else:
            source.pace(alerts, None)
    tell("starting the stream")
    driver.start()
    meter.start(driver.pid)
    if watch:
        watch.start()
    driver.wait_for(warm_up)
    begin, behind = driver.mark(), len(driver.batches)
    tell("warm: measuring")
    if held:
        source.release()
    elif asked.rate == "burst":  # a Kafka that holds nothing back: it is read while it is sent
        source.pace(alerts, None)
    elif asked.rate != "max":
        source.pace(alerts, asked.rate)
    driver.wait_for(warm_up + asked.alerts)
    if watch:
        watch.wait(warm_up + asked.alerts)
    if asked.rate == "max":
        return steady(driver.batches, warm_up, in_flight)
    return Span(begin, driver.batches[-1].mark, driver.batches[behind:])


def placed(
    sample: Sample, kafka: Kafka, config: Path, folder: Path, **changes: Any
) -> tuple[Path, Settings, list[str]]:
    """A stream under test, before it starts: its configuration, its settings, and its topics of all alerts.

    changes: of the configuration's top level, beside its places. The input's topic is made, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"bench-{uuid.uuid4().hex[:8]}"
    path = configure(config, folder, kafka.bootstrap, f"{name}-in", name, sample.schemas)
    if changes:
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes, sort_keys=False))
    settings = written(path)
    return path, settings, _make_topics(settings)


def written(path: Path) -> Settings:
    """The configuration as the stream under test reads it: the environment is in it already."""
    return Settings.model_validate(yaml.safe_load(path.read_text()))


def _make_topics(settings: Settings) -> list[str]:
    """Make the input's topic, and those of all alerts as the stream would make them: these."""
    from confluent_kafka import Producer

    from broker.publish.topics import Topics
    from rayfinch.embedded import create_topic
    from rayfinch.wiring import outputs

    kafka = {"bootstrap.servers": str(settings.publish.kafka["bootstrap.servers"])}
    create_topic(kafka["bootstrap.servers"], settings.source.topics[0], PARTITIONS)
    topics = all_topics(settings)
    Topics(kafka, outputs(settings), 30).ensure(topics, Producer(kafka))
    return topics
