"""Decode one datum at a time with fastavro: the reference, and the way out for odd or damaged packets."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import fastavro
import polars as pl
import pyarrow as pa

from broker.packets.columnar import inlined
from broker.packets.survey import PacketError

_ARROW = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
}


def read_datum(schema_json: str, body: bytes) -> dict[str, Any]:
    """Decode one bare datum, every byte of it, by its schema as received. Raises PacketError."""
    inlined(schema_json)  # refuses schemas that no datum should be read with
    stream = io.BytesIO(body)
    try:
        datum = fastavro.schemaless_reader(stream, parsed(schema_json), None)
    except PacketError:
        raise
    except Exception as error:  # a mutated datum raises whatever it hits
        what = str(error) or type(error).__name__
        raise PacketError(f"cannot be decoded with its schema: {what}") from None
    if stream.tell() != len(body):
        raise PacketError(f"{len(body) - stream.tell():,} bytes are left over behind the datum")
    if not isinstance(datum, dict):
        raise PacketError("its schema is not of a record")
    return datum


@lru_cache(maxsize=64)
def parsed(schema_json: str) -> Any:
    """fastavro's parsed schema. Raises PacketError."""
    try:
        return fastavro.parse_schema(json.loads(schema_json))
    except Exception as error:  # fastavro raises its own classes, KeyError and TypeError
        raise PacketError(f"its schema cannot be read: {error!r}") from None


def frame(schema_json: str, data: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Columns of decoded data, of the same types as columnar.decode gives. Raises PacketError."""
    try:
        table = pa.Table.from_pylist(
            [_entries(inlined(schema_json), datum) for datum in data], schema=arrow_schema(schema_json)
        )
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise PacketError(f"its values do not fit its schema: {error}") from None
    return pl.DataFrame(pl.from_arrow(table))


@lru_cache(maxsize=64)
def arrow_schema(schema_json: str) -> pa.Schema:
    """The Arrow types of a writer schema. Raises PacketError for unions of more than a type and null."""
    fields = [(f["name"], _arrow(f["type"])) for f in inlined(schema_json)["fields"]]
    return pa.schema(fields)


def _arrow(node: Any) -> pa.DataType:
    if isinstance(node, str):
        return _ARROW[node]
    if isinstance(node, list):
        branches = [branch for branch in node if branch != "null"]
        if len(branches) > 1:
            raise PacketError(f"its schema has a union of {len(branches)} types; one type and null are read")
        return _arrow(branches[0]) if branches else pa.null()
    kind = node["type"]
    if kind == "record":
        return pa.struct([(f["name"], _arrow(f["type"])) for f in node["fields"]])
    if kind == "array":
        return pa.list_(_arrow(node["items"]))
    if kind == "enum":
        return pa.string()
    if kind == "fixed":
        return pa.binary()
    return pa.timestamp("us" if node["logicalType"] == "timestamp-micros" else "ms", "UTC")


def _entries(node: Any, value: Any) -> Any:
    """The value with its maps as lists of {key, value}, which is how the columns have them."""
    if value is None or isinstance(node, str):
        return value
    if isinstance(node, list):
        return _entries(next((branch for branch in node if branch != "null"), "null"), value)
    if node["type"] == "record":
        return {f["name"]: _entries(f["type"], value[f["name"]]) for f in node["fields"]}
    if node["type"] == "array":
        if node.get("map"):
            value = [{"key": key, "value": item} for key, item in value.items()]
        return [_entries(node["items"], item) for item in value]
    return value
