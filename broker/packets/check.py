"""Check packets: each by the fast path and by the reference, compared field by field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from broker.packets import columnar, container, reference, schema
from broker.packets.cutouts import image, reference_image
from broker.packets.decode import Decoded, decode, decode_reference
from broker.packets.survey import Datum, PacketError, SchemaSource, Survey, WriterSchema, surveys

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
    """Check named packets of any mixture of surveys; yield the growing report after each few hundred."""
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
    both = sorted(fast_rows.keys() & slow_rows.keys())
    data = {i: survey.split(packets[i], schemas) for i in both}
    differing = {i: _compare(fast_rows[i], slow_rows[i], data[i]) for i in both}
    for i, paths in _other_fields(data):
        differing[i] += paths
    report.decoded += len(both)
    refused = {f.index: f.reason for f in [*fast.failures, *slow.failures]}
    for i, name in enumerate(names):
        if i in differing:
            if differing[i]:
                report.mismatched[name] = f"not alike: {', '.join(differing[i])}"
        elif i in slow_rows:
            report.mismatched[name] = f"only the reference decodes it: {refused[i]}"
        else:  # the fast reader may let damage pass, such as a branch that a union does not have
            report.unreadable[name] = refused[i]


def _rows(decoded: Decoded) -> dict[int, dict[str, Any]]:
    """Packet's index -> the row, its tensor as an array."""
    rows = decoded.alerts.drop(["cutouts"]).to_pylist()
    if rows:
        pixels = decoded.alerts["cutouts"].combine_chunks().to_numpy_ndarray()
        for row, image_ in zip(rows, pixels, strict=True):
            row["cutouts"] = image_
    return dict(zip(decoded.index.tolist(), rows, strict=True))


def _compare(fast: dict[str, Any], slow: dict[str, Any], datum: Datum) -> list[str]:
    """Names of what is not the same by both ways in the alert table, the rebuilt datum and the pixels."""
    # Where stamps are cut may differ (two with the same bytes): what counts is the datum that they rebuild
    names = [name for name in slow if name not in ("packet", "packet_cuts")]
    differing = [path for name in names for path in _differences(name, fast.get(name), slow[name])]
    if schema.datum(fast) != datum.body:
        differing.append("the datum rebuilt from packet, packet_cuts and cutouts")
    for name in schema.CUTOUTS:
        stamp = fast[name]
        if stamp and image(stamp).tobytes() != reference_image(stamp).tobytes():
            differing.append(f"pixels of {name}")
    return differing


def _other_fields(data: Mapping[int, Datum]) -> Iterator[tuple[int, list[str]]]:
    """The same of every field of the packets, those that have no column of the alert table included."""
    groups: dict[WriterSchema, list[int]] = {}
    for i, datum in data.items():
        groups.setdefault(datum.schema, []).append(i)
    for writer, indices in groups.items():
        bodies = [data[i].body for i in indices]
        try:
            fast = columnar.decode(writer.json, bodies).to_dicts()
        except PacketError as error:  # one of them went the slow way
            if len(bodies) == 1:
                yield indices[0], [f"the fast path does not take it ({error})"]
                continue
            for i in indices:
                yield from _other_fields({i: data[i]})
            continue
        slow = reference.frame(writer.json, [reference.read_datum(writer.json, b) for b in bodies]).to_dicts()
        for i, a, b in zip(indices, fast, slow, strict=True):
            yield i, list(_differences("packet", a, b))


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
