"""Kafka messages of alerts by a schema that somebody else wrote: Confluent's framing around an Avro datum."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import dataclass
from typing import Any

import fastavro
from fastavro.schema import SchemaParseException

_HEAD = struct.Struct(">bI")
_EMPTY = {"boolean": False, "int": 0, "long": 0, "float": 0.0, "double": 0.0, "string": "", "bytes": b""}


@dataclass(frozen=True)
class WireSchema:
    """A writer schema under its id. `records`: every record of it, by its full name."""

    schema_id: int
    alert: Any
    records: dict[str, Any]

    @classmethod
    def parsed(cls, schema_id: int, text: str) -> WireSchema:
        """Raises ValueError when `text` is no Avro schema of a record."""
        records: dict[str, Any] = {}
        try:
            alert: Any = fastavro.parse_schema(json.loads(text), records)
        except (ValueError, KeyError, TypeError, SchemaParseException) as error:
            raise ValueError(f"schema {schema_id} is no Avro schema: {error}") from None
        if not isinstance(alert, dict) or "fields" not in alert:
            raise ValueError(f"schema {schema_id} is not that of a record")
        return cls(schema_id, alert, records)

    def fields(self) -> set[str]:
        return {field["name"] for field in self.alert["fields"]}

    def message(self, alert: dict[str, Any]) -> bytes:
        """`alert` as it travels, in the shape of the schema (`fit`)."""
        out = io.BytesIO()
        out.write(_HEAD.pack(0, self.schema_id))
        fastavro.schemaless_writer(out, self.alert, self.fit(alert, self.alert))
        return out.getvalue()

    def fit(self, value: Any, kind: Any) -> Any:
        """`value` in the shape of the Avro type `kind`, less what a record there has no field for.

        What is missing is the default or null, else 0 or empty; a flag is false even where it may be null.
        """
        if isinstance(kind, list):
            if value is None and "null" in kind and "boolean" not in kind:
                return None
            return self.fit(value, next(branch for branch in kind if branch != "null"))
        if isinstance(kind, str):
            if kind in self.records:
                return self.fit(value, self.records[kind])
            return _EMPTY.get(kind) if value is None else value
        if kind["type"] == "record":
            given = value or {}
            return {
                f["name"]: self.fit(given.get(f["name"], f.get("default")), f["type"]) for f in kind["fields"]
            }
        if kind["type"] == "array":
            return [self.fit(item, kind["items"]) for item in value or ()]
        return self.fit(value, kind["type"])
