"""The Avro schemas of what is published, made from the schemas of what was received.

An Avro record is its fields in order, so the original datum followed by our fields' bytes is a datum of the
original schema with our fields appended. Names are resolved and written out (name and namespace) so that the
result means the same to every Avro library; defaults that contradict their type, as many of ZTF's do, are
left out, because Java refuses them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from broker.publish.outputs import Packet

PRIMITIVES = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}
NAMED = {"record", "error", "enum", "fixed"}
NAMESPACE = "rayfinch"

_INGESTED = {"type": "long", "logicalType": "timestamp-micros"}


@dataclass(frozen=True)
class OutputSchema:
    """A published schema.

    id: 16 hex digits, of the JSON's SHA-256.
    runs: of a packet without cutouts, the groups of consecutive fields of the original record up to the last
        change, each with whether it is kept and its schema (JSON), by which its length in a datum is found;
        what follows them is kept where `keeps_rest`.
    """

    id: str
    json: str
    runs: tuple[tuple[bool, str], ...] = ()
    keeps_rest: bool = True


def _finish(schema: dict[str, Any], **more: Any) -> OutputSchema:
    text = json.dumps(schema, separators=(",", ":"), ensure_ascii=False)
    return OutputSchema(hashlib.sha256(text.encode()).hexdigest()[:16], text, **more)


@lru_cache(maxsize=256)
def extended(writer: str, survey: str, packet: Packet) -> OutputSchema:
    """The schema of a `full` or `no-cutouts` packet whose original datum was written with `writer` (JSON).

    Raises ValueError where `writer` is not a record's schema.
    """
    try:
        top = json.loads(writer)
    except ValueError as error:
        raise ValueError(f"a writer schema of {survey} is not JSON: {error}") from error
    if not isinstance(top, dict) or top.get("type") != "record":
        raise ValueError(f"a writer schema of {survey} is not a record: {writer[:80]}")
    top = _absolute(top, "")
    definitions = {d["name"]: d for d in _definitions(top)}
    keep = [packet == "full" or not is_cutout(f, definitions) for f in top["fields"]]

    space = f"{NAMESPACE}.{survey}"
    name = "alert" if packet == "full" else "alert_without_cutouts"
    writing = _Writing(definitions, {top["name"]: f"{space}.{name}"}, space)
    kept = [f for f, k in zip(top["fields"], keep, strict=True) if k]
    record = writing.record({**top, "fields": kept})
    taken = {f["name"] for f in top["fields"]}
    for field in _own_fields(set(definitions)):
        record["fields"].append({**field, "name": _free(field["name"], taken)})
    if packet == "full":
        return _finish(record)

    groups: list[tuple[bool, list[dict[str, Any]]]] = []
    for field, k in zip(top["fields"], keep, strict=True):
        if not groups or groups[-1][0] != k:
            groups.append((k, []))
        groups[-1][1].append(field)
    runs = tuple(
        (k, json.dumps(_Writing(definitions, {}, space).record({**top, "fields": fields})))
        for k, fields in groups[:-1]
    )
    return _finish(record, runs=runs, keeps_rest=groups[-1][0] if groups else True)


@lru_cache(maxsize=32)
def slim(aliases: tuple[tuple[str, str], ...] = ()) -> OutputSchema:
    """The schema of a slim packet; `aliases` are fields (name, type) with a survey's names of ids."""
    fields: list[dict[str, Any]] = [
        {"name": "survey", "type": "string"},
        {"name": "alert_id", "type": "long"},
        {"name": "object_id", "type": "string"},
        {"name": "mjd", "type": "double", "doc": "TAI, middle of the exposure"},
        {"name": "ra", "type": "double", "doc": "deg, ICRS"},
        {"name": "dec", "type": "double", "doc": "deg, ICRS"},
        {"name": "band", "type": "string"},
        {"name": "flux", "type": ["null", "double"], "default": None, "doc": "nJy, difference flux, signed"},
        {"name": "flux_err", "type": ["null", "double"], "default": None, "doc": "nJy"},
        {"name": "rights", "type": "string"},
        *_own_fields(set()),
        *({"name": name, "type": type_} for name, type_ in aliases),
    ]
    return _finish({"type": "record", "name": "slim", "namespace": NAMESPACE, "fields": fields})


def _own_fields(taken: set[str]) -> list[dict[str, Any]]:
    """The fields that we append, in the order in which broker.publish.encode writes them."""
    probability = {
        "type": "record",
        "name": _free("class_probability", taken, NAMESPACE),
        "namespace": NAMESPACE,
        "fields": [{"name": "class", "type": "string"}, {"name": "probability", "type": "float"}],
    }
    score = {
        "type": "record",
        "name": _free("score", taken, NAMESPACE),
        "namespace": NAMESPACE,
        "doc": "What a version of a model says of the alert; no classes, and the reason, where it failed",
        "fields": [
            {"name": "model", "type": "string"},
            {"name": "version", "type": "string"},
            {"name": "top_class", "type": ["null", "string"], "default": None},
            {
                "name": "probability",
                "type": ["null", "float"],
                "default": None,
                "doc": "of top_class, calibrated",
            },
            {"name": "classes", "type": {"type": "array", "items": probability}},
            {"name": "reason", "type": ["null", "string"], "default": None},
        ],
    }
    return [
        {"name": "rayfinch_ingested_at", "type": ["null", _INGESTED], "default": None},
        {"name": "rayfinch_scores", "type": {"type": "array", "items": score}, "default": []},
    ]


def _free(name: str, taken: set[str], space: str = "") -> str:
    """`name`, with a number behind it if that is taken already (a packet that another Rayfinch published)."""
    prefix = f"{space}." if space else ""
    if prefix + name not in taken:
        return name
    return next(f"{name}_{n}" for n in range(2, 1000) if f"{prefix}{name}_{n}" not in taken)


def is_cutout(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> bool:
    """Whether a top-level field is a stamp: called cutout or stamp, and made of bytes."""
    name = field["name"].lower()
    return ("cutout" in name or "stamp" in name) and _has_bytes(field["type"], definitions, set())


def _has_bytes(node: Any, definitions: Mapping[str, Any], seen: set[str]) -> bool:
    if isinstance(node, list):
        return any(_has_bytes(branch, definitions, seen) for branch in node)
    if isinstance(node, str):
        if node in definitions and node not in seen:
            return _has_bytes(definitions[node], definitions, seen | {node})
        return node == "bytes"
    if node["type"] in ("record", "error"):
        return any(_has_bytes(f["type"], definitions, seen | {node["name"]}) for f in node["fields"])
    if node["type"] in ("array", "map"):
        return _has_bytes(node.get("items", node.get("values")), definitions, seen)
    return (
        _has_bytes(node["type"], definitions, seen) if node["type"] not in NAMED else node["type"] == "fixed"
    )


def _absolute(node: Any, space: str) -> Any:
    """A copy in which every name and reference is a full name and no `namespace` is left."""
    if isinstance(node, list):
        return [_absolute(branch, space) for branch in node]
    if isinstance(node, str):
        return node if node in PRIMITIVES or "." in node or not space else f"{space}.{node}"
    node = dict(node)
    if node["type"] in NAMED:
        if "." not in node["name"]:
            space = node.get("namespace", space)
            node["name"] = f"{space}.{node['name']}" if space else node["name"]
        node.pop("namespace", None)
        inner = node["name"].rpartition(".")[0]
        if "fields" in node:
            node["fields"] = [{**f, "type": _absolute(f["type"], inner)} for f in node["fields"]]
    elif node["type"] in ("array", "map"):
        item = "items" if node["type"] == "array" else "values"
        node[item] = _absolute(node[item], space)
    else:
        node["type"] = _absolute(node["type"], space)
    return node


def _definitions(node: Any) -> Iterable[dict[str, Any]]:
    """All named types in a schema of full names."""
    if isinstance(node, list):
        for branch in node:
            yield from _definitions(branch)
    elif isinstance(node, dict):
        if node["type"] in NAMED:
            yield node
            for field in node.get("fields", ()):
                yield from _definitions(field["type"])
        else:
            yield from _definitions(node.get("items", node.get("values", node["type"])))


class _Writing:
    """Writes a schema of full names again: each definition at its first use, whatever was taken away before.

    names: new full names of some types. Types without a namespace get `space`, since inside a record that has
    one they could not be told from that record's neighbours.
    """

    def __init__(self, definitions: Mapping[str, Any], names: dict[str, str], space: str):
        self.definitions, self.names, self.space, self.written = definitions, names, space, set[str]()

    def record(self, node: Mapping[str, Any]) -> dict[str, Any]:
        name = self._name(node["name"])
        self.written.add(node["name"])
        space, _, short = name.rpartition(".")
        out = {**node, "name": short, "namespace": space}
        if "fields" in node:
            out["fields"] = [self._field(f) for f in node["fields"]]
        return out

    def _name(self, full: str) -> str:
        return self.names.get(full) or (full if "." in full else f"{self.space}.{full}")

    def _field(self, field: Mapping[str, Any]) -> dict[str, Any]:
        out = {**field, "type": self._type(field["type"])}
        if "default" in out and not _fits(out["default"], field["type"]):
            del out["default"]
        return out

    def _type(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self._type(branch) for branch in node]
        if isinstance(node, str):
            if node in PRIMITIVES:
                return node
            if node not in self.definitions:
                raise ValueError(f"a writer schema refers to {node!r}, which it does not define")
            return self._name(node) if node in self.written else self.record(self.definitions[node])
        if node["type"] in NAMED:
            return self._name(node["name"]) if node["name"] in self.written else self.record(node)
        if node["type"] in ("array", "map"):
            item = "items" if node["type"] == "array" else "values"
            return {**node, item: self._type(node[item])}
        return {**node, "type": self._type(node["type"])}


_JSON_TYPES: dict[str, type | tuple[type, ...]] = {
    "null": type(None),
    "boolean": bool,
    "int": int,
    "long": int,
    "float": (int, float),
    "double": (int, float),
    "bytes": str,
    "string": str,
    "enum": str,
    "fixed": str,
    "array": list,
    "map": dict,
    "record": dict,
}


def _fits(default: Any, node: Any) -> bool:
    """Whether a default is one of its type; of a union, of its first branch (Avro 1.11, "Unions")."""
    while isinstance(node, list):
        node = node[0]
    while isinstance(node, dict):
        node = node["type"]
    if isinstance(default, bool) and node != "boolean":
        return False
    return isinstance(default, _JSON_TYPES.get(node, object))
