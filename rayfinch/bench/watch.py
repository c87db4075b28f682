"""A consumer of the stream's output that notes when each alert could be read."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from confluent_kafka import Consumer, Message, TopicPartition

Place = tuple[str, int, int]  # topic, partition, offset


def place(message: Message) -> Place:
    """Where a message stands."""
    return str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)


def reader(bootstrap: str, topics: Sequence[str], options: Mapping[str, bool] | None = None) -> Consumer:
    """A consumer of all partitions of those of `topics` that there are, from their beginnings."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench",  # never joined
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "fetch.message.max.bytes": 16 << 20,
            **(options or {}),
        }
    )
    known = consumer.list_topics(timeout=20).topics
    consumer.assign([TopicPartition(t, p, 0) for t in topics if t in known for p in known[t].partitions])
    return consumer


@dataclass
class Watch:
    """Polls `topics` (read_committed) in a thread from now on; `readable`: place -> when it came (s, UTC)."""

    bootstrap: str
    topics: list[str]
    readable: dict[Place, float] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        consumer = reader(self.bootstrap, self.topics)
        self._thread = threading.Thread(target=self._poll, args=(consumer,), daemon=True, name="watch")
        self._thread.start()

    def wait(self, expected: int, wait_s: float = 30) -> None:
        """Wait until `expected` messages have come, or for `wait_s`, and end."""
        deadline = time.monotonic() + wait_s
        while len(self.readable) < expected and time.monotonic() < deadline:
            time.sleep(0.02)
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _poll(self, consumer: Consumer) -> None:
        while not self._stop.is_set():
            message = consumer.poll(0.1)  # one by one: consume() would wait for more of them
            if message is not None and message.error() is None:
                self.readable[place(message)] = time.time()
        consumer.close()
