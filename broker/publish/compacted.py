"""Reading a compacted topic of one partition up to its end, committed records only."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from broker.kafka import RECONNECT

# librdkafka's own messages, which otherwise go to stderr.
LOG = logging.getLogger("rayfinch.kafka")

# Settings of a producer that a consumer would only warn of.
PRODUCER_ONLY = (
    "transactional.id",
    "transaction.timeout.ms",
    "enable.idempotence",
    "acks",
    "linger.ms",
    "batch.size",
    "batch.num.messages",
    "compression.type",
    "compression.codec",
    "compression.level",
    "partitioner",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "delivery.report.only.error",
    "queue.buffering.max.messages",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.ms",
    "message.send.max.retries",
    "retries",
    "sticky.partitioning.linger.ms",
)

# What a server says of a topic that is new, or that it has just taken over.
_PASSING = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
}


def client_settings(kafka: Mapping[str, Any]) -> dict[str, Any]:
    """The librdkafka settings of `kafka` that any client takes."""
    return {**RECONNECT, **{name: value for name, value in kafka.items() if name not in PRODUCER_ONLY}}


def offsets(kafka: Mapping[str, Any], topic: str, timeout_s: float) -> tuple[int, int]:
    """The first and the end offset of partition 0, open transactions included.

    Raises KafkaException where there is no such topic, or no answer within `timeout_s`. A topic that seems to
    be missing is asked for until then: a server that has just started may not know it yet, and to take a
    marker for absent would publish its batch twice.
    """
    admin = AdminClient(client_settings(kafka), logger=LOG)
    deadline = time.monotonic() + timeout_s
    found: list[int] = []
    for spec in (OffsetSpec.earliest(), OffsetSpec.latest()):
        while True:
            left = max(deadline - time.monotonic(), 5)  # a new connection takes its time
            partition = TopicPartition(topic, 0)
            future = admin.list_offsets(
                {partition: spec}, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=left
            )[partition]
            try:
                found.append(future.result().offset)
                break
            except KafkaException as error:
                if error.args[0].code() not in _PASSING or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
    return found[0], found[1]


def read(
    kafka: Mapping[str, Any], topic: str, first: int, end: int, timeout_s: float, *, whole: bool = True
) -> dict[bytes, bytes]:
    """The latest committed value of each key in [first, end) of partition 0.

    Records behind a transaction that is still open are not to be had before it ends: it is waited for, unless
    `whole` is false. Raises TimeoutError after `timeout_s`.
    """
    latest: dict[bytes, bytes] = {}
    if first >= end:
        return latest
    consumer = Consumer(
        {
            **client_settings(kafka),
            "group.id": f"rayfinch-{uuid4()}",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 20,  # the end of the topic is seen only after a fetch that finds nothing
        },
        logger=LOG,
    )
    deadline = time.monotonic() + timeout_s
    try:
        consumer.assign([TopicPartition(topic, 0, first)])
        while time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is None:
                continue
            error = message.error()
            # The last one may be a transaction's control record, which is never delivered: EOF tells of it.
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                if (message.offset() or 0) >= end or not whole:
                    return latest
                continue
            if error is not None:
                if error.fatal() or not error.retriable():
                    raise KafkaException(error)
                continue
            key, value, offset = message.key(), message.value(), message.offset()
            assert isinstance(key, bytes)  # a compacted topic refuses records without a key
            assert offset is not None  # it came from the cluster
            if value is None:
                latest.pop(key, None)
            else:
                latest[key] = value
            if offset >= end - 1:
                return latest
    finally:
        consumer.close()
    raise TimeoutError(
        f"topic {topic} could not be read to its end (offset {end}) within {timeout_s:.0f} s: "
        "a transaction of another stream may still be open, or the cluster does not answer"
    )
