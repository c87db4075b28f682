"""Alerts to Kafka records: which topics each goes to, and its bytes there. Pure.

A full packet's value is the original datum, byte for byte, with our fields after it; its schema (the original's
with our fields appended) is named by the header `schema`. Nothing of an alert whose rights are not public is
ever in a topic without `restricted` in its name.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa

from broker.packets.schema import CUTOUTS
from broker.publish import avro
from broker.publish.outputs import Outputs, TopicRule
from broker.publish.schemas import OutputSchema, extended, slim
from broker.publish.scores import Top, encode_scores

__all__ = ["RECORDS", "Outputs", "TopicRule", "encode", "output_schemas"]

# `shard` chooses the partition (shard % partitions): CRC-32 of the object id, as librdkafka would choose it by a key
# of the object id, so that an object's alerts stay in order in Fink framing too, where all keys are alike.
RECORDS = pa.schema(
    [
        pa.field("topic", pa.string(), nullable=False),
        pa.field("key", pa.binary(), nullable=False),
        pa.field("value", pa.large_binary(), nullable=False),
        pa.field(
            "headers", pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())])), nullable=False
        ),
        pa.field("shard", pa.uint32(), nullable=False),
    ]
)

# fink-client names the files that it saves by these; our slim packets have them in Fink framing.
FINK_IDS: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "ztf": (("objectId", "string", "object_id"), ("candid", "long", "alert_id")),
    "lsst": (("diaSourceId", "long", "alert_id"),),
}

_SLIM = ("survey", "alert_id", "object_id", "mjd", "ra", "dec", "band", "flux", "flux_err", "rights")
_TO_BYTES: tuple[Callable[[Any], bytes], ...] = (
    avro.string,
    avro.long,
    avro.string,
    avro.double,
    avro.double,
    avro.double,
    avro.string,
    avro.optional_double,
    avro.optional_double,
    avro.string,
)


def encode(table: pa.Table, writer_schemas: Mapping[str, str], rules: Outputs) -> pa.Table:
    """The records (RECORDS) that `table` makes: row by row, each alert's in order of all, then its models' classes.

    table: archived columns with `scores` (schema.SCORES); `batch`, where there is one, becomes a header.
    writer_schemas: {packet_schema: JSON}. The result carries its own schemas: see `output_schemas`.
    Raises KeyError where a writer schema is missing, ValueError where one cannot be extended.
    """
    schemas: dict[str, str] = {}
    batches = [_Batch(b, writer_schemas, rules, schemas).records() for b in table.to_batches() if len(b)]
    records = pa.Table.from_batches(batches, RECORDS) if batches else RECORDS.empty_table()
    return records.replace_schema_metadata({"schemas": json.dumps(schemas)})


def output_schemas(records: pa.Table) -> dict[str, str]:
    """The schemas of encoded records: {schema id: JSON}."""
    return json.loads((records.schema.metadata or {}).get(b"schemas", b"{}"))


class _Batch:
    """The columns of one Arrow batch, ready to be taken row by row."""

    def __init__(
        self,
        batch: pa.RecordBatch,
        writer_schemas: Mapping[str, str],
        rules: Outputs,
        schemas: dict[str, str],
    ):
        self.rules, self.writer_schemas, self.schemas = rules, writer_schemas, schemas
        names = batch.schema.names
        self.columns = {name: batch.column(name).to_pylist() for name in _SLIM}
        self.packet_schema = batch.column("packet_schema").to_pylist()
        self.ingested = (
            batch.column("ingested_at").cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_pylist()
        )
        self.tags = batch.column("batch").to_pylist() if "batch" in names else [None] * len(batch)
        self.packets = _views(batch.column("packet"))
        self.stamps = [_views(batch.column(name)) for name in CUTOUTS]
        self.cuts = batch.column("packet_cuts").to_pylist()
        self.scored = encode_scores(batch.column("scores"))
        self.header_sets: dict[tuple[str, str, str, str | None], int] = {}
        self.rule = lru_cache(maxsize=None)(rules.rule)

    def records(self) -> pa.RecordBatch:
        topics: list[str] = []
        keys: list[bytes] = []
        pieces: list[bytes | memoryview] = []
        lengths: list[int] = []
        headers: list[int] = []
        shards: list[int] = []
        surveys, rights, objects = (self.columns[name] for name in ("survey", "rights", "object_id"))
        for i, (survey, right, object_id) in enumerate(zip(surveys, rights, objects, strict=True)):
            key = object_id.encode()
            shard = zlib.crc32(key)
            for topic, rule in self._topics(survey, right, self.scored.tops[i]):
                schema, value = self._value(i, rule)
                topics.append(topic)
                keys.append(schema.json.encode() if rule.framing == "fink" else key)
                pieces += value
                lengths.append(sum(map(len, value)))
                headers.append(self._headers(schema.id, survey, self.packet_schema[i], self.tags[i]))
                shards.append(shard)
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        values = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), len(lengths), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(pieces))]
        )
        columns = [
            pa.array(topics, pa.string()),
            pa.array(keys, pa.binary()),
            values,
            self._header_column(headers),
            pa.array(shards, pa.uint32()),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=RECORDS)

    def _topics(self, survey: str, rights: str, tops: Iterable[Top]) -> Iterable[tuple[str, TopicRule]]:
        rules = self.rules
        topic = rules.all_topic(survey, rights)
        if (rule := self.rule(topic)) is not None:
            yield topic, rule
        for top in tops:
            if top.probability >= rules.thresholds.get(top.model, rules.threshold):
                topic = rules.class_topic(survey, rights, top.model, top.name)
                if (rule := self.rule(topic)) is not None:
                    yield topic, rule

    def _value(self, i: int, rule: TopicRule) -> tuple[OutputSchema, list[bytes | memoryview]]:
        survey = self.columns["survey"][i]
        own = (avro.optional_long(self.ingested[i]), self.scored.encoded[i])
        if rule.packet == "slim":
            ids = FINK_IDS.get(survey, ()) if rule.framing == "fink" else ()
            schema = slim(tuple((name, type_) for name, type_, _ in ids))
            fields = [write(self.columns[name][i]) for name, write in zip(_SLIM, _TO_BYTES, strict=True)]
            for _, type_, column in ids:
                own += ((avro.long if type_ == "long" else avro.string)(self.columns[column][i]),)
            value: list[bytes | memoryview] = [b"".join((*fields, *own))]
        else:
            name = self.packet_schema[i]
            if name not in self.writer_schemas:
                raise KeyError(
                    f"alert {self.columns['alert_id'][i]} of {survey} was written with schema {name}, "
                    "which is not among the writer schemas given"
                )
            schema = extended(self.writer_schemas[name], survey, rule.packet)
            value = self._datum(i)
            if rule.packet == "no-cutouts":
                value = _without_cutouts(b"".join(value), schema)
            value += own
        self.schemas.setdefault(schema.id, schema.json)
        return schema, value

    def _datum(self, i: int) -> list[bytes | memoryview]:
        """The original datum, in pieces: the packet with the stamps put back at its cuts."""
        packet = self.packets[i]
        assert packet is not None  # the alert table's `packet` is not nullable
        pieces: list[bytes | memoryview] = []
        taken = length = 0
        for at, k in sorted((at, k) for k, at in enumerate(self.cuts[i]) if at >= 0):
            stamp = self.stamps[k][i]
            if stamp is None:
                raise ValueError(
                    f"alert {self.columns['alert_id'][i]} lacks the {CUTOUTS[k]} that its packet had"
                )
            head = packet[taken : taken + at - length]
            taken += len(head)
            length += len(head) + len(stamp)
            pieces += (head, stamp)
        pieces.append(packet[taken:])
        return pieces

    def _headers(self, schema: str, survey: str, packet_schema: str, tag: str | None) -> int:
        return self.header_sets.setdefault((schema, survey, packet_schema, tag), len(self.header_sets))

    def _header_column(self, indices: list[int]) -> pa.Array:
        names = ("schema", "survey", "packet_schema", "batch")
        sets = [
            [
                {"key": name, "value": value.encode()}
                for name, value in zip(names, values, strict=True)
                if value
            ]
            for values in self.header_sets
        ]
        return pa.array(sets, RECORDS.field("headers").type).take(pa.array(indices, pa.int64()))


def _views(column: pa.Array) -> list[memoryview | None]:
    """The values of a binary column without copying them."""
    column = column.cast(pa.large_binary())
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1].tolist()
    bytes_ = memoryview(data) if data is not None else memoryview(b"")
    if column.null_count == 0:
        return [bytes_[a:b] for a, b in zip(ends[:-1], ends[1:], strict=True)]
    valid = column.is_valid().to_pylist()
    return [bytes_[a:b] if v else None for a, b, v in zip(ends[:-1], ends[1:], valid, strict=True)]


@lru_cache(maxsize=256)
def _reading(json_: str) -> tuple[Any, Any]:
    """A record's schema, and that of the same record without fields: read with both, all its fields are skipped."""
    schema = json.loads(json_)
    return fastavro.parse_schema(schema), fastavro.parse_schema({**schema, "fields": []})


def _without_cutouts(datum: bytes, schema: OutputSchema) -> list[bytes | memoryview]:
    """The pieces of a datum that are not cutouts: its fields' ends are found by skipping over them."""
    view, stream, at = memoryview(datum), io.BytesIO(datum), 0
    pieces: list[bytes | memoryview] = []
    for keep, fields in schema.runs:
        fastavro.schemaless_reader(stream, *_reading(fields))
        end = stream.tell()
        if keep:
            pieces.append(view[at:end])
        at = end
    if schema.keeps_rest:
        pieces.append(view[at:])
    return pieces
