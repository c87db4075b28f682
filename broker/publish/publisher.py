"""The Publisher: a batch's records, dead letters and marker leave in one Kafka transaction, or not at all.

Recovery is by the marker. `open` fences every earlier Publisher of the stream and ends what it left open; after
that `marker` says which batch was published last, and no zombie can change it any more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Producer

from broker.publish import compacted
from broker.publish.encode import output_schemas
from broker.publish.outputs import Outputs
from broker.publish.topics import MAX_MESSAGE_BYTES, Topics
from broker.stream.plan import DeadLetter

# Where the marker of a stream is looked for first: a marker is a record and its transaction's end another.
RECENT = 2000

DEFAULTS: dict[str, Any] = {
    "message.max.bytes": MAX_MESSAGE_BYTES,
    "linger.ms": 5,
    "queue.buffering.max.kbytes": 256 * 1024,
    "delivery.report.only.error": True,
    "compression.type": "none",
    "transaction.timeout.ms": 60_000,
}


class PublishError(RuntimeError):
    """A batch was not published, or it is not known whether it was: close, open anew and ask for the marker."""


class Fenced(PublishError):
    """Another Publisher of the same stream has taken over: this one must stop."""


class Publisher:
    """Publishes a stream's batches.

    kafka: librdkafka settings of our own cluster (they go before DEFAULTS). stream: names the transactions; one
    Publisher a stream is alive, the one that was opened last. survey: whose dead letters these are.
    timeout_s: how long retriable errors of the cluster are borne before PublishError.
    """

    def __init__(
        self, kafka: Mapping[str, Any], stream: str, outputs: Outputs, survey: str, *, timeout_s: float = 60
    ):
        self.kafka, self.stream, self.outputs, self.survey = dict(kafka), stream, outputs, survey
        self.timeout_s = timeout_s
        self._producer: Producer | None = None
        self._topics = Topics(self.kafka, outputs)
        self._schemas: set[str] = set()

    def open(self) -> None:
        """Make the topics, fence any earlier Publisher of this stream and end its transaction."""
        self.close()
        producer = Producer({**DEFAULTS, **self.kafka, "transactional.id": f"rayfinch-{self.stream}"})
        try:
            outputs = self.outputs
            self._topics.forget()
            self._topics.ensure(
                [outputs.schemas, outputs.batches, outputs.dead_letters(self.survey)], producer
            )
            self._persist(
                lambda left: producer.init_transactions(left), "the transactions could not be started"
            )
            first, end = compacted.offsets(self.kafka, outputs.schemas, self.timeout_s)
        except KafkaException as error:
            raise _translated(error, f"the output cluster refused stream {self.stream}") from error
        self._producer = producer
        self._schemas = {
            k.decode() for k in compacted.read(self.kafka, outputs.schemas, first, end, self._patience)
        }

    def marker(self) -> dict[str, Any] | None:
        """The marker of the stream's last published batch; None where there is none. Only after `open`."""
        self._opened()
        topic, key = self.outputs.batches, self.stream.encode()
        first, end = compacted.offsets(self.kafka, topic, self.timeout_s)
        for start in dict.fromkeys((max(first, end - RECENT), first)):
            found = compacted.read(self.kafka, topic, start, end, self._patience).get(key)
            if found is not None:
                return json.loads(found)
        return None

    def publish(
        self,
        records: Iterable[pa.Table],
        dead_letters: Iterable[DeadLetter],
        schemas: Mapping[str, str],
        marker: Mapping[str, Any],
        fence: Callable[[], None],
    ) -> None:
        """Publish a batch in one transaction; when this returns, it is committed.

        records: tables of encode.RECORDS, taken one after the other. schemas: {schema id: JSON} beyond those that
        the records carry. fence: called when all is sent, just before the commit; what it raises aborts the
        transaction and is raised. Raises Fenced, or PublishError; the transaction is aborted then, unless the
        cluster does not even answer that.
        """
        producer = self._opened()
        sent: dict[str, str] = {}
        try:
            # 1. Everything is sent. A transaction cannot span topics that do not exist: they are made first.
            producer.begin_transaction()
            for table in records:
                sent |= self._send_schemas({**output_schemas(table), **schemas}, sent)
                self._send_records(table)
            sent |= self._send_schemas(schemas, sent)
            self._send_dead_letters(dead_letters)
            self._send(self.outputs.batches, json.dumps(dict(marker)).encode(), self.stream.encode())
            # 2. All of it has arrived before the lease is looked at, so that the look is as late as can be.
            if left := producer.flush(self.timeout_s):
                raise PublishError(
                    f"{left} records did not reach the output cluster within {self.timeout_s:.0f} s"
                )
            # 3. Whoever lost the lease must not commit: the successor may already have read the marker.
            fence()
            # 4. Records, dead letters, schemas and marker become visible together.
            self._persist(
                lambda left: producer.commit_transaction(left), "the transaction could not be committed"
            )
        except BaseException as error:
            self._abort(producer)
            if isinstance(error, KafkaException):
                self._topics.forget()
                raise _translated(error, f"a batch of stream {self.stream} was not published") from error
            raise
        self._schemas |= sent.keys()

    def close(self) -> None:
        """Let go of the cluster. A transaction that is still open is aborted."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            producer.purge()
            producer.flush(1)

    @property
    def _patience(self) -> float:
        """Seconds within which every transaction that is open now will have ended, ours or another stream's."""
        return (
            self.timeout_s
            + int(self.kafka.get("transaction.timeout.ms", DEFAULTS["transaction.timeout.ms"])) / 1e3
        )

    def _opened(self) -> Producer:
        if self._producer is None:
            raise PublishError(f"the publisher of stream {self.stream} is not open")
        return self._producer

    def _send_schemas(self, schemas: Mapping[str, str], sent: Mapping[str, str]) -> dict[str, str]:
        new = {id_: text for id_, text in schemas.items() if id_ not in self._schemas and id_ not in sent}
        for id_, text in new.items():
            self._send(self.outputs.schemas, text.encode(), id_.encode())
        return new

    def _send_records(self, table: pa.Table) -> None:
        names = table["topic"].unique().to_pylist()
        self._topics.ensure(names, self._opened())
        counts = self._topics.partitions
        for batch in table.to_batches():
            topics, keys, shards = (batch.column(name).to_pylist() for name in ("topic", "key", "shard"))
            values, header_lists = batch.column("value"), batch.column("headers").to_pylist()
            for i, (topic, key, shard, headers) in enumerate(
                zip(topics, keys, shards, header_lists, strict=True)
            ):
                pairs = [(h["key"], h["value"]) for h in headers]
                self._send(topic, values[i].as_py(), key, shard % counts[topic], pairs)

    def _send_dead_letters(self, dead_letters: Iterable[DeadLetter]) -> None:
        topic = self.outputs.dead_letters(self.survey)
        for letter in dead_letters:
            headers = {
                "reason": letter.reason,
                "topic": letter.topic,
                "topic_id": letter.topic_id,
                "partition": str(letter.partition),
                "offset": str(letter.offset),
            }
            key = f"{letter.topic}/{letter.partition}/{letter.offset}".encode()
            self._send(topic, letter.packet, key, headers=[(k, v.encode()) for k, v in headers.items()])

    def _send(
        self,
        topic: str,
        value: bytes,
        key: bytes,
        partition: int = -1,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> None:
        producer = self._opened()
        deadline = time.monotonic() + self.timeout_s
        while True:
            try:
                producer.produce(topic, value, key, partition, headers=headers or [])
                return
            except BufferError:
                # The queue is full: wait until the cluster has taken some of it.
                if time.monotonic() > deadline:
                    raise PublishError(
                        f"the output cluster has taken no record for {self.timeout_s:.0f} s (topic {topic})"
                    ) from None
                producer.poll(0.05)

    def _persist(self, step: Callable[[float], None], failure: str) -> None:
        """Do `step` (given the seconds left), again where the cluster says that this may help."""
        deadline = time.monotonic() + self.timeout_s
        while True:
            try:
                return step(max(deadline - time.monotonic(), 0.1))
            except KafkaException as error:
                code = error.args[0]
                if not code.retriable() or code.txn_requires_abort():
                    raise
                if time.monotonic() > deadline:
                    raise PublishError(f"{failure} within {self.timeout_s:.0f} s: {code.str()}") from error
                time.sleep(0.1)

    def _abort(self, producer: Producer) -> None:
        try:
            self._persist(
                lambda left: producer.abort_transaction(left), "the transaction could not be aborted"
            )
        except (KafkaException, PublishError):
            # Fenced, or the cluster is away: whoever opens next ends the transaction. This producer is of no more use.
            self.close()


_FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}


def _translated(error: KafkaException, what: str) -> PublishError:
    code: KafkaError = error.args[0]
    if code.code() in _FENCED:
        return Fenced(f"{what}: another publisher of this stream has taken over ({code.str()})")
    return PublishError(f"{what}: {code.name()}: {code.str()}")
