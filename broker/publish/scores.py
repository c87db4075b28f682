"""Scores as they leave the house: Avro bytes, and each model's top class."""

from __future__ import annotations

from dataclasses import dataclass

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
    """Encode a column of schema.SCORES, row by row."""
    offsets = column.offsets.to_numpy()
    first, end = int(offsets[0]), int(offsets[-1])
    entries = column.values.slice(first, end - first)
    encoded, tops = _entries(entries)
    out = Scored([], [])
    valid = column.is_valid().to_pylist()
    for i, (a, b) in enumerate(zip(offsets[:-1] - first, offsets[1:] - first, strict=True)):
        if not valid[i] or a == b:
            out.encoded.append(avro.END)
            out.tops.append([])
        else:
            out.encoded.append(b"".join((avro.long(int(b - a)), *encoded[a:b], avro.END)))
            out.tops.append([top for top in tops[a:b] if top is not None])
    return out


def _entries(entries: pa.StructArray) -> tuple[list[bytes], list[Top | None]]:
    models, versions, class_lists, reasons = (
        entries.field(name).to_pylist() for name in ("model", "version", "classes", "reason")
    )
    lists = entries.field("probabilities")
    has = lists.is_valid().to_pylist()
    starts = lists.offsets.to_numpy()
    # A null probability among others is no number: NaN in the record, and never the top class.
    values = lists.values.to_numpy(zero_copy_only=False).astype("<f4", copy=False)
    raw = values.tobytes()
    heads: dict[tuple[str, str], bytes] = {}
    names: dict[tuple[str, ...], list[bytes]] = {}

    encoded: list[bytes] = []
    tops: list[Top | None] = []
    for i, (model, version, classes, reason) in enumerate(
        zip(models, versions, class_lists, reasons, strict=True)
    ):
        head = heads.get((model, version))
        if head is None:
            head = heads[model, version] = avro.string(model) + avro.string(version)
        tail = avro.optional_string(reason)
        if not has[i] or not classes:
            encoded.append(head + avro.NULL + avro.NULL + avro.END + tail)
            tops.append(None)
            continue
        key = tuple(classes)
        labels = names.get(key)
        if labels is None:
            labels = names[key] = [avro.string(c) for c in classes]
        a = int(starts[i])
        if int(starts[i + 1]) - a != len(labels):
            raise ValueError(
                f"model {model} version {version} gave {int(starts[i + 1]) - a} probabilities "
                f"for its {len(labels)} classes"
            )
        row = values[a : a + len(labels)]
        best = int(np.argmax(np.where(np.isnan(row), -np.inf, row)))
        pieces = [head]
        if np.isnan(row[best]):
            pieces += [avro.NULL, avro.NULL]
            tops.append(None)
        else:
            pieces += [avro.SOME, labels[best], avro.SOME, raw[4 * (a + best) : 4 * (a + best) + 4]]
            tops.append(Top(model, classes[best], float(row[best])))
        pieces.append(avro.long(len(labels)))
        for k, label in enumerate(labels, a):
            pieces += [label, raw[4 * k : 4 * k + 4]]
        pieces += [avro.END, tail]
        encoded.append(b"".join(pieces))
    return encoded, tops
