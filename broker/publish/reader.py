"""How a consumer reads our topics: look the schema up by the header `schema`, decode the value.

schemas = Schemas({"bootstrap.servers": "..."}, "rayfinch")
alert = decode(message, schemas)
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from typing import Any

import fastavro
from confluent_kafka import Message

from broker.publish import compacted
from broker.publish.outputs import Outputs


class UnknownSchema(LookupError):
    """A message names a schema that the cluster's schema topic does not have."""


class Schemas:
    """The published schemas, parsed, by id; read from the compacted topic when an unknown one is asked for.

    kafka: librdkafka settings. prefix: of the topics' names. timeout_s: how long a schema may be missing.
    """

    def __init__(self, kafka: Mapping[str, Any], prefix: str = "rayfinch", *, timeout_s: float = 20):
        self.kafka, self.timeout_s = kafka, timeout_s
        self.topic = Outputs(prefix=prefix).schemas
        self._parsed: dict[str, Any] = {}

    def __getitem__(self, id_: str) -> Any:
        deadline = time.monotonic() + self.timeout_s
        # A transaction becomes visible topic by topic: an alert can be there a little before its schema.
        while id_ not in self._parsed:
            self._read()
            if id_ not in self._parsed and time.monotonic() > deadline:
                raise UnknownSchema(
                    f"topic {self.topic} has no schema {id_}: is this the cluster, and its prefix?"
                )
        return self._parsed[id_]

    def _read(self) -> None:
        first, end = compacted.offsets(self.kafka, self.topic, self.timeout_s)
        for key, value in compacted.read(
            self.kafka, self.topic, first, end, self.timeout_s, whole=False
        ).items():
            self._parsed.setdefault(key.decode(), fastavro.parse_schema(json.loads(value)))


def decode(message: Message, schemas: Schemas | Mapping[str, Any]) -> dict[str, Any]:
    """The alert in a message: the packet's own fields, `rayfinch_ingested_at` and `rayfinch_scores`.

    schemas: parsed schemas by id. Raises UnknownSchema, or ValueError where the message is not one of ours.
    """
    where = f"{message.topic()}[{message.partition()}]@{message.offset()}"
    id_, value = dict(message.headers() or []).get("schema"), message.value()
    if not isinstance(id_, bytes) or value is None:
        raise ValueError(f"the message at {where} has no header 'schema', or no value: it is not an alert")
    alert = fastavro.schemaless_reader(io.BytesIO(value), schemas[id_.decode()], None)
    assert isinstance(alert, dict)  # all of our schemas are records
    return alert
