"""The original datum of an archived alert, whole or without its cutouts, with few copies."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa

from broker.packets.schema import CUTOUTS
from broker.publish.schemas import OutputSchema

Bytes = bytes | memoryview


def views(column: pa.Array) -> list[memoryview | None]:
    """The values of a binary column without copying them."""
    column = column.cast(pa.large_binary())
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1].tolist()
    bytes_ = memoryview(b"" if data is None else data).cast("B")
    valid = column.is_valid().to_pylist()
    return [bytes_[a:b] if v else None for v, (a, b) in zip(valid, pairwise(ends), strict=True)]


def datum(packet: memoryview | None, cuts: Sequence[int], stamps: Sequence[memoryview | None]) -> list[Bytes]:
    """The pieces of the datum as it was received: the stamps put back at `cuts` (see schema.ALERTS).

    The same as broker.packets.schema.datum, but for the copies. Raises ValueError where a stamp is missing.
    """
    if packet is None:
        raise ValueError("it has no packet")
    pieces: list[Bytes] = []
    taken = length = 0
    for at, k in sorted((at, k) for k, at in enumerate(cuts) if at >= 0):
        stamp = stamps[k]
        if stamp is None:
            raise ValueError(f"it lacks the {CUTOUTS[k]} that its packet had")
        head = packet[taken : taken + at - length]
        taken += len(head)
        length += len(head) + len(stamp)
        pieces += (head, stamp)
    pieces.append(packet[taken:])
    return pieces


def without_cutouts(datum: bytes, schema: OutputSchema) -> list[Bytes]:
    """The pieces of a datum that are not cutouts: its fields' ends are found by skipping over them."""
    view, stream, at = memoryview(datum), io.BytesIO(datum), 0
    pieces: list[Bytes] = []
    for keep, fields in schema.runs:
        fastavro.schemaless_reader(stream, *_skipping(fields))
        end = stream.tell()
        if keep:
            pieces.append(view[at:end])
        at = end
    if schema.keeps_rest:
        pieces.append(view[at:])
    return pieces


@lru_cache(maxsize=256)
def _skipping(fields: str) -> tuple[Any, Any]:
    """A record's schema, and that of the same record without fields: read with both, all is skipped."""
    schema = json.loads(fields)
    return fastavro.parse_schema(schema), fastavro.parse_schema({**schema, "fields": []})
