"""The leaves of an Avro datum: where each number, length, branch and count of it stands.

Mutations aim at these: a length that lies is read otherwise than a byte that changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from broker.packets.columnar import inlined
from broker.packets.container import read_long
from broker.packets.survey import PacketError


@dataclass(frozen=True)
class Leaf:
    """datum[start:end]. `kind`: an Avro type's name, `branch` of a union, `count` of an array's block, or
    `length` of what is behind it, up to `reach` (of a count: up to the array's end)."""

    kind: str
    path: tuple[str, ...]  # names of the fields that lead to it
    start: int
    end: int
    reach: int = 0


_Walk = Callable[[bytes, int, list[Leaf]], int]
_SIZES = {"null": 0, "boolean": 1, "float": 4, "double": 8}


def leaves(schema_json: str, datum: bytes) -> list[Leaf]:
    """Every leaf, in the datum's order. Raises PacketError where the datum is none of the schema."""
    found: list[Leaf] = []
    try:
        end = _walk(inlined(schema_json), ())(datum, 0, found)
    except IndexError:
        end = -1
    if end != len(datum):
        raise PacketError("a packet to mutate must be a whole one: its bytes do not fit its schema")
    return found


def _walk(node: Any, path: tuple[str, ...]) -> _Walk:
    if isinstance(node, list):
        return _union([_walk(branch, path) for branch in node], path)
    kind = node if isinstance(node, str) else node["type"]
    if kind == "record":
        return _record([_walk(f["type"], (*path, f["name"])) for f in node["fields"]])
    if kind == "array":
        return _array(_walk(node["items"], path), path)
    if kind == "fixed":
        return _sized("fixed", node["size"], path)
    if kind in ("int", "long", "enum"):
        return _varint(kind, path)
    if kind in ("string", "bytes"):
        return _counted(kind, path)
    return _sized(kind, _SIZES[kind], path)


def _sized(kind: str, size: int, path: tuple[str, ...]) -> _Walk:
    def walk(datum: bytes, at: int, found: list[Leaf]) -> int:
        if size:
            found.append(Leaf(kind, path, at, at + size))
        return at + size

    return walk


def _varint(kind: str, path: tuple[str, ...]) -> _Walk:
    def walk(datum: bytes, at: int, found: list[Leaf]) -> int:
        end = read_long(datum, at)[1]
        found.append(Leaf(kind, path, at, end))
        return end

    return walk


def _counted(kind: str, path: tuple[str, ...]) -> _Walk:
    def walk(datum: bytes, at: int, found: list[Leaf]) -> int:
        size, end = read_long(datum, at)
        found.append(Leaf("length", path, at, end, end + size))
        found.append(Leaf(kind, path, end, end + size))
        return end + size

    return walk


def _union(branches: list[_Walk], path: tuple[str, ...]) -> _Walk:
    def walk(datum: bytes, at: int, found: list[Leaf]) -> int:
        branch, end = read_long(datum, at)
        found.append(Leaf("branch", path, at, end))
        return branches[branch](datum, end, found)

    return walk


def _record(fields: list[_Walk]) -> _Walk:
    def walk(datum: bytes, at: int, found: list[Leaf]) -> int:
        for field in fields:
            at = field(datum, at, found)
        return at

    return walk


def _array(item: _Walk, path: tuple[str, ...]) -> _Walk:
    def walk(datum: bytes, at: int, found: list[Leaf]) -> int:
        while True:
            count, end = read_long(datum, at)
            mark = len(found)
            found.append(Leaf("count", path, at, end))
            if count == 0:
                return end
            if count < 0:
                count, end = -count, read_long(datum, end)[1]
            begin = at
            at = end
            for _ in range(count):
                at = item(datum, at, found)
            found[mark] = Leaf("count", path, begin, end, at)

    return walk
