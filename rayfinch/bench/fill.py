"""The input of a benchmark: alerts at a steady rate, or many at one instant."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Delivered

from broker.kafka import IDEMPOTENT
from rayfinch.bench.kafka import Kafka
from rayfinch.embedded import PRODUCER
from rayfinch.fresh import Message
from rayfinch.replay import LARGEST, ReplayError

# A transaction is open from the start of the fill to the end of the warm-up. Kafka's own limit.
LONGEST_MS = 900_000
TAKE_S = 60.0


@dataclass
class Input:
    """A topic of the source, and when each alert in it was there: alert id -> Kafka timestamp (s, UTC)."""

    kafka: Kafka
    topic: str
    sent: dict[int, float] = field(default_factory=dict)
    _held: set[int] = field(default_factory=set)
    _producer: Producer | None = None

    def pace(self, alerts: Iterable[tuple[int, Message]], rate: float | None) -> None:
        """Send `alerts`, `rate` a second (None: as fast as can be). Raises ReplayError."""
        self._send(self._open({}), alerts, rate)

    def hold(self, alerts: Iterable[tuple[int, Message]]) -> None:
        """Send `alerts`, but let nobody see them before `release`: in a transaction that stays open.

        A Kafka that does not isolate shows them at once.
        """
        producer = self._open(
            {"transactional.id": f"bench-{uuid.uuid4().hex[:8]}", "transaction.timeout.ms": LONGEST_MS}
            if self.kafka.isolates
            else {}
        )
        if self.kafka.isolates:
            producer.init_transactions(TAKE_S)
            producer.begin_transaction()
        before = set(self.sent)
        self._send(producer, alerts, None)
        self._held = self.sent.keys() - before

    def release(self) -> float:
        """Let everything that is held be seen, at one instant: when that was (s, UTC)."""
        assert self._producer is not None, "hold() comes first"
        before = time.time()
        if self.kafka.isolates:
            self._producer.commit_transaction(TAKE_S)
            # They are in the input since the commit, not since their bytes were.
            self.sent |= dict.fromkeys(self._held, before)
        return before

    def _open(self, settings: dict[str, str | int | bool]) -> Producer:
        ours = {
            "bootstrap.servers": self.kafka.bootstrap,
            "message.max.bytes": LARGEST,
            "linger.ms": 5,
            "log_level": 0,  # a Kafka that goes away is the caller's news
            "queue.buffering.max.kbytes": 256 << 10,
            **(IDEMPOTENT if self.kafka.isolates else PRODUCER),
        }
        self._producer = Producer({**ours, **settings})
        return self._producer

    def _send(self, producer: Producer, alerts: Iterable[tuple[int, Message]], rate: float | None) -> None:
        failures: list[KafkaError] = []

        def note(alert_id: int) -> Callable[[KafkaError | None, Delivered], None]:
            def delivered(error: KafkaError | None, message: Delivered) -> None:
                if error is not None:
                    failures.append(error)
                else:
                    self.sent[alert_id] = message.timestamp()[1] / 1e3

            return delivered

        begin = time.perf_counter()
        try:
            for i, (alert_id, message) in enumerate(alerts):
                while rate and (wait := begin + i / rate - time.perf_counter()) > 0:
                    producer.poll(min(wait, 0.1))
                while not failures:
                    try:
                        producer.produce(self.topic, message.value, message.key, on_delivery=note(alert_id))
                        break
                    except BufferError:
                        producer.poll(0.05)  # the queue is full: Kafka is slower than we are
                producer.poll(0)
        except KafkaException as error:
            failures.append(error.args[0])
        left = producer.flush(TAKE_S)
        if failures or left:
            why = failures[0].str() if failures else f"{left} messages are not taken after {TAKE_S:.0f} s"
            raise ReplayError(f"{self.kafka.bootstrap} does not take what is for {self.topic!r}: {why}")
