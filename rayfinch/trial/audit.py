"""What a stream has kept, read from outside: archive, topics and database, held against each other.

Packets are compared by digests, and read batch by batch, so that the audit of a long run fits in memory.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from broker.archive.archive import Archive
from broker.archive.errors import ArchiveError
from broker.database.engine import connect, reading
from broker.database.ledger import Ledger
from broker.publish.encode import encode
from rayfinch.config import Settings


@dataclass(frozen=True)
class Audit:
    """What was found.

    alert_ids: of the archive, how often each. missing, extra: records that the topics lack, or have besides
    those that the archive's alerts make. letters: in the dead-letter topic, and in the table.
    wrong_objects: objects of the database whose number of alerts is not the archive's. counts: what the
    batches' outcomes add up to. attempts: of all batches together.
    """

    alert_ids: Counter[int]
    missing: int
    extra: int
    letters_published: int
    letters_kept: int
    wrong_objects: int
    open_plans: int
    batches: int
    attempts: int
    counts: Counter[str]

    def lost(self, sent: Collection[int]) -> int:
        """How many of these alert ids were lost on the way."""
        return sum(1 for alert_id in sent if not self.alert_ids[alert_id])

    @property
    def doubled(self) -> int:
        """How many alerts too many there are, in the archive or the topics."""
        return sum(n - 1 for n in self.alert_ids.values()) + self.extra

    @property
    def topics_equal_archive(self) -> bool:
        return not (self.missing or self.extra)

    @property
    def faults(self) -> list[str]:
        """What contradicts what, in sentences; none where all is well."""
        twice = sum(1 for n in self.alert_ids.values() if n > 1)
        told = {
            f"{twice} alerts are in the archive more than once": twice,
            f"{self.missing} records of archived alerts are missing in the topics": self.missing,
            f"{self.extra} records in the topics are of no archived alert, or doubled": self.extra,
            f"{self.letters_kept} dead letters are in the database, {self.letters_published} in the topic": (
                self.letters_kept != self.letters_published
            ),
            f"{self.wrong_objects} objects count other alerts than the archive has": self.wrong_objects,
            f"{self.open_plans} batches are not done": self.open_plans,
            f"the batches count {self.counts['alerts']} alerts, the archive {self.alert_ids.total()}": (
                self.counts["alerts"] != self.alert_ids.total()
            ),
        }
        return [sentence for sentence, wrong in told.items() if wrong]


def audit(settings: Settings) -> Audit:
    """Read everything that the stream of `settings` has kept. Nobody may be working on it."""
    archive = Archive(settings.archive.uri, settings.survey)
    try:
        kept = archive.get(columns=["alert_id", "object_id", "batch"])
        ids, objects = kept["alert_id"].to_pylist(), Counter(kept["object_id"].to_pylist())
        tags = sorted(set(kept["batch"].to_pylist()))
    except ArchiveError:
        if Ledger(connect(settings.database.url), settings.stream, settings.survey).offsets():
            ids, objects, tags = [], Counter(), []
        else:
            raise
    wanted = Counter(digest for tag in tags for digest in _records(archive, tag, settings))
    found, letters = _published(settings)
    engine = connect(settings.database.url)
    with reading(engine) as db:
        from sqlalchemy import text

        of = {"survey": settings.survey, "stream": settings.stream}
        rows = db.execute(text("select object_id, n_alerts from objects where survey = :survey"), of).all()
        kept_letters = db.execute(
            text("select count(*) from dead_letters where stream = :stream"), of
        ).scalar()
    counted = {row.object_id: row.n_alerts for row in rows}
    wrong = sum(1 for name in {*counted, *objects} if counted.get(name) != objects.get(name))
    batches, attempts, counts = _outcomes(settings)
    return Audit(
        alert_ids=Counter(ids),
        missing=(wanted - found).total(),
        extra=(found - wanted).total(),
        letters_published=letters,
        letters_kept=int(kept_letters or 0),
        wrong_objects=wrong,
        open_plans=len(Ledger(engine, settings.stream, settings.survey).open_plans()),
        batches=batches,
        attempts=attempts,
        counts=counts,
    )


def committed(kafka: dict[str, Any], topics: Sequence[str], timeout_s: float = 60) -> Iterator[Any]:
    """Every committed message of these topics up to now. Raises TimeoutError when they fall silent before.

    A transaction's end is written to each partition after the commit has returned: it is waited for.
    """
    from confluent_kafka import Consumer, IsolationLevel, KafkaError, TopicPartition
    from confluent_kafka.admin import AdminClient, OffsetSpec

    address = {"bootstrap.servers": kafka["bootstrap.servers"]}
    known = AdminClient(address).list_topics(timeout=20).topics
    places = [TopicPartition(t, p) for t in topics if t in known for p in known[t].partitions]
    if not places:
        return
    futures = AdminClient(address).list_offsets(
        dict.fromkeys(places, OffsetSpec.latest()), isolation_level=IsolationLevel.READ_UNCOMMITTED
    )
    ends = {(p.topic, p.partition): f.result().offset for p, f in futures.items()}
    consumer = Consumer(
        {
            **address,
            "group.id": "rayfinch-audit",  # never joined
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "fetch.message.max.bytes": 16 << 20,
            "queued.max.messages.kbytes": 65536,
        }
    )
    consumer.assign([TopicPartition(p.topic, p.partition, 0) for p in places])
    left = set(ends)
    try:
        while left:
            messages = consumer.consume(500, timeout=timeout_s)
            if not messages:
                raise TimeoutError(f"{address['bootstrap.servers']} went silent: {sorted(left)} are unread")
            for message in messages:
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    place = (str(message.topic()), int(message.partition() or 0))
                    if (message.offset() or 0) >= ends[place]:
                        left.discard(place)
    finally:
        consumer.close()


def _records(archive: Archive, tag: str, settings: Settings) -> Iterator[bytes]:
    """Digests of the records that a batch's archived alerts make."""
    from rayfinch.wiring import outputs

    alerts = archive.read_batch(tag)
    schemas = archive.writer_schemas(set(alerts["packet_schema"].to_pylist()))
    records = encode(alerts, schemas, outputs(settings))
    for topic, key, value in zip(*(records[c] for c in ("topic", "key", "value")), strict=True):
        yield _digest(topic.as_py(), key.as_py(), value.as_buffer())


def _published(settings: Settings) -> tuple[Counter[bytes], int]:
    """Digests of the records in the topics of alerts; and the number of dead letters in theirs."""
    from confluent_kafka.admin import AdminClient

    from rayfinch.wiring import outputs

    kafka, rules = dict(settings.publish.kafka), outputs(settings)
    known = AdminClient({"bootstrap.servers": kafka["bootstrap.servers"]}).list_topics(timeout=20).topics
    dead = rules.dead_letters(settings.survey)
    ours = [t for t in known if t.startswith(f"{settings.publish.prefix}.{settings.survey}.")]
    found: Counter[bytes] = Counter()
    letters = 0
    for message in committed(kafka, ours):
        if message.topic() == dead:
            letters += 1
        else:
            found[_digest(str(message.topic()), message.key(), message.value() or b"")] += 1
    return found, letters


def _digest(topic: str, key: bytes | None, value: Any) -> bytes:
    digest = hashlib.blake2b(f"{topic}\n{key!r}\n".encode(), digest_size=16)
    digest.update(value)
    return digest.digest()


def _outcomes(settings: Settings) -> tuple[int, int, Counter[str]]:
    """How many batches there were, their attempts, and the sum of their counts."""
    from sqlalchemy import select

    from broker.database.tables import batches

    counts: Counter[str] = Counter()
    number = attempts = 0
    query = select(batches.c.attempt, batches.c.outcome).where(batches.c.stream == settings.stream)
    with reading(connect(settings.database.url)) as db:
        for attempt, outcome in db.execute(query):
            number, attempts = number + 1, attempts + attempt
            counts.update((outcome or {}).get("counts", {}))
    return number, attempts, counts
