"""Scores as they leave the house: Avro bytes, and each model's top class."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from broker.publish import avro


@dataclass(frozen=True)
class Top:
    """The class that a model finds likeliest."""

    model: str
    name: str
    probability: float


@dataclass(frozen=True)
class Scored:
    """Of each alert: its field `rayfinch_scores` in Avro, and the top class by each model that has one."""

    encoded: list[bytes]
    tops: list[list[Top]]


def encode_scores(column: pa.ListArray) -> Scored:
    """Encode a column of schema.SCORES, row by row. Raises ValueError where classes lack probabilities."""
    offsets = column.offsets.to_numpy()
    first, end = int(offsets[0]), int(offsets[-1])
    encoded, tops = _entries(column.values.slice(first, end - first))
    out = Scored([], [])
    valid = column.is_valid().to_pylist()
    for is_valid, (a, b) in zip(valid, pairwise((offsets - first).tolist()), strict=True):
        if not is_valid or a == b:
            out.encoded.append(avro.END)
            out.tops.append([])
        else:
            out.encoded.append(b"".join((avro.long(b - a), *encoded[a:b], avro.END)))
            out.tops.append([top for top in tops[a:b] if top is not None])
    return out


def _entries(entries: pa.StructArray) -> tuple[list[bytes], list[Top | None]]:
    """Each score's bytes and top class. A version's scores are alike, and are made together."""
    models, versions, class_lists, reasons = (
        entries.field(name).to_pylist() for name in ("model", "version", "classes", "reason")
    )
    lists = entries.field("probabilities")
    starts = lists.offsets.to_numpy()
    # A null probability among others is no number: NaN in the record, and never the top class.
    values = lists.values.to_numpy(zero_copy_only=False).astype("<f4", copy=False)

    groups = defaultdict[tuple[str, str, tuple[str, ...]], list[int]](list)
    for i, (model, version, classes, has) in enumerate(
        zip(models, versions, class_lists, lists.is_valid().to_pylist(), strict=True)
    ):
        groups[model, version, tuple(classes) if has and classes else ()].append(i)

    encoded: list[bytes] = [b""] * len(entries)
    tops: list[Top | None] = [None] * len(entries)
    for (model, version, classes), rows in groups.items():
        head = avro.string(model) + avro.string(version)
        if not classes:
            for i in rows:
                encoded[i] = head + avro.NULL + avro.NULL + avro.END + avro.optional_string(reasons[i])
            continue
        counts = starts[np.add(rows, 1)] - starts[rows]
        if (counts != len(classes)).any():
            raise ValueError(
                f"model {model} version {version} gave {sorted(set(counts.tolist()))} probabilities "
                f"for its {len(classes)} classes"
            )
        probabilities = values[starts[rows][:, None] + np.arange(len(classes))]
        labels = [avro.string(name) for name in classes]
        lists_ = _class_lists(labels, probabilities)
        best = np.where(np.isnan(probabilities), -np.inf, probabilities).argmax(axis=1)
        highest = probabilities[np.arange(len(rows)), best]
        for i, k, p, raw, list_ in zip(
            rows, best.tolist(), highest.tolist(), _rows(highest[:, None].view(np.uint8)), lists_, strict=True
        ):
            if p == p:
                top = avro.SOME + labels[k] + avro.SOME + raw
                tops[i] = Top(model, classes[k], p)
            else:
                top = avro.NULL + avro.NULL
            encoded[i] = head + top + list_ + avro.optional_string(reasons[i])
    return encoded, tops


def _class_lists(labels: list[bytes], probabilities: np.ndarray) -> list[bytes]:
    """The Avro array of (class, probability) of each row: the same bytes but for the probabilities."""
    template = bytearray(avro.long(len(labels)))
    holes = []
    for label in labels:
        template += label
        holes.append(len(template))
        template += bytes(4)
    template += avro.END
    out = np.tile(np.frombuffer(bytes(template), np.uint8), (len(probabilities), 1))
    raw = np.ascontiguousarray(probabilities).view(np.uint8)
    for k, at in enumerate(holes):
        out[:, at : at + 4] = raw[:, 4 * k : 4 * k + 4]
    return _rows(out)


def _rows(bytes_: np.ndarray) -> list[bytes]:
    """The rows of an array of uint8."""
    data, width = bytes_.tobytes(), bytes_.shape[1]
    return [data[a : a + width] for a in range(0, len(data), width)]
