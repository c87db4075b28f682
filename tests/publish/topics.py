"""Kafka topics as a consumer finds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource

from broker.publish.compacted import client_settings


def messages(kafka: Mapping[str, Any], topic: str, isolation: str = "read_committed") -> list[Message]:
    """All messages of a topic that `isolation` shows, partition by partition."""
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
        consumer.assign([TopicPartition(topic, p, 0) for p in waiting])
        found = []
        while waiting:
            message = consumer.poll(20)
            assert message is not None, f"the end of {topic} does not come"
            if (error := message.error()) is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                waiting.discard(message.partition())
            else:
                found.append(message)
        return sorted(found, key=lambda m: (m.partition(), m.offset()))
    finally:
        consumer.close()


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
