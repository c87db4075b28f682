"""A survey's campaign: mutants among healthy packets, from Kafka to Kafka, and what has become of each."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from broker.database.engine import connect
from broker.database.ledger import Ledger
from broker.kafka import IDEMPOTENT
from rayfinch.bench.driver import Driver, configure
from rayfinch.bench.kafka import Kafka
from rayfinch.bench.stream import written
from rayfinch.config import Settings, shipped
from rayfinch.embedded import PRODUCER, create_topic
from rayfinch.fuzz import kept
from rayfinch.fuzz.messages import PARTITIONS, Messages, healthy_number, number
from rayfinch.fuzz.result import Result
from rayfinch.replay import LARGEST, ReplayError

# A stream that is done with nothing more for so long hangs. The first batch waits for Ray and the models, and
# a packet that hangs the decoder costs a watchdog's 20 s three times: twice in its task, then alone.
PATIENCE_S = 600.0
_STARTS = 5  # streams, before a campaign is given up
_KEPT = 20  # files of evidence, of each trouble


def run(
    name: str,
    sent: Messages,
    folder: Path,
    kafka: Kafka,
    schemas: Path | None,
    progress: Callable[[int], None] = lambda done: None,
) -> Result:
    """Send a survey's messages through a stream of its own, in `folder`, and judge it.

    Raises ReplayError where Kafka does not take them.
    """
    begin = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    prefix = f"fuzz-{uuid.uuid4().hex[:8]}"
    path = configure(shipped(name), folder, kafka.bootstrap, f"{prefix}-in", prefix, schemas)
    settings = written(path)
    result = Result(name)
    create_topic(kafka.bootstrap, settings.source.topics[0], PARTITIONS)
    sender = _Sender(kafka, settings.source.topics[0], sent)
    sender.start()
    try:
        done = _Watch(Driver(path), settings, sent, folder, progress, result).run(sender)
    finally:
        sender.stop()
    result.mutations = dict(sorted(sender.mutations.items()))
    if not done:
        result.packets, result.healthy = sent.mutants, sent.healthy
        return result
    found = kept.judge(settings, sent, result)
    keep(sent, found.deadly, folder / "deadly", result)
    keep(sent, map(healthy_number, found.harmed), folder / "harmed", result)
    result.seconds = round(time.monotonic() - begin, 1)
    return result


class _Sender(threading.Thread):
    """Makes the messages and produces them, beside the stream that starts and works."""

    def __init__(self, kafka: Kafka, topic: str, sent: Messages) -> None:
        super().__init__(daemon=True, name="sender")
        self.mutations: Counter[str] = Counter()
        self.failure: str | None = None
        self._address = {"bootstrap.servers": kafka.bootstrap, **({} if kafka.isolates else PRODUCER)}
        self._topic = topic
        self._sent = sent
        self._given_up = threading.Event()

    def stop(self) -> None:
        self._given_up.set()
        self.join()

    def run(self) -> None:
        from confluent_kafka import KafkaException, Producer

        once = {} if "batch.num.messages" in self._address else IDEMPOTENT
        sizes = {"message.max.bytes": LARGEST, "queue.buffering.max.kbytes": 64 << 10, "linger.ms": 5}
        producer = Producer({**self._address, **sizes, **once})
        failures: list[str] = []
        try:
            for k in range(len(self._sent)):
                message = self._sent[k]
                self.mutations.update([message.mutation] if message.mutation else [])
                while not self._given_up.is_set():
                    try:
                        producer.produce(
                            self._topic,
                            message.value,
                            partition=k % PARTITIONS,
                            headers=list(message.headers),
                            on_delivery=lambda error, _: failures.append(str(error)) if error else None,
                        )
                        break
                    except BufferError:
                        producer.poll(0.05)
                producer.poll(0)
                if self._given_up.is_set() or failures:
                    break
            left = producer.flush(120)
            if left and not failures:
                failures.append(f"{left} messages are not taken after 120 s")
        except KafkaException as error:
            failures.append(str(error))
        if failures:
            self.failure = failures[0]


class _Watch:
    """Runs streams until everything is done; counts those that end by themselves, or do nothing."""

    def __init__(
        self,
        driver: Driver,
        settings: Settings,
        sent: Messages,
        folder: Path,
        progress: Callable[[int], None],
        result: Result,
    ) -> None:
        self.driver, self.sent, self.folder = driver, sent, folder
        self.progress, self.result = progress, result
        self.ledger = Ledger(connect(settings.database.url), settings.stream, settings.survey)
        self.done = 0

    def run(self, sender: _Sender) -> bool:
        """Whether every message was done with. Raises ReplayError when the sender fails."""
        try:
            for _ in range(_STARTS):
                self.driver.start()
                trouble = self._until_trouble(sender)
                if trouble is None:
                    return True
                self.result.faults.append(trouble)
                self._keep_open_batches()
        finally:
            self.driver.stop()
        self.result.faults.append(
            f"given up: {self.done} of {len(self.sent)} messages were done with after {_STARTS} starts"
        )
        return False

    def _until_trouble(self, sender: _Sender) -> str | None:
        """What went wrong with the stream that runs now; None once it has done everything and has drained."""
        since = time.monotonic()
        while self.driver.status is None:
            if sender.failure:
                raise ReplayError(f"Kafka does not take the packets: {sender.failure}")
            done = sum(self.ledger.offsets().values())
            if done > self.done:
                self.done, since = done, time.monotonic()
                self.progress(done)
            if done >= len(self.sent) and not self.ledger.open_plans():
                self.driver.stop()
                if self.driver.status != 0:
                    self.result.faults.append(f"the stream did not drain: its status is {self.driver.status}")
                return None
            if time.monotonic() - since > PATIENCE_S:
                self.result.hangs += 1
                self.driver.stop()
                return f"the stream did nothing for {PATIENCE_S:.0f} s after {self.done} messages"
            time.sleep(0.3)
        self.result.crashes += 1
        return f"the stream ended after {self.done} messages: {self.driver.tail()}"

    def _keep_open_batches(self) -> None:
        for plan in self.ledger.open_plans():
            ks = [number(r.partition, offset) for r in plan.ranges for offset in range(r.first, r.end)]
            keep(self.sent, ks, self.folder / f"batch-{plan.batch}", self.result, most=len(ks))


def keep(sent: Messages, numbers: Iterable[int], folder: Path, result: Result, most: int = _KEPT) -> None:
    """Write these messages' packets into files, which `rayfinch packets check` and `replay` take."""
    chosen = sorted(numbers)[:most]
    if not chosen:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for k in chosen:
        message = sent[k]
        (folder / f"{k}-{message.mutation or 'healthy'}.avro").write_bytes(message.value or b"")
    result.evidence.append(str(folder))
