"""The survey's Kafka as the driver sees it: which topics match, and how far each partition reaches."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from broker.kafka import RECONNECT
from broker.stream.planning import Partition

ANSWER_S = 10.0  # how long the cluster may take to answer


class SourceError(RuntimeError):
    """The source does not answer, or answers with an error: worth another try later."""


class KafkaSource:
    """Topics by name or by pattern (`^…`, as in librdkafka), found again every `refresh_s` seconds.

    New topics (a survey's next night), new partitions and recreated topics (a new topic id) show up by
    themselves. Every method raises SourceError when the cluster can't be reached.
    """

    def __init__(self, kafka: Mapping[str, Any], topics: Sequence[str], refresh_s: float = 5.0) -> None:
        self.kafka = dict(kafka)
        self.topics = tuple(topics)
        self.refresh_s = refresh_s
        self._admin = AdminClient({**RECONNECT, **self.kafka})
        self._ids: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._refreshed = -float("inf")

    def matches(self, topic: str) -> bool:
        """Whether `topic` is one of the stream's: named, or matched by a pattern."""
        return any(re.match(t, topic) if t.startswith("^") else t == topic for t in self.topics)

    def topic_ids(self, *, fresh: bool = False) -> dict[str, str]:
        """The matching topics that exist, with their ids."""
        if fresh or time.monotonic() - self._refreshed > self.refresh_s:
            self._refresh()
        return dict(self._ids)

    def partitions(self) -> list[Partition]:
        """Every partition of the matching topics with its end offset (committed transactions only)."""
        ids = self.topic_ids()
        request = {
            TopicPartition(topic, p): OffsetSpec.latest()
            for topic, count in self._counts.items()
            for p in range(count)
        }
        if not request:
            return []
        futures = self._admin.list_offsets(
            request, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=ANSWER_S
        )
        found = []
        for place, future in futures.items():
            try:
                high = future.result(timeout=15).offset
            except KafkaException as error:
                if error.args[0].code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
                    self._refreshed = -float("inf")  # it vanished since the last look
                    continue
                raise SourceError(f"offsets of {place.topic}[{place.partition}]: {error}") from error
            except TimeoutError as error:
                raise SourceError(
                    f"offsets of {place.topic}[{place.partition}]: no answer in 15 s"
                ) from error
            found.append(Partition(place.topic, ids[place.topic], place.partition, high))
        return found

    def _refresh(self) -> None:
        try:
            topics = self._admin.list_topics(timeout=ANSWER_S).topics
            names = sorted(name for name, t in topics.items() if self.matches(name) and t.error is None)
            described = (
                self._admin.describe_topics(TopicCollection(names), request_timeout=ANSWER_S) if names else {}
            )
            ids, counts = {}, {}
            for name, future in described.items():
                try:
                    description = future.result(timeout=15)
                except KafkaException as error:
                    if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                        continue
                    raise
                ids[name] = str(description.topic_id)
                counts[name] = len(description.partitions)
        except (KafkaException, TimeoutError) as error:
            where = self.kafka.get("bootstrap.servers", "?")
            raise SourceError(f"the source at {where} does not answer: {error}") from error
        self._ids, self._counts = ids, counts
        self._refreshed = time.monotonic()
