"""Decode many data of one writer schema at once, to columns.

The bodies are joined into one Avro container in memory and read by polars-avro. What it cannot take (named
types that are used by their name, maps) is rewritten first into a schema of the same bytes. A guard, a
`fixed(16)` field that no packet can guess, follows each body: a body that is read too short or too long
moves every guard behind it, so a damaged packet cannot shift its neighbours unseen.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import polars as pl
import pyarrow as pa

# The reader below scan_avro: the wrapper parses the schema again for a lazy frame, 5 to 15 ms a call, where
# this costs 1 ms. (polars-avro has no public name for it.)
from polars_avro._avro_rs import AvroSource

from broker.packets import container
from broker.packets.survey import PacketError

GUARD = "rayfinch_guard"
_GUARD_SIZE = 16
_MOST_AT_ONCE = 512  # data a container: the reader's offsets into strings and stamps have 32 bits
_PRIMITIVES = frozenset(["null", "boolean", "int", "long", "float", "double", "bytes", "string"])
_BYTES = {"null": 0, "float": 4, "double": 8}
_MAX_TYPES = 10_000
_MOST_ROOM = 1 << 30  # bytes in memory of one datum
_KEPT_LOGICAL_TYPES = frozenset(["timestamp-micros", "timestamp-millis"])


class Misaligned(PacketError):
    """A guard is not where it must be: one of the bodies does not follow the schema."""


def decode(schema_json: str, bodies: Sequence[bytes]) -> pl.DataFrame:
    """Decode bare data of one writer schema: one row each, the top-level fields as columns, order kept.

    Raises PacketError (Misaligned, or what the reader says) if any of them cannot be decoded.
    """
    if len(bodies) > _MOST_AT_ONCE:
        pieces = [bodies[at : at + _MOST_AT_ONCE] for at in range(0, len(bodies), _MOST_AT_ONCE)]
        return pl.concat([decode(schema_json, piece) for piece in pieces])
    if (room := max(map(len, bodies), default=0) * unfolding(schema_json)) > _MOST_ROOM:
        raise PacketError(f"it may unfold to {room >> 20:,} MiB, more than the {_MOST_ROOM >> 20:,} allowed")
    secret = os.urandom(_GUARD_SIZE - 8)
    guards = [secret + i.to_bytes(8, "big") for i in range(len(bodies))]
    guarded = [piece for pair in zip(bodies, guards, strict=True) for piece in pair]
    frame = _read(container.join(guarded_schema(schema_json), guarded, len(bodies)), len(bodies))
    if frame.height != len(bodies) or frame[GUARD].to_list() != guards:
        raise Misaligned("the datum does not follow its schema: it ends elsewhere")
    return frame.drop(GUARD)


def _read(joined: bytes, count: int) -> pl.DataFrame:
    """The one batch of all `count` rows. Raises PacketError.

    The reader never returns from a block that holds more bytes than its data need. So it is asked for
    exactly as many rows as there are, returns when it has them, and is not asked again.
    """
    try:
        batches = AvroSource([lambda: io.BytesIO(joined)], False, False).batch_iter(count, None)
        return pl.DataFrame(pl.from_arrow(pa.record_batch(next(iter(batches)))))
    except Exception as error:  # the reader's own errors have no common class
        raise PacketError(f"cannot be decoded with its schema: {error}") from None


@lru_cache(maxsize=64)
def guarded_schema(schema_json: str) -> bytes:
    """The schema as the fast reader takes it, with the guard as its last field."""
    schema = dict(inlined(schema_json))
    guard = {"name": GUARD, "type": {"type": "fixed", "name": GUARD, "size": _GUARD_SIZE}}
    schema["fields"] = [*schema["fields"], guard]
    return json.dumps(schema, separators=(",", ":")).encode()


@lru_cache(maxsize=64)
def inlined(schema_json: str) -> dict[str, Any]:
    """A schema of the same bytes without documentation, defaults, namespaces and references.

    Every record has a name of its own; a map becomes the array of {key, value} that its bytes are. Raises
    PacketError where the JSON is no record schema, or refers to itself (no alert can).
    """
    try:
        schema = _Inliner().inline(json.loads(schema_json), "")
    except PacketError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PacketError(f"its schema cannot be read: {error!r}") from None
    if not isinstance(schema, dict) or schema["type"] != "record":
        raise PacketError("its schema is not of a record")
    return schema


@lru_cache(maxsize=64)
def unfolding(schema_json: str) -> int:
    """How many bytes of columns a byte of a datum can become at most: in arrays of nothing but nulls."""
    return max(1, _unfolding(inlined(schema_json)))


class _Inliner:
    """Walks a schema in the order of its declarations, as Avro's rules of names demand."""

    def __init__(self) -> None:
        self.named: dict[str, Any] = {}
        self.count = 0

    def inline(self, node: Any, namespace: str) -> Any:
        if isinstance(node, list):
            return [self.inline(branch, namespace) for branch in node]
        if isinstance(node, str):
            if node in _PRIMITIVES:
                return node
            qualified = node if "." in node or not namespace else f"{namespace}.{node}"
            declared, inside = self.named.get(qualified) or self.named[node]
            return self.declare(declared, inside)
        kind = node["type"]
        if isinstance(kind, dict | list):
            return self.inline(kind, namespace)
        if kind in ("record", "error", "fixed", "enum"):
            name = node["name"]
            if "." not in name:
                namespace = node.get("namespace", namespace)
                name = f"{namespace}.{name}" if namespace else name
            namespace = name.rpartition(".")[0]
            self.named[name] = (node, namespace)
            return self.declare(node, namespace)
        if kind == "array":
            items = self.inline(node["items"], namespace)
            if not _least(items):
                raise PacketError("its schema has arrays of nothing, of which any packet may hold any number")
            return {"type": "array", "items": items}
        if kind == "map":
            entry = [{"name": "key", "type": "string"}, {"name": "value", "type": node["values"]}]
            record = {"type": "record", "name": "entry", "fields": entry}
            return {"type": "array", "map": True, "items": self.declare(record, namespace)}
        if kind in _PRIMITIVES and node.get("logicalType") in _KEPT_LOGICAL_TYPES:
            return {"type": kind, "logicalType": node["logicalType"]}
        return self.inline(kind, namespace)

    def declare(self, node: dict[str, Any], namespace: str) -> dict[str, Any]:
        self.count += 1
        if self.count > _MAX_TYPES:
            raise PacketError(f"its schema unfolds to more than {_MAX_TYPES:,} types")
        name = f"r{self.count}"
        if node["type"] == "fixed":
            return {"type": "fixed", "name": name, "size": node["size"]}
        if node["type"] == "enum":
            return {"type": "enum", "name": name, "symbols": node["symbols"]}
        fields = [{"name": f["name"], "type": self.inline(f["type"], namespace)} for f in node["fields"]]
        if len({f["name"] for f in fields}) < len(fields):
            raise PacketError("its schema has two fields of the same name in a record")
        return {"type": "record", "name": name, "fields": fields}


def _unfolding(node: Any) -> int:
    if isinstance(node, str):
        return 0
    if isinstance(node, list):
        return max(map(_unfolding, node), default=0)
    if node["type"] == "record":
        return max((_unfolding(f["type"]) for f in node["fields"]), default=0)
    if node["type"] == "array":
        return max(_room(node["items"]) // _least(node["items"]), _unfolding(node["items"]))
    return 0


def _least(node: Any) -> int:
    """The fewest bytes in which a value of the (inlined) type can be encoded."""
    if isinstance(node, str):
        return _BYTES.get(node, 1)
    if isinstance(node, list):
        return 1 + min(map(_least, node), default=0)
    if node["type"] == "record":
        return sum(_least(f["type"]) for f in node["fields"])
    return node["size"] if node["type"] == "fixed" else 1


def _room(node: Any) -> int:
    """About how many bytes a value takes in columns, which have room for a null's fields, too."""
    if isinstance(node, str):
        return 8 if node != "null" else 0
    if isinstance(node, list):
        return sum(map(_room, node))
    if node["type"] == "record":
        return sum(_room(f["type"]) for f in node["fields"])
    return node["size"] if node["type"] == "fixed" else 8
