"""What a task does with its ranges: fetch, decode, score.

A failure costs the packet or the model, not the block.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from broker.packets.cutouts import CUTOUT_COLUMNS
from broker.packets.decode import Decoded, decode
from broker.packets.survey import SchemaSource, survey
from broker.stream.plan import DEAD_LETTERS, DeadLetter, Gap, Range
from broker.stream.protocols import Scorer
from broker.stream.reader import Packets, read

LETTERS = pa.schema(
    [
        ("topic", pa.string()),
        ("topic_id", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("reason", pa.string()),
        ("packet", pa.large_binary()),
        ("kafka_timestamp", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Result:
    """What came of one chunk of ranges. `alerts` is the archived table plus `kafka_timestamp` (ms, UTC)."""

    alerts: pa.Table
    letters: list[DeadLetter]
    gaps: list[Gap]
    schemas: dict[str, str]  # packet_schema -> writer schema JSON
    counts: dict[str, int]
    stages_ms: dict[str, float]

    def to_block(self) -> pa.Table:
        """One row: Ray Data sees the same four columns whatever the survey's schema of the day is."""
        letters = pa.Table.from_pylist([asdict(letter) for letter in self.letters], LETTERS)
        notes = {
            "gaps": [asdict(gap) for gap in self.gaps],
            "schemas": self.schemas,
            "counts": self.counts,
            "stages_ms": self.stages_ms,
        }
        return pa.table(
            {
                "alerts": _to_ipc(self.alerts),
                "letters": _to_ipc(letters),
                "notes": [json.dumps(notes)],
            }
        )

    @classmethod
    def from_block(cls, block: pa.Table) -> Result:
        notes = json.loads(block["notes"][0].as_py())
        return cls(
            alerts=_from_ipc(block["alerts"]),
            letters=[DeadLetter(**row) for row in _from_ipc(block["letters"]).to_pylist()],
            gaps=[Gap(**gap) for gap in notes["gaps"]],
            schemas=notes["schemas"],
            counts=notes["counts"],
            stages_ms=notes["stages_ms"],
        )


@dataclass(frozen=True)
class Work:
    """The task, as a function of a block whose column `ranges` holds JSON lists of ranges.

    `isolate` is set from the second attempt on: the packet that kills or hangs the decoder becomes a dead
    letter. `letters` are the packets of ranges that point into the dead-letter table. `lost` are ranges whose
    topic is gone for good (deleted, or recreated under another id): they are gaps, not read.
    """

    survey: str
    kafka: Mapping[str, Any]
    schemas: SchemaSource | None
    scorer: Scorer
    isolate: bool = False
    watchdog_s: float = 20.0
    letters: Mapping[int, DeadLetter] = field(default_factory=dict)
    lost: Mapping[tuple[str, str], str] = field(default_factory=dict)  # (topic, topic_id) -> reason

    def __call__(self, block: pa.Table) -> pa.Table:
        ranges = [Range(**r) for text in block["ranges"].to_pylist() for r in json.loads(text)]
        return self.run(ranges).to_block()

    def run(self, ranges: list[Range]) -> Result:
        """Fetch, decode and score `ranges`. Raises SourceError when the source does not deliver."""
        clock = [time.perf_counter()]
        packets = self._fetch(ranges)
        clock.append(time.perf_counter())
        decoded = decode(
            survey(self.survey),
            packets.values,
            self.schemas,
            isolate=self.isolate,
            watchdog_s=self.watchdog_s,
            cutouts=True,
        )
        in_flight = _with_places(decoded, packets)
        clock.append(time.perf_counter())
        scored = self.scorer.score(in_flight)
        clock.append(time.perf_counter())
        steps = zip(("fetch", "decode", "score"), clock, clock[1:], strict=False)
        alerts = in_flight
        for column, entries in scored.items():
            alerts = alerts.append_column(column, entries)
        return Result(
            alerts=alerts.drop_columns([c for c in CUTOUT_COLUMNS if c in alerts.column_names]),
            letters=[
                DeadLetter(
                    *packets.places[f.index], f.reason, packets.values[f.index], packets.timestamps[f.index]
                )
                for f in decoded.failures
            ],
            gaps=packets.gaps,
            schemas=decoded.schemas,
            counts=decoded.counts,
            stages_ms={name: (end - start) * 1e3 for name, start, end in steps},
        )

    def _fetch(self, ranges: list[Range]) -> Packets:
        lost = [r for r in ranges if (r.topic, r.topic_id) in self.lost]
        packets = read(self.kafka, [r for r in ranges if r.topic != DEAD_LETTERS and r not in lost])
        for r in lost:
            packets.gaps.append(
                Gap(r.topic, r.topic_id, r.partition, r.first, r.end, self.lost[r.topic, r.topic_id])
            )
        for r in ranges:
            if r.topic == DEAD_LETTERS:
                letter = self.letters[r.first]
                packets.values.append(letter.packet)
                packets.places.append((letter.topic, letter.topic_id, letter.partition, letter.offset))
                packets.timestamps.append(letter.kafka_timestamp or 0)
        return packets


def _with_places(decoded: Decoded, packets: Packets) -> pa.Table:
    """The alert table with where and when each packet came in."""
    alerts = decoded.alerts
    places = [packets.places[i] for i in decoded.index]
    now = pa.scalar(datetime.now(UTC), pa.timestamp("us", "UTC"))
    columns = {
        "ingested_at": pa.repeat(now, len(alerts)),
        "topic": pa.array([p[0] for p in places], pa.string()),
        "partition": pa.array([p[2] for p in places], pa.int32()),
        "offset": pa.array([p[3] for p in places], pa.int64()),
    }
    for name, values in columns.items():
        at = alerts.schema.get_field_index(name)
        alerts = alerts.set_column(at, name, values) if at >= 0 else alerts.append_column(name, values)
    timestamps = pa.array([packets.timestamps[i] for i in decoded.index], pa.int64())
    return alerts.append_column("kafka_timestamp", timestamps)


def _to_ipc(table: pa.Table) -> pa.LargeBinaryArray:
    """A table as one value of a column; its bytes are copied once, into as much room as they need."""
    measured = pa.MockOutputStream()
    _write(table, measured)
    data = pa.allocate_buffer(measured.size())
    _write(table, pa.FixedSizeBufferWriter(data))
    offsets = pa.py_buffer(struct.pack("=qq", 0, data.size))
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, offsets, data])


def _write(table: pa.Table, sink: pa.NativeFile) -> None:
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def _from_ipc(column: pa.ChunkedArray) -> pa.Table:
    """The table in a column of one value. (A scalar of it would be a copy.)"""
    [array] = column.chunks
    _, offsets, data = array.buffers()
    first, end = struct.unpack_from("=qq", offsets, 8 * array.offset)
    return pa.ipc.open_stream(data.slice(first, end - first)).read_all()
