"""Packets to the alert table: many at a time by columns, and packet by packet where a block will not go.

A packet that is no alert becomes a Failure with its reason; its neighbours go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from broker.packets import columnar, reference
from broker.packets.cutouts import CUTOUT_COLUMNS, BadStamp, check_stamp, cut_all, stamps
from broker.packets.panics import told_panics
from broker.packets.rows import alert_rows
from broker.packets.schema import CUTOUTS
from broker.packets.slim import cut_out, put_back, slim
from broker.packets.survey import Datum, PacketError, SchemaSource, Survey, UnsuitedSchema, WriterSchema
from broker.packets.union import concatenated
from broker.packets.watchdog import watchdog

WATCHDOG_S = 20.0
# A block that failed is halved down to this size; then its unreadable packets are sorted out, a third of a
# millisecond each. What fails without them is halved down to the second size and read one packet at a time.
_SIFT = 64
_HALVE_TO = 4
# Bytes of a datum above which only columns read it: as Python's objects it would be fifty times as big.
_LARGE = 1 << 18
# Fingerprints of schemas by which a packet was read in this process.
_trusted: set[str] = set()
_TRUSTED_MAX = 1024
_NOT_UNDERSTOOD = "its values cannot be understood: {}"

# The rows that are alerts, their positions in the block, and why the others are none.
_Rows = tuple[pa.Table, list[int], dict[int, str]]


@dataclass(frozen=True)
class Failure:
    """A packet that is no alert: its index among the packets given, and why, in a sentence."""

    index: int
    reason: str


@dataclass(frozen=True)
class Decoded:
    """What came of some packets.

    alerts: the columns of schema.ALERTS (ingested_at, topic, partition and offset are null), and the
        in-flight ones where they were asked for; a row for each packet that is an alert, in their order.
    index: int64, the index among the packets of each row.
    failures: the other packets, by index.
    schemas: packet_schema -> the writer schema's JSON.
    counts: what was out of the ordinary: slow_packets (read one at a time), and with cutouts edge_stamps,
        missing_stamps, nan_stamps, infinite_stamps, sentinel_stamps, odd_headers.
    """

    alerts: pa.Table
    index: np.ndarray
    failures: list[Failure]
    schemas: dict[str, str]
    counts: dict[str, int]


def decode(
    survey: Survey,
    packets: Sequence[bytes],
    schemas: SchemaSource | None = None,
    *,
    isolate: bool = False,
    watchdog_s: float = WATCHDOG_S,
    cutouts: bool = False,
) -> Decoded:
    """Decode packets of any mixture of the survey's schemas, each as it comes off the stream.

    Runs in this process; if native code hangs for `watchdog_s` on a block, the process ends (see watchdog).
    With `isolate` it runs in a child process, which a packet may kill or hang without harm: the packet
    becomes a Failure. `cutouts` adds the in-flight columns at once (see cutouts.with_cutouts) and makes a
    packet with a stamp that is no image a Failure; without it stamps are only looked at from outside.

    Raises SchemasUnavailable where the schema source does not answer.
    """
    if isolate:
        from broker.packets.isolation import decode_isolated

        return decode_isolated(survey, packets, schemas, watchdog_s=watchdog_s, cutouts=cutouts)
    work = _Work(survey, packets, watchdog_s)
    for schema, indices in work.split(schemas).items():
        if known := work.vetted(schema, indices):
            work.block(schema, known)
    return work.decoded(cutouts)


def decode_reference(
    survey: Survey,
    packets: Sequence[bytes],
    schemas: SchemaSource | None = None,
    *,
    cutouts: bool = False,
    watchdog_s: float = WATCHDOG_S,
) -> Decoded:
    """The same by fastavro and astropy, one packet at a time: slow, and what the fast path must equal."""
    work = _Work(survey, packets, watchdog_s)
    for schema, indices in work.split(schemas).items():
        work.one_by_one(schema, indices)
    return work.decoded(cutouts, astropy_only=True)


class _Work:
    """The packets of one call on their way to rows."""

    def __init__(self, survey: Survey, packets: Sequence[bytes], watchdog_s: float) -> None:
        self.survey = survey
        self.packets = packets
        self.watchdog_s = watchdog_s
        self.data: dict[int, Datum] = {}
        self.tables: list[pa.Table] = []
        self.index: list[int] = []
        self.reasons: dict[int, str] = {}
        self.schemas: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    def split(self, schemas: SchemaSource | None) -> dict[WriterSchema, list[int]]:
        groups: dict[WriterSchema, list[int]] = {}
        for i, packet in enumerate(self.packets):
            try:
                datum = self.survey.split(packet, schemas)
            except PacketError as error:
                self.reasons[i] = str(error)
            else:
                self.data[i] = datum
                groups.setdefault(datum.schema, []).append(i)
        return groups

    def vetted(self, schema: WriterSchema, indices: Sequence[int]) -> Sequence[int]:
        """The packets of a schema without those before the first that the reference reads.

        A packet may bring a schema that is not its own. Columns can follow such a one to the packet's end by
        chance: their reader takes any number of a nullable union's branch. Nobody could read what we publish.
        """
        for at, i in enumerate(indices):
            if schema.fingerprint in _trusted or self._is_large(i):
                return indices[at:]
            if self._readable(schema, [i]):
                if len(_trusted) >= _TRUSTED_MAX:
                    _trusted.clear()
                _trusted.add(schema.fingerprint)
                return indices[at:]
        return []

    def block(self, schema: WriterSchema, indices: Sequence[int], readable: bool = False) -> None:
        """By columns; if that fails, in halves, and the small ones without what the reference cannot read.

        `readable`: the reference reads each of these. What fails even so is read one by one.
        """
        error = self._by_columns(schema, indices, readable)
        if error is None:
            return
        if isinstance(error, UnsuitedSchema) or (readable and self._is_large(indices[0])):
            self.reasons.update((i, str(error)) for i in indices)
        elif not readable and len(indices) <= _SIFT:
            if sifted := self._readable(schema, indices):
                self.block(schema, sifted, readable=True)
        elif len(indices) <= _HALVE_TO:
            self.one_by_one(schema, indices)
        else:
            middle = len(indices) // 2
            self.block(schema, indices[:middle], readable)
            self.block(schema, indices[middle:], readable)

    def _by_columns(
        self, schema: WriterSchema, indices: Sequence[int], with_stamps: bool
    ) -> PacketError | None:
        """Keep the rows of these packets, or say why not. `with_stamps`: if need be, with their stamps in."""
        error: Exception | None = None
        for without_stamps in (True, False) if with_stamps else (True,):
            try:
                with watchdog(self.watchdog_s), told_panics():
                    rows = self._rows_by_columns(schema, indices, without_stamps)
            except UnsuitedSchema as unsuited:
                return unsuited
            except Exception as raised:  # whatever a damaged body does to the readers
                error = raised
            else:
                self.keep(schema, indices, rows)
                return None
        return error if isinstance(error, PacketError) else PacketError(_NOT_UNDERSTOOD.format(error))

    def _is_large(self, i: int) -> bool:
        return self.data[i].end - self.data[i].start > _LARGE

    def _readable(self, schema: WriterSchema, indices: Sequence[int]) -> list[int]:
        """Those that the reference reads; the others have their reason. The large ones are done with."""
        found = []
        for i in filter(self._is_large, indices):
            self.block(schema, [i], readable=True)
        with watchdog(self.watchdog_s):
            for i in indices:
                if self._is_large(i):
                    continue
                try:
                    with told_panics():
                        reference.read_datum(schema.json, self.data[i].body)
                except PacketError as error:
                    self.reasons[i] = str(error)
                else:
                    found.append(i)
        return found

    def _rows_by_columns(self, schema: WriterSchema, indices: Sequence[int], without_stamps: bool) -> _Rows:
        data = [self.data[i] for i in indices]
        if not without_stamps:
            bodies = [datum.body for datum in data]
            return self._rows(schema, columnar.decode(schema.json, bodies), bodies)
        slims = slim(data)
        rows = self.survey.alerts(columnar.decode(schema.json, slims.decodable), schema)
        stamps = [rows[name].to_list() for name in CUTOUTS]
        cuts = put_back(slims, stamps)
        return alert_rows(self.survey.name, schema, rows, stamps, slims.packets, cuts)

    def one_by_one(self, schema: WriterSchema, indices: Sequence[int]) -> None:
        for i in indices:
            self.counts["slow_packets"] += 1
            body = self.data[i].body
            try:
                with watchdog(self.watchdog_s), told_panics():
                    frame = reference.frame(schema.json, [reference.read_datum(schema.json, body)])
                    rows = self._rows(schema, frame, [body])
            except PacketError as error:
                self.reasons[i] = str(error)
            except Exception as error:  # a value of another kind than the survey's
                self.reasons[i] = _NOT_UNDERSTOOD.format(error)
            else:
                self.keep(schema, [i], rows)

    def _rows(self, schema: WriterSchema, frame: pl.DataFrame, bodies: Sequence[bytes]) -> _Rows:
        rows = self.survey.alerts(frame, schema)
        stamps = [rows[name].to_list() for name in CUTOUTS]
        packets, cuts = [], []
        for body, three in zip(bodies, zip(*stamps, strict=True), strict=True):
            packet, at = cut_out(body, three)
            packets.append(packet)
            cuts.append(at)
        return alert_rows(self.survey.name, schema, rows, stamps, packets, np.array(cuts, np.int32))

    def keep(self, schema: WriterSchema, indices: Sequence[int], rows: _Rows) -> None:
        table, good, reasons = rows
        self.reasons.update((indices[row], reason) for row, reason in reasons.items())
        if table.num_rows:
            self.tables.append(table)
            self.index.extend(indices[row] for row in good)
            for name in table["packet_schema"].unique().to_pylist():
                self.schemas[name] = schema.json

    def decoded(self, cutouts: bool, astropy_only: bool = False) -> Decoded:
        index = np.array(self.index, np.int64)
        alerts = concatenated(self.tables)
        if len(self.tables) > 1:
            order = np.argsort(index, kind="stable")
            if (order[1:] < order[:-1]).any():
                alerts, index = alerts.take(order), index[order]
        alerts, index = self._look_at_stamps(alerts, index, cutouts, astropy_only)
        failures = [Failure(i, self.reasons[i]) for i in sorted(self.reasons)]
        return Decoded(alerts, index, failures, self.schemas, dict(self.counts))

    def _look_at_stamps(
        self, alerts: pa.Table, index: np.ndarray, cutouts: bool, astropy_only: bool
    ) -> tuple[pa.Table, np.ndarray]:
        if not cutouts:
            bad = dict(_outside(alerts))
        else:
            with watchdog(self.watchdog_s):
                cut = cut_all(alerts, astropy_only=astropy_only)
            bad = cut.bad
            self.counts.update(cut.counts)
            for name, column in zip(CUTOUT_COLUMNS, (cut.tensors, cut.shapes), strict=True):
                alerts = alerts.append_column(name, column)
        if not bad:
            return alerts, index
        self.reasons.update((int(index[row]), reason) for row, reason in bad.items())
        good = np.setdiff1d(np.arange(alerts.num_rows), list(bad))
        return alerts.take(good), index[good]


def _outside(alerts: pa.Table) -> Iterable[tuple[int, str]]:
    for name in CUTOUTS:
        for row, stamp in enumerate(stamps(alerts[name])):
            try:
                if stamp:
                    check_stamp(stamp)
            except BadStamp as error:
                yield row, f"{name}: {error}"
