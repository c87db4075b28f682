"""How a consumer reads our topics: look the schema up by the header `schema`, decode the value.

schemas = Schemas({"bootstrap.servers": "..."}, "rayfinch")
alert = decode(message, schemas)
"""

from __future__ import annotations

import io
import json
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

    kafka: librdkafka settings. prefix: of the topics' names.
    """

    def __init__(self, kafka: Mapping[str, Any], prefix: str = "rayfinch", *, timeout_s: float = 20):
        self.kafka, self.timeout_s = kafka, timeout_s
        self.topic = Outputs(prefix=prefix).schemas
        self._parsed: dict[str, Any] = {}

    def __getitem__(self, id_: str) -> Any:
        if id_ not in self._parsed:
            first, end = compacted.offsets(self.kafka, self.topic, self.timeout_s)
            for key, value in compacted.read(self.kafka, self.topic, first, end, self.timeout_s).items():
                self._parsed.setdefault(key.decode(), fastavro.parse_schema(json.loads(value)))
        if id_ not in self._parsed:
            raise UnknownSchema(
                f"topic {self.topic} has no schema {id_}: is this its cluster, and its prefix?"
            )
        return self._parsed[id_]


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
