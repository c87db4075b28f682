"""Whether cost and memory grow: one stream, one archive and one database, batch after batch.

The input is sent just ahead of what the stream has done, its output is read along, and what Kafka has handed
out is deleted: the disk needs room for the archive alone.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from broker.database.engine import connect
from broker.database.ledger import Ledger
from rayfinch.bench.cpu import Meter, cpu_s
from rayfinch.bench.driver import Batch, Driver, StreamFailed
from rayfinch.bench.fill import Input
from rayfinch.bench.held import Topics, judge
from rayfinch.bench.judge import Held
from rayfinch.bench.kafka import Kafka
from rayfinch.bench.sample import Sample
from rayfinch.bench.span import Mark, Span, figures
from rayfinch.bench.stream import placed, written
from rayfinch.bench.watch import reader
from rayfinch.config import Settings
from rayfinch.fresh import Message

AHEAD = 6  # batches that wait in the source
EARLY = 10  # the batch from which on the stream is warm
WINDOW = 20  # batches that are compared: from the EARLY one on, and the last ones
DELETE_EVERY_S = 5.0


def run(
    batches: int, sample: Sample, kafka: Kafka, config: Path, folder: Path, tell: Callable[[str], None]
) -> tuple[dict[str, Any], list[str]]:
    """Run `batches` full batches: the last ones beside early ones, and what is wrong with what was kept.

    Raises ValueError where the batches are too few to compare, StreamFailed, ReplayError.
    """
    enough(batches)
    path, settings, topics = placed(sample, kafka, config, folder)
    size = settings.batch.max_alerts
    source = Input(kafka, settings.source.topics[0])
    driver, meter = Driver(path), Meter()
    driver.mark = lambda: Mark(time.monotonic(), meter.cpu_s(), cpu_s(kafka.pid))
    along = Along(path, topics, batches * size)
    try:
        driver.start()
        meter.start(driver.pid)
        along.start()
        source.pace(_just_ahead(sample.messages(batches * size), driver, AHEAD * size, tell), None)
        driver.wait_for(batches * size)
        read = along.finish()
    finally:
        along.stop()
        meter.stop()
        driver.stop()
    tell("judging what it has kept")
    wrong, _ = judge(settings, source.sent.keys(), read)
    said = {"survey": sample.survey, "alerts": batches * size, "batch": size}
    return {**said, **compared(driver.batches, meter.pss_mb), "kafka": kafka.what}, wrong


def enough(batches: int) -> None:
    """Raise ValueError where early and late batches would overlap."""
    if batches < EARLY + 2 * WINDOW:
        raise ValueError(
            f"{batches} batches are too few: the {WINDOW} from the {EARLY}th on are compared with the last "
            f"{WINDOW}; ask for {EARLY + 2 * WINDOW} or more"
        )


def compared(batches: Sequence[Batch], pss_mb: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """The early batches beside the last ones; rate and memory in each tenth of all from EARLY on."""
    early = Span(batches[EARLY - 2].mark, batches[EARLY + WINDOW - 2].mark, batches[EARLY - 1 :][:WINDOW])
    late = Span(batches[-WINDOW - 1].mark, batches[-1].mark, batches[-WINDOW:])
    whole = Span(early.begin, late.end, batches[EARLY - 1 :])
    first, last, all_ = figures(early, [], pss_mb), figures(late, [], pss_mb), figures(whole, [], pss_mb)
    tenths = np.array_split(np.arange(EARLY - 1, len(batches)), 10)
    ends = [early.begin.at, *(batches[part[-1]].mark.at for part in tenths)]
    done = [sum(batches[i].alerts for i in part) for part in tenths]
    return {
        "batches": len(batches),
        "alerts_per_s_early": first["alerts_per_s"],
        "alerts_per_s_late": last["alerts_per_s"],
        "late_over_early": last["alerts_per_s"] / first["alerts_per_s"],
        "cpu_ms_per_alert_early": first["cpu_ms_per_alert"],
        "cpu_ms_per_alert_late": last["cpu_ms_per_alert"],
        "alerts_per_s_by_tenth": [n / (b - a) for n, (a, b) in zip(done, pairwise(ends), strict=True)],
        "stages_ms_early": first["stages_ms"],
        "stages_ms_late": last["stages_ms"],
        "peak_pss_mb": all_["peak_pss_mb"],
        "pss_mb_by_tenth": [
            float(np.median([mb for at, mb in pss_mb if a <= at <= b] or [np.nan])) for a, b in pairwise(ends)
        ],
    }


def _just_ahead(
    alerts: Iterator[tuple[int, Message]], driver: Driver, ahead: int, tell: Callable[[str], None]
) -> Iterator[tuple[int, Message]]:
    """`alerts`, each once the stream has done all but `ahead` of those before it."""
    told = time.monotonic()
    for i, alert in enumerate(alerts):
        if time.monotonic() > told + 60:
            told = time.monotonic()
            tell(f"{driver.done} alerts in {len(driver.batches)} batches")
        while i - driver.done >= ahead:
            if driver.status is not None:
                raise StreamFailed(f"the stream ended after {driver.done} alerts: {driver.tail()}")
            time.sleep(0.02)
        yield alert


class Along:
    """Reads the `all` topics while the stream runs, and deletes what was read, there and in the source.

    In a process of its own: to decode every alert would slow the one that sends them.
    """

    def __init__(self, config: Path, topics: list[str], expected: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._told, tell = spawn.Pipe(duplex=False)
        self._process = spawn.Process(target=_read, args=(config, topics, expected, tell), daemon=True)

    def start(self) -> None:
        self._process.start()

    def finish(self, wait_s: float = 120.0) -> Held:
        """What the topics held, once all that is expected was read. Raises StreamFailed."""
        if not self._told.poll(wait_s):
            raise StreamFailed(
                f"the `all` topics do not hold what was sent, {wait_s:.0f} s after the last batch"
            )
        found: Held = self._told.recv()
        return found

    def stop(self) -> None:
        if self._process.is_alive():
            self._process.kill()


def _read(config: Path, names: list[str], expected: int, tell: Connection) -> None:
    settings = written(config)
    bootstrap = str(settings.publish.kafka["bootstrap.servers"])
    topics, consumer = Topics(settings), reader(bootstrap, names)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    deleted = time.monotonic()
    while len(topics.held.alert_ids) < expected:
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            topics.add(message)
        if topics.held.alert_ids and time.monotonic() > deleted + DELETE_EVERY_S:
            deleted = time.monotonic()
            _delete(admin, consumer, settings)
    tell.send(topics.held)


def _delete(admin: AdminClient, consumer: Consumer, settings: Settings) -> None:
    """Delete what the consumer has read, and what the stream has committed of its source."""
    ledger = Ledger(connect(settings.database.url, migrate=False), settings.stream, settings.survey)
    gone = [p for p in consumer.position(consumer.assignment()) if p.offset > 0]
    gone += [TopicPartition(t, p, offset) for (t, _, p), offset in ledger.offsets().items()]
    for done in admin.delete_records(gone).values():
        done.result()
