"""Check packets: each by the fast path and by the reference, compared field by field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from broker.packets import columnar, container, reference, schema
from broker.packets.cutouts import image, reference_image
from broker.packets.decode import Decoded, decode, decode_reference
from broker.packets.survey import PacketError, SchemaSource, Survey, surveys

_AT_A_TIME = 256


@dataclass
class Report:
    """What a check found. unreadable and mismatched: name of the packet -> why."""

    packets: int = 0
    decoded: int = 0
    mismatched: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    surveys: Counter[str] = field(default_factory=Counter)
    schemas: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        return not self.mismatched and not self.unreadable

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the numbers, and each fault by the packet's name."""
        return {
            "packets": self.packets,
            "decoded": self.decoded,
            "mismatched": len(self.mismatched),
            "unreadable": len(self.unreadable),
            "mismatches": self.mismatched,
            "reasons": self.unreadable,
            "surveys": dict(sorted(self.surveys.items())),
            "schemas": dict(sorted(self.schemas.items())),
            "counts": dict(sorted(self.counts.items())),
        }


def check(packets: Iterable[tuple[str, bytes]], schemas: SchemaSource | None = None) -> Iterator[Report]:
    """Check named packets of any mixture of surveys; yield the same, growing report after each few hundred."""
    report = Report()
    packets = iter(packets)
    while some := list(islice(packets, _AT_A_TIME)):
        report.packets += len(some)
        groups: dict[str, tuple[Survey, list[tuple[str, bytes]]]] = {}
        for name, packet in some:
            try:
                survey = survey_of(packet, schemas)
            except PacketError as error:
                report.unreadable[name] = str(error)
            else:
                groups.setdefault(survey.name, (survey, []))[1].append((name, packet))
        for survey, group in groups.values():
            _check_group(survey, group, schemas, report)
        yield report
    if not report.packets:
        yield report


def survey_of(packet: bytes, schemas: SchemaSource | None) -> Survey:
    """The survey whose packet it is, by its top-level fields. Raises PacketError."""
    datum = container.split(packet, schemas)
    fields = frozenset(f["name"] for f in columnar.inlined(datum.schema.json)["fields"])
    for survey in surveys():
        if survey.recognises(fields):
            return survey
    raise PacketError(f"of no known survey: its fields are {', '.join(sorted(fields)[:8])}, ...")


def _check_group(
    survey: Survey, group: list[tuple[str, bytes]], schemas: SchemaSource | None, report: Report
) -> None:
    names = [name for name, _ in group]
    packets = [packet for _, packet in group]
    fast = decode(survey, packets, schemas, cutouts=True)
    slow = decode_reference(survey, packets, schemas, cutouts=True)
    report.surveys[survey.name] += len(group)
    report.counts.update(fast.counts)
    report.schemas.update(f"{survey.name} {value}" for value in fast.alerts["packet_schema"].to_pylist())
    fast_rows, slow_rows = _rows(fast), _rows(slow)
    for i, name in enumerate(names):
        if i in fast_rows and i in slow_rows:
            report.decoded += 1
            datum = survey.split(packets[i], schemas)
            differing = _compare(fast_rows[i], slow_rows[i], datum.schema.json, datum.body)
            if differing:
                report.mismatched[name] = f"not alike: {', '.join(differing)}"
        elif i in fast_rows or i in slow_rows:
            one = "the fast path" if i in fast_rows else "the reference"
            reasons = {f.index: f.reason for f in [*fast.failures, *slow.failures]}
            report.mismatched[name] = f"only {one} decodes it: {reasons[i]}"
        else:
            report.unreadable[name] = next(f.reason for f in fast.failures if f.index == i)


def _rows(decoded: Decoded) -> dict[int, dict[str, Any]]:
    """Packet's index -> the row, its tensors as arrays."""
    cutouts = decoded.alerts["cutouts"].combine_chunks()
    pixels = cutouts.to_numpy_ndarray() if len(cutouts) else np.empty(0)
    rows = decoded.alerts.drop(["cutouts"]).to_pylist()
    return {
        int(i): {**row, "cutouts": pixels[k]}
        for k, (i, row) in enumerate(zip(decoded.index, rows, strict=True))
    }


def _compare(fast: dict[str, Any], slow: dict[str, Any], schema_json: str, body: bytes) -> list[str]:
    """Names of what is not the same by both ways; bits of floats included, NaN alike to NaN."""
    differing = [path for name in slow for path in _differences(name, fast.get(name), slow[name])]
    if schema.datum(fast) != body:
        differing.append("the datum rebuilt from packet, packet_cuts and cutouts")
    # Of the fields that have no column of the alert table, too; and every stamp's bits as they are
    whole = _plain(columnar.decode(schema_json, [body]).row(0, named=True))
    true = _plain(reference.frame(schema_json, [reference.read_datum(schema_json, body)]).row(0, named=True))
    differing += _differences("packet", whole, true)
    for name in schema.CUTOUTS:
        stamp = fast[name]
        if stamp and image(stamp).tobytes() != reference_image(stamp).tobytes():
            differing.append(f"pixels of {name}")
    return differing


def _plain(value: Any) -> Any:
    return value.as_py() if isinstance(value, pa.Scalar) else value


def _differences(path: str, a: Any, b: Any) -> Iterator[str]:
    """The paths below which two values of dicts, lists, arrays and scalars differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in {**a, **b}:
            yield from _differences(f"{path}.{key}", a.get(key), b.get(key))
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _differences(f"{path}[{i}]", x, y)
    elif isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        if not np.array_equal(a, b, equal_nan=True):
            yield path
    elif not (a == b or (a != a and b != b)):
        yield path
