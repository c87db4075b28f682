"""Mutations of the schema that a container brings along."""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any

from broker.packets.container import long
from rayfinch.fuzz.blind import flip
from rayfinch.fuzz.packet import Base, container


def damaged_schema(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """The schema's text with a few bytes changed."""
    return container(flip(base.schema.encode(), rng.randrange(1, 5), rng), base.edited([], alert_id))


def altered_schema(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """A valid schema that says something else: a field of another type or name, one gone, two exchanged."""
    schema = json.loads(base.schema)
    records = [node for node in _records(schema) if node["fields"]]
    fields = rng.choice(records)["fields"]
    field = rng.choice(fields)
    what = rng.randrange(6)
    if what == 0:
        field["type"] = rng.choice(("null", "int", "long", "float", "double", "string", "bytes", "boolean"))
    elif what == 1:
        field["name"] = rng.choice(("candid", "x" * 300, "", "1", "a b", "rayfinch_guard", "source", "é"))
    elif what == 2:
        fields.remove(field)
    elif what == 3:
        rng.shuffle(fields)
    elif what == 4:
        field["type"] = {"type": "array", "items": field["type"]}
    else:
        fields.append({"name": field["name"], "type": "null"})
    return container(json.dumps(schema).encode(), base.edited([], alert_id))


def wide_array(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """A field more: an array of very many nothings, each a byte, with room for a record of many fields."""
    schema = json.loads(base.schema)
    fields = [{"name": f"f{i}", "type": "double"} for i in range(rng.choice((4, 40, 400)))]
    wide = {"type": "record", "name": "wide", "fields": fields}
    schema["fields"].append({"name": "wide", "type": {"type": "array", "items": ["null", wide]}})
    n = rng.choice((1 << 10, 1 << 17, 1 << 20))
    return container(json.dumps(schema).encode(), base.edited([], alert_id) + long(n) + bytes(n + 1))


def foreign_schema(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """A schema of something else altogether, or of nothing."""
    return container(rng.choice(_schemas()), rng.choice((b"", b"\0" * 200, base.edited([], alert_id))))


def _records(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, list):
        return [found for branch in node for found in _records(branch)]
    if not isinstance(node, dict):
        return []
    inner = [found for key in ("type", "items", "values") for found in _records(node.get(key))]
    if node.get("type") == "record":
        return [node, *(found for f in node["fields"] for found in _records(f["type"]))]
    return inner


@cache
def _schemas() -> tuple[bytes, ...]:
    """Schemas of other things, and such as no reader should follow."""

    def record(*fields: Any) -> Any:
        return {
            "type": "record",
            "name": "alert",
            "fields": [{"name": f"f{i}", "type": t} for i, t in enumerate(fields)],
        }

    deep: Any = "long"
    for _ in range(400):
        deep = {"type": "array", "items": deep}
    twice: Any = "long"
    for i in range(24):
        twice = {"type": "record", "name": f"r{i}", "fields": [{"name": n, "type": twice} for n in "ab"][:2]}
        twice["fields"][1]["type"] = twice["fields"][0]["type"] if i == 0 else f"r{i - 1}"
    list_of_itself = {
        "type": "record",
        "name": "alert",
        "fields": [{"name": "next", "type": ["null", "alert"]}, {"name": "candid", "type": "long"}],
    }
    itself = {"type": "record", "name": "alert", "fields": [{"name": "me", "type": "alert"}]}
    schemas = [
        record("string", "long"),
        record({"type": "array", "items": "null"}, "long"),
        record({"type": "array", "items": {"type": "fixed", "name": "none", "size": 0}}),
        record({"type": "fixed", "name": "huge", "size": 2**40}),
        record({"type": "fixed", "name": "less", "size": -1}),
        record(["null", "int", "string", "double"] * 100),
        record({"type": "map", "values": "string"}),
        record({"type": "bytes", "logicalType": "decimal", "precision": 10**6, "scale": 3}),
        record({"type": "enum", "name": "e", "symbols": []}),
        record(deep),
        record(*["long"] * 5000),
        record("no.such.type"),
        record([]),
        record([["null", "long"], "string"]),
        {"type": "record", "name": "outer", "fields": [{"name": "candidate", "type": twice}]},
        list_of_itself,
        itself,
        "long",
        ["null", "long"],
        [],
        {},
        {"type": "record"},
        {"type": "record", "name": "alert", "fields": []},
        {"type": "error", "name": "alert", "fields": [{"name": "candid", "type": "long"}]},
        7,
        None,
    ]
    written = [json.dumps(schema).encode() for schema in schemas]
    return (*written, b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"type":' * 5000, b" " * 100_000)
