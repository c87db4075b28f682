"""The Publisher: a batch's records, dead letters and marker leave in one Kafka transaction, or not at all.

Recovery is by the marker. `open` fences every earlier Publisher of the stream and ends what that left open;
after it, `marker` says which batch was published last, and no zombie can change that any more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from broker.kafka import IDEMPOTENT, RECONNECT
from broker.publish import compacted
from broker.publish.encode import output_schemas
from broker.publish.outputs import Outputs
from broker.publish.topics import MAX_MESSAGE_BYTES, Topics
from broker.stream.plan import DeadLetter

# The end of the topic of markers, where a stream's is looked for first. In offsets: a marker takes one, and
# the end of its transaction another.
RECENT = 2000

# Seconds for aborting a transaction before it is left to the next `open`: the cluster has failed us already.
ABORT_S = 5

# No compression: the stamps, most of a full packet, are gzip already.
DEFAULTS: Mapping[str, Any] = {
    "message.max.bytes": MAX_MESSAGE_BYTES,
    "linger.ms": 5,
    "queue.buffering.max.kbytes": 256 * 1024,
    "compression.type": "none",
    "transaction.timeout.ms": 60_000,
    **RECONNECT,
}

# Whatever the settings say: each record's report is looked at before a commit.
EXACT: Mapping[str, Any] = {"delivery.report.only.error": False, **IDEMPOTENT}

Headers = list[tuple[str, str | bytes | None]]


class PublishError(RuntimeError):
    """A batch was not published, or nobody knows: open the publisher again and ask it for the marker."""


class Fenced(PublishError):
    """Another Publisher of the same stream has taken over, or a transaction outlived transaction.timeout.ms.

    The cluster says the same of both: whoever still holds the stream's lease may `open` again.
    """


class Publisher:
    """Publishes a stream's batches.

    kafka: librdkafka settings of our own cluster; they go before DEFAULTS. stream: names the transactions; of
    a stream's Publishers only the one that was opened last can publish. survey: whose dead letters these are.
    timeout_s: how long errors of the cluster that may pass are borne before PublishError.
    """

    def __init__(
        self,
        kafka: Mapping[str, Any],
        stream: str,
        outputs: Outputs,
        survey: str,
        *,
        timeout_s: float = 60,
    ):
        own = {"transactional.id": f"rayfinch-{stream}", **EXACT}
        self.kafka = {**DEFAULTS, **kafka, **own}
        self.stream, self.outputs, self.survey, self.timeout_s = stream, outputs, survey, timeout_s
        # Within this, any transaction of another stream that is open now on the topic of markers has ended.
        self._patience_s = timeout_s + int(self.kafka["transaction.timeout.ms"]) / 1e3
        self._producer: Producer | None = None
        self._topics = Topics(kafka, outputs, timeout_s)
        self._schemas: set[str] = set()
        self._sent = 0
        self._places: set[tuple[str | None, int | None, int | None]] = set()
        self._refusal: KafkaError | None = None

    def open(self) -> None:
        """Make the topics, fence any earlier Publisher of this stream and end its transaction.

        May be called again, after an error. Raises PublishError.
        """
        self.close()
        outputs = self.outputs
        producer = Producer(self.kafka, logger=compacted.LOG)
        try:
            self._topics.forget()
            own = [outputs.schemas, outputs.batches, outputs.dead_letters(self.survey)]
            self._topics.ensure(own, producer)
            self._persist(producer.init_transactions, "transactions could not be started")
            first, end = compacted.offsets(self.kafka, outputs.schemas, self.timeout_s)
            # A schema that stands behind another stream's open transaction is published twice: no harm.
            known = compacted.read(self.kafka, outputs.schemas, first, end, self.timeout_s, whole=False)
        except (KafkaException, TimeoutError) as error:
            raise _translated(error, f"stream {self.stream} cannot publish") from error
        self._schemas = {key.decode() for key in known}
        self._producer = producer

    def marker(self) -> dict[str, Any] | None:
        """The marker of the last batch that this stream published; None where there is none.

        Only after `open`: before it, an earlier Publisher may still add one. Raises PublishError.
        """
        self._opened()
        topic, key = self.outputs.batches, self.stream.encode()
        try:
            first, end = compacted.offsets(self.kafka, topic, self.timeout_s)
            for start in dict.fromkeys((max(first, end - RECENT), first)):
                found = compacted.read(self.kafka, topic, start, end, self._patience_s).get(key)
                if found is not None:
                    return json.loads(found)
        except (KafkaException, TimeoutError) as error:
            raise _translated(error, f"the marker of stream {self.stream} cannot be read") from error
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

        records: tables of encode.RECORDS, taken one after the other. schemas: {schema id: JSON} beyond those
        that the records carry. fence: called when all has arrived, just before the commit; what it raises
        aborts the transaction and is raised. Raises Fenced or PublishError, and leaves nothing visible then,
        unless the cluster went silent during the commit itself: `open` and `marker` tell.
        """
        producer = self._opened()
        sent: set[str] = set()
        self._sent, self._places, self._refusal = 0, set(), None
        try:
            # 1. Everything is sent; topics that are missing are made before anything goes to them.
            producer.begin_transaction()
            self._send_schemas(schemas, sent)
            for table in records:
                self._send_schemas(output_schemas(table), sent)
                self._send_records(table)
            self._send_dead_letters(dead_letters)
            self._send(self.outputs.batches, json.dumps(dict(marker)).encode(), self.stream.encode())
            # 2. It arrives, before the lease is looked at: the look is to be as late as can be.
            if left := producer.flush(self.timeout_s):
                raise PublishError(
                    f"a batch of stream {self.stream} was not published: the cluster did not take {left} of "
                    f"its records within {self.timeout_s:.0f} s"
                )
            # 3. Each has a place of its own. One that the cluster took for another's repetition has none, and
            #    the transaction would be committed without it: seen once, in a topic that was just made.
            if self._refusal is not None:
                raise KafkaException(self._refusal)
            if self._sent != len(self._places):
                raise PublishError(
                    f"a batch of stream {self.stream} was not published: the cluster confirmed {self._sent} "
                    f"records, but has {len(self._places)}"
                )
            # 4. Whoever lost the lease must not commit: the successor may have read the marker already.
            fence()
            # 5. Records, dead letters, schemas and marker become visible together.
            self._persist(producer.commit_transaction, "the transaction could not be committed")
        except BaseException as error:
            self._abort(producer)
            if isinstance(error, KafkaException | TimeoutError):
                self._topics.forget()
                raise _translated(error, f"stream {self.stream} has a batch unconfirmed") from error
            raise
        self._schemas |= sent

    def close(self) -> None:
        """Let go of the cluster. A transaction that is still open is left for the next `open` to end."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            # A producer that was fenced says so once more here.
            with suppress(KafkaException):
                producer.purge()
                producer.flush(1)

    def _opened(self) -> Producer:
        if self._producer is None:
            raise PublishError(f"the publisher of stream {self.stream} is not open")
        return self._producer

    def _send_schemas(self, schemas: Mapping[str, str], sent: set[str]) -> None:
        for id_ in schemas.keys() - self._schemas - sent:
            self._send(self.outputs.schemas, schemas[id_].encode(), id_.encode())
            sent.add(id_)

    def _send_records(self, table: pa.Table) -> None:
        self._topics.ensure(table["topic"].unique().to_pylist(), self._opened())
        partitions = self._topics.partitions
        for batch in table.to_batches():
            topics, keys, shards = (batch.column(name).to_pylist() for name in ("topic", "key", "shard"))
            texts = batch.column("headers").to_pylist()
            headers: dict[str, Headers] = {text: list(json.loads(text).items()) for text in set(texts)}
            values = batch.column("value")
            for i, topic in enumerate(topics):
                # A buffer of the table's, so that the producer's queue has the only copy.
                value = values[i].as_buffer()
                self._send(topic, value, keys[i], shards[i] % partitions[topic], headers[texts[i]])

    def _send_dead_letters(self, dead_letters: Iterable[DeadLetter]) -> None:
        topic = self.outputs.dead_letters(self.survey)
        for letter in dead_letters:
            key = f"{letter.topic}/{letter.partition}/{letter.offset}"
            headers: Headers = [
                ("reason", letter.reason.encode()),
                ("topic", letter.topic.encode()),
                ("topic_id", letter.topic_id.encode()),
                ("partition", str(letter.partition).encode()),
                ("offset", str(letter.offset).encode()),
            ]
            self._send(topic, letter.packet, key.encode(), headers=headers)

    def _send(
        self, topic: str, value: Any, key: bytes, partition: int = -1, headers: Headers | None = None
    ) -> None:
        producer = self._opened()
        deadline = time.monotonic() + self.timeout_s
        while True:
            try:
                producer.produce(
                    topic, value, key, partition, on_delivery=self._arrived, headers=headers or []
                )
                self._sent += 1
                return
            except BufferError:
                # The queue is full: wait until the cluster has taken some of it.
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"the cluster has taken no record for {self.timeout_s:.0f} s (topic {topic})"
                    ) from None
                producer.poll(0.05)

    def _arrived(self, error: KafkaError | None, record: Message) -> None:
        offset = record.offset()
        if error is not None:
            self._refusal = self._refusal or error
        elif offset is not None and offset >= 0:
            self._places.add((record.topic(), record.partition(), offset))

    def _persist(self, step: Callable[[float], None], failure: str, timeout_s: float | None = None) -> None:
        """Do `step`, which takes the seconds left; again where the cluster says that this may help."""
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return step(max(deadline - time.monotonic(), 0.1))
            except KafkaException as error:
                code = error.args[0]
                if not code.retriable() or code.txn_requires_abort():
                    raise
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{failure} within {timeout_s:.0f} s: {code.str()}") from error
                time.sleep(0.1)

    def _abort(self, producer: Producer) -> None:
        try:
            self._persist(producer.abort_transaction, "the transaction could not be aborted", ABORT_S)
        except (KafkaException, TimeoutError):
            # Fenced, or the cluster is away, or a commit is under way: the next `open` ends the transaction.
            self.close()


_FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}


def _translated(error: KafkaException | TimeoutError, what: str) -> PublishError:
    if isinstance(error, TimeoutError):
        return PublishError(f"{what}: {error}")
    code: KafkaError = error.args[0]
    if code.code() in _FENCED:
        return Fenced(
            f"{what}: another publisher of this stream has taken over, or "
            f"the transaction outlived transaction.timeout.ms ({code.str()})"
        )
    return PublishError(f"{what}: {code.str()} ({code.name()})")
