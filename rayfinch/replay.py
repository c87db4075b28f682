"""Packets from files to a Kafka topic, as a survey sends them: for demonstrations, tests and benchmarks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from broker.kafka import IDEMPOTENT
from rayfinch.embedded import CLUSTER_ID, PRODUCER, create_topic
from rayfinch.fresh import Message, Names, Original
from rayfinch.marks import Framer

LARGEST = 16 << 20


class ReplayError(RuntimeError):
    """Kafka did not take what was sent."""


@dataclass
class Sent:
    """What a replay has sent; `unreadable` counts packets without a key, which went as they are."""

    messages: int = 0
    bytes: int = 0
    unreadable: int = 0
    seconds: float = 0.0


def messages(
    packets: Iterable[bytes],
    *,
    schemas: Path | None = None,
    fresh_ids: bool = False,
    repeat: int = 1,
    count: int | None = None,
    first: int = 1,
    days: float = 1.0,
) -> Iterator[Message]:
    """The packets in order, `repeat` times over or until there are `count` messages.

    With `fresh_ids` the repetitions are numbered from `first`, and repetition k has identities of its own and
    times later by k * `days` (rayfinch.fresh). Packets are read once, one by one, and only kept when they
    come again. Nothing comes of no packets.
    """
    if repeat < 1 or first < 1 or (count is not None and count < 1):
        raise ValueError("repeat, count and first are at least 1")
    every = _repetitions(packets, schemas, fresh_ids, None if count else repeat, first, days)
    return islice(every, count)


def _repetitions(
    packets: Iterable[bytes],
    schemas: Path | None,
    fresh_ids: bool,
    repeat: int | None,
    first: int,
    days: float,
) -> Iterator[Message]:
    framer, names, kept = Framer(schemas), Names(first), list[Original]()
    for packet in packets:
        original = Original(packet, framer, names)
        if repeat != 1:
            kept.append(original)
        yield original.fresh(first, days) if fresh_ids else original.message()
    repetition = first + 1
    while kept and (repeat is None or repetition < first + repeat):
        for original in kept:
            yield original.fresh(repetition, days) if fresh_ids else original.message()
        repetition += 1


def replay(
    stream: Iterable[Message],
    bootstrap: str,
    topic: str,
    *,
    rate: float | None = None,
    kafka: Mapping[str, Any] | None = None,
    partitions: int = 1,
    progress: Callable[[Sent], None] | None = None,
    wait_s: float = 20.0,
) -> Sent:
    """Send `stream` to `topic`, and wait until Kafka has all of it.

    `rate` is in messages a second (None: as fast as Kafka takes them). The topic is made, with `partitions`
    partitions, where it does not exist. A message's key is its object's id, so that alerts of one object keep
    their order; its Kafka time is when it is sent. `kafka` holds settings of librdkafka that overrule ours.
    `progress` is called a few times a second, and at the end.

    Raises ReplayError when the cluster cannot be reached in `wait_s` seconds, or does not take a message.
    """
    from confluent_kafka import KafkaError, KafkaException, Producer

    settings = {**(kafka or {}), "bootstrap.servers": bootstrap}
    try:
        create_topic(bootstrap, topic, partitions, kafka, wait_s)
        producer = Producer({**_defaults(settings), **settings})
    except KafkaException as error:
        raise ReplayError(f"cannot send to {topic!r} at {bootstrap}: {error.args[0].str()}") from error
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: object) -> None:
        if error is not None:
            failures.append(error)

    sent, begin = Sent(), time.perf_counter()
    shown = begin
    try:
        for message in stream:
            if rate:
                _wait_until(begin + sent.messages / rate, producer)
            while True:
                try:
                    producer.produce(topic, value=message.value, key=message.key, on_delivery=delivered)
                    break
                except BufferError:
                    producer.poll(0.05)  # the queue is full: Kafka is slower than we are
            producer.poll(0)
            if failures:
                break
            sent.messages += 1
            sent.bytes += len(message.value)
            sent.unreadable += message.key is None
            if progress and time.perf_counter() - shown > 0.2:
                shown = time.perf_counter()
                progress(sent)
    except KafkaException as error:
        failures.append(error.args[0])
    finally:
        left = producer.flush(30)
    sent.seconds = time.perf_counter() - begin
    if failures:
        raise ReplayError(
            f"{bootstrap} did not take message {sent.messages} for {topic!r}: {failures[0].str()}"
        )
    if left:
        raise ReplayError(
            f"{bootstrap} has not taken {left} of {sent.messages} messages for {topic!r} after 30 s"
        )
    if progress:
        progress(sent)
    return sent


def _wait_until(due: float, producer: Any) -> None:
    while (wait := due - time.perf_counter()) > 0:
        producer.poll(min(wait, 0.1))


def _defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Our settings of librdkafka, unless they are overruled: in order, once each, packets up to 16 MiB."""
    from confluent_kafka.admin import AdminClient

    ours = {"message.max.bytes": LARGEST, "linger.ms": 5, "queue.buffering.max.kbytes": 256 << 10}
    cluster = AdminClient({**settings, "log_level": 0}).list_topics(timeout=20).cluster_id or ""
    return {
        **ours,
        **(PRODUCER if cluster.startswith(CLUSTER_ID) else IDEMPOTENT),
    }
