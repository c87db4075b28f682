"""Making our topics with the settings that they need."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from broker.publish.compacted import LOG, client_settings
from broker.publish.outputs import Outputs

MAX_MESSAGE_BYTES = 16 * 1024 * 1024

# A compacted topic that is read whole at every start: small segments, cleaned early.
_COMPACT = {
    "cleanup.policy": "compact",
    "segment.bytes": str(16 * 1024 * 1024),
    "segment.ms": str(3_600_000),
    "min.cleanable.dirty.ratio": "0.1",
    "max.message.bytes": str(MAX_MESSAGE_BYTES),
}


class Topics:
    """The topics that exist, with their numbers of partitions; makes those that are missing."""

    def __init__(self, kafka: Mapping[str, Any], outputs: Outputs, timeout_s: float):
        self.outputs, self.timeout_s = outputs, timeout_s
        self.admin = AdminClient(client_settings(kafka), logger=LOG)
        self.partitions: dict[str, int] = {}

    def ensure(self, names: Iterable[str], producer: Producer) -> None:
        """Make those of `names` that are missing, and wait until `producer` knows all.

        Raises KafkaException where the cluster refuses one, TimeoutError where it does not show it.
        """
        missing = set(names) - self.partitions.keys()
        if not missing:
            return
        self._look(producer, missing)
        missing -= self.partitions.keys()
        if not missing:
            return
        for name, future in self.admin.create_topics(
            [self._new(name) for name in sorted(missing)], operation_timeout=self.timeout_s
        ).items():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise KafkaException(
                        KafkaError(
                            error.args[0].code(),
                            f"topic {name} is missing and could not be made: {error.args[0].str()}",
                        )
                    ) from error
        deadline = time.monotonic() + self.timeout_s
        while missing := missing - self.partitions.keys():
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"topics {', '.join(sorted(missing))} were made but do not appear on the cluster"
                )
            self._look(producer, missing)
            time.sleep(0.02)

    def forget(self) -> None:
        """Look again at the next call: a topic may have been deleted."""
        self.partitions.clear()

    def _look(self, producer: Producer, names: set[str]) -> None:
        # The whole list, since asking for one topic by name would make it with the server's own settings.
        found = producer.list_topics(timeout=self.timeout_s).topics
        for name in names & found.keys():
            if found[name].error is None and found[name].partitions:
                self.partitions[name] = len(found[name].partitions)

    def _new(self, name: str) -> NewTopic:
        outputs = self.outputs
        if name in (outputs.schemas, outputs.batches):
            return NewTopic(name, 1, outputs.replication, config=_COMPACT)
        config = {"max.message.bytes": str(MAX_MESSAGE_BYTES), **outputs.topic_config}
        return NewTopic(name, outputs.partitions, outputs.replication, config=config)
