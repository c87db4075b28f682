"""Kafka topics as a consumer finds them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid4

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec

from broker.publish.compacted import client_settings


def messages(
    kafka: Mapping[str, Any], topic: str, isolation: str = "read_committed", *, whole: bool = True
) -> list[Message]:
    """All messages of a topic that `isolation` shows, partition by partition.

    A commit returns before its end is written to every partition: unless `whole` is false, transactions that
    are open are waited for.
    """
    consumer = Consumer(
        {
            **client_settings(kafka),
            "group.id": uuid4().hex,
            "enable.partition.eof": True,
            "isolation.level": isolation,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 20,
        }
    )
    try:
        metadata = consumer.list_topics(timeout=10).topics
        if topic not in metadata:
            return []
        waiting = set(metadata[topic].partitions)
        ends = _ends(kafka, topic, waiting) if whole else dict.fromkeys(waiting, 0)
        consumer.assign([TopicPartition(topic, p, 0) for p in waiting])
        found = []
        while waiting:
            message = consumer.poll(20)
            assert message is not None, f"the end of {topic} does not come"
            if (error := message.error()) is None:
                found.append(message)
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error
                partition, offset = message.partition(), message.offset()
                assert partition is not None  # it came from the cluster
                if (offset or 0) >= ends[partition]:
                    waiting.discard(partition)
        return sorted(found, key=lambda m: (m.partition(), m.offset()))
    finally:
        consumer.close()


def _ends(kafka: Mapping[str, Any], topic: str, partitions: Iterable[int]) -> dict[int, int]:
    admin = AdminClient(client_settings(kafka))
    asked = {TopicPartition(topic, p): OffsetSpec.latest() for p in partitions}
    options: dict[str, Any] = {"isolation_level": IsolationLevel.READ_UNCOMMITTED, "request_timeout": 20}
    for _ in range(50):
        try:
            futures = admin.list_offsets(asked, **options)
            return {p.partition: future.result().offset for p, future in futures.items()}
        except KafkaException as error:
            problem = error.args[0]
            if not problem.retriable() and problem.code() != KafkaError.NOT_LEADER_FOR_PARTITION:
                raise
        time.sleep(0.1)  # a topic that was made just now: its partitions have no leader yet
    raise AssertionError(f"the partitions of {topic} have no leader")


def names(kafka: Mapping[str, Any], prefix: str) -> set[str]:
    """The topics that there are, without the prefix."""
    topics = AdminClient(client_settings(kafka)).list_topics(timeout=10).topics
    return {name.removeprefix(f"{prefix}.") for name in topics if name.startswith(prefix)}


def settings(kafka: Mapping[str, Any], topic: str) -> dict[str, str]:
    """A topic's settings as the cluster has them."""
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    admin = AdminClient(client_settings(kafka))
    entries = admin.describe_configs([resource])[resource].result(10)
    return {name: entry.value for name, entry in entries.items()}
