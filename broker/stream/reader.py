"""Read exactly the given ranges of offsets: what a task does first.

`ray.data.read_kafka` hangs on a transactional tail and jumps silently where offsets expired; this reader ends
at the range's end whatever stands there (control records, compacted holes), and tells what is missing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from broker.kafka import RECONNECT
from broker.stream.plan import Gap, Range
from broker.stream.source import SourceError

EXPIRED = "the source no longer has these offsets (retention)"


@dataclass
class Packets:
    """What was read, as parallel lists in order of arrival; and the offsets that are gone."""

    values: list[bytes] = field(default_factory=list)
    places: list[tuple[str, str, int, int]] = field(
        default_factory=list
    )  # topic, topic_id, partition, offset
    timestamps: list[int] = field(default_factory=list)  # ms, UTC; as the producer or the broker set it
    gaps: list[Gap] = field(default_factory=list)


_consumers: dict[tuple[int, tuple[tuple[str, str], ...]], Consumer] = {}


def _consumer(kafka: Mapping[str, Any]) -> Consumer:
    """One consumer a worker process and cluster: a new one costs a connection and the metadata."""
    key = (os.getpid(), tuple(sorted(kafka.items())))
    if key not in _consumers:
        defaults = {
            "group.id": "rayfinch-readers",  # never joined: partitions are assigned, nothing is committed
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            # A range ends soon: what is fetched behind its end is thrown away.
            "queued.min.messages": 64,
            "queued.max.messages.kbytes": 16384,
            "fetch.message.max.bytes": 4194304,
            # By default it rests for a second whenever that much is queued: 2.1 s for 500 packets, not 0.03.
            "fetch.queue.backoff.ms": 5,
            "fetch.wait.max.ms": 50,
            "check.crcs": True,
            **RECONNECT,
        }
        _consumers[key] = Consumer({**defaults, **kafka})
    return _consumers[key]


def read(kafka: Mapping[str, Any], ranges: Sequence[Range], *, timeout_s: float = 30.0) -> Packets:
    """Read all of `ranges`. Raises SourceError when nothing arrives for `timeout_s` seconds."""
    consumer = _consumer(kafka)
    found = Packets()
    open_ranges = {(r.topic, r.partition): r for r in ranges if len(r)}
    consumer.assign([TopicPartition(r.topic, r.partition, r.first) for r in open_ranges.values()])
    try:
        last = time.monotonic()
        while open_ranges:
            messages = _next(consumer, min(1.0, timeout_s))
            if messages:
                last = time.monotonic()
            elif time.monotonic() - last > timeout_s:
                r = next(iter(open_ranges.values()))
                raise SourceError(
                    f"nothing arrived for {timeout_s:g} s from {r.topic}[{r.partition}] at {r.first}..{r.end}"
                )
            for message in messages:
                # An error that is the whole cluster's has no place.
                place, offset = (message.topic() or "", message.partition() or 0), message.offset() or 0
                if place not in open_ranges:
                    continue
                r = open_ranges[place]
                error = message.error()
                if error is None:
                    if offset < r.end:
                        found.values.append(message.value() or b"")
                        found.places.append((r.topic, r.topic_id, r.partition, offset))
                        found.timestamps.append(message.timestamp()[1])
                    if offset < r.end - 1:
                        continue
                elif error.code() == KafkaError._PARTITION_EOF:
                    if offset < r.end:
                        continue
                elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                    rest = _skip_expired(consumer, r, found)
                    if rest is not None:
                        open_ranges[place] = rest
                        continue
                elif error.retriable() or error.code() in (
                    KafkaError._TRANSPORT,
                    KafkaError._ALL_BROKERS_DOWN,
                ):
                    continue
                else:
                    raise SourceError(f"{r.topic}[{r.partition}] at {r.first}..{r.end}: {error}")
                del open_ranges[place]
                consumer.incremental_unassign([TopicPartition(*place)])
    finally:
        consumer.unassign()
    return found


def _next(consumer: Consumer, timeout_s: float) -> list[Message]:
    """What has arrived, once anything has. (`consume` would wait for as many messages as are asked for.)"""
    first = consumer.poll(timeout_s)
    return [] if first is None else [first, *consumer.consume(num_messages=500, timeout=0)]


def _skip_expired(consumer: Consumer, r: Range, found: Packets) -> Range | None:
    """Record what is gone at the front of `r`; go on behind it. None when nothing of `r` is left."""
    place = TopicPartition(r.topic, r.partition)
    try:
        low, high = consumer.get_watermark_offsets(place, timeout=10)
    except Exception as error:
        raise SourceError(f"{r.topic}[{r.partition}]: no watermarks: {error}") from error
    if r.first > high:
        low = r.end  # the log is shorter than what was planned: it was truncated or lost
    gone = min(max(low, r.first), r.end)
    if gone > r.first:
        found.gaps.append(Gap(r.topic, r.topic_id, r.partition, r.first, gone, EXPIRED))
    if gone >= r.end:
        return None
    consumer.incremental_unassign([place])  # seek() is refused for a partition whose fetch has failed
    consumer.incremental_assign([TopicPartition(r.topic, r.partition, gone)])
    return Range(r.topic, r.topic_id, r.partition, gone, r.end)
