"""What a stream has kept: its `all` topics, its archive and its database, read from outside."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import KafkaError, Message
from confluent_kafka.admin import AdminClient

from broker.archive.archive import Archive
from broker.database.engine import connect, reading
from broker.packets.schema import CUTOUTS, PUBLIC
from broker.publish.reader import Schemas
from rayfinch.bench import equal
from rayfinch.bench.judge import Held, faults, objects_faults
from rayfinch.bench.watch import Place, place, reader
from rayfinch.config import Settings
from serve.scorer import SILENT, eligible

# The fields of an output packet that the judge reads, in the order in which they are looked for.
IDS = {"ztf": ("candid", "alert_id"), "lsst": ("diaSourceId", "alert_id")}
SCORES = "rayfinch_scores"
SILENCE_S = 30.0
ROWS = 500  # of the archive, read at once with their stamps


def judge(
    settings: Settings, sent: Set[int], topics: Held | None = None
) -> tuple[list[str], dict[Place, int]]:
    """What is wrong with what the stream has kept of `sent`; and where in the topics each alert is.

    topics: what was read of them already, all of it.
    """
    kept = look(settings, topics)
    return faults(sent, kept.places, kept.eligible) + kept.wrong_counts, kept.offsets


@dataclass(frozen=True)
class Kept:
    """What the topics, the archive and the database hold; which ids each model has to score.

    wrong_counts: where the database's number of alerts of an object is not the archive's, a sentence each.
    offsets: where in the topics each alert is.
    """

    places: Sequence[Held]
    eligible: Mapping[str, Set[int]]
    wrong_counts: list[str]
    offsets: dict[Place, int]


def look(settings: Settings, topics: Held | None = None) -> Kept:
    """Read all that the stream of `settings` has kept (the topics only where `topics` does not say it)."""
    read = Topics(settings)
    if topics is None:
        for message in messages(str(settings.publish.kafka["bootstrap.servers"]), all_topics(settings)):
            read.add(message)
        topics = read.held
    archive, eligible, per_object = _archive(settings)
    remembered, counts = database(settings)
    places = (topics, archive, remembered)
    return Kept(places, eligible, objects_faults(counts, per_object), read.offsets)


def difference(settings: Settings) -> str | None:
    """A sentence where the topics are not, byte for byte, what follows from the archive."""
    from rayfinch.wiring import outputs

    rules, bootstrap = outputs(settings), str(settings.publish.kafka["bootstrap.servers"])
    archive = Archive(settings.archive.uri, settings.survey)
    ids = np.unique(archive.get(columns=["alert_id"])["alert_id"].to_numpy())
    wanted: Counter[bytes] = Counter()
    for part in np.array_split(ids, -(-len(ids) // ROWS)):
        alerts = archive.get(alert_ids=part.tolist())
        schemas = archive.writer_schemas(set(alerts["packet_schema"].to_pylist()))
        wanted += equal.expected(alerts, schemas, rules)
    topics = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=20).topics
    ours = (rules.schemas, rules.batches, rules.dead_letters(settings.survey))
    records = [t for t in topics if t.startswith(f"{rules.prefix}.") and t not in ours]
    found = equal.digests((str(m.topic()), m.key(), m.value()) for m in messages(bootstrap, records))
    return equal.difference(found, wanted)


def all_topics(settings: Settings) -> list[str]:
    """The topics of every alert: the public's, and the restricted one."""
    from rayfinch.wiring import outputs

    rules = outputs(settings)
    return [rules.all_topic(settings.survey, rights) for rights in (PUBLIC, "restricted")]


class Topics:
    """What the `all` topics hold, message by message.

    offsets: where in the topics each alert is.
    """

    def __init__(self, settings: Settings) -> None:
        self._scored: dict[str, set[int]] = {}
        self.held = Held("the topic `all`", [], self._scored)
        self.offsets: dict[Place, int] = {}
        self._survey = settings.survey
        self._schemas = Schemas(settings.publish.kafka, settings.publish.prefix)
        self._readers: dict[str, tuple[Any, Any, str]] = {}

    def add(self, message: Message) -> None:
        """Count a message in."""
        schema = dict(message.headers() or [])["schema"]
        assert isinstance(schema, bytes)
        name = schema.decode()
        if name not in self._readers:
            self._readers[name] = _reader(self._schemas[name], self._survey)
        writer, wanted, id_field = self._readers[name]
        alert: Any = fastavro.schemaless_reader(io.BytesIO(message.value() or b""), writer, wanted)
        alert_id = alert[id_field]
        self.held.alert_ids.append(alert_id)
        self.offsets[place(message)] = alert_id
        for score in alert[SCORES]:
            if score["top_class"] is not None or score["reason"] == SILENT:
                self._scored.setdefault(score["model"], set()).add(alert_id)


def _reader(writer: Any, survey: str) -> tuple[Any, Any, str]:
    """A writer schema, the part of it that the judge reads, and the name of the alert id in it."""
    fields = {f["name"]: f for f in writer["fields"]}
    id_field = next(name for name in IDS.get(survey, ("alert_id",)) if name in fields)
    part = {"type": "record", "name": writer["name"], "fields": [fields[id_field], fields[SCORES]]}
    return writer, fastavro.parse_schema(part), id_field


def messages(bootstrap: str, topics: list[str]) -> Iterator[Message]:
    """Every committed message of `topics` up to now."""
    consumer = reader(bootstrap, topics, {"enable.partition.eof": True})
    left = {(str(p.topic), p.partition) for p in consumer.assignment()}
    try:
        while left:
            message = consumer.poll(SILENCE_S)
            if message is None:
                raise TimeoutError(f"{bootstrap} went silent with {len(left)} partitions of {topics} unread")
            if (error := message.error()) is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                left.discard((str(message.topic()), int(message.partition() or 0)))
    finally:
        consumer.close()


def _archive(settings: Settings) -> tuple[Held, dict[str, set[int]], Counter[str]]:
    """What is in the archive, which ids each model has to score, and the alerts of each object."""
    from models.manifest import read_manifest
    from rayfinch.wiring import deployed

    archive = Archive(settings.archive.uri, settings.survey)
    models = deployed(settings)
    rules = {name: read_manifest(m.folder / m.current()).precondition for name, m in models.items()}
    columns = ["alert_id", "object_id", "scores"]
    if any(rule.strip().lower() != "true" for rule in rules.values()):
        # A precondition may ask for any column; the packets' bytes are not among what it asks for.
        columns = [c for c in archive.get(limit=1).column_names if c not in ("packet", *CUTOUTS)]
    alerts = archive.get(columns=columns)
    ids = alerts["alert_id"].to_numpy()
    due = {name: set(ids[eligible(alerts, rule)].tolist()) for name, rule in rules.items()}
    held = Held("the archive", ids.tolist(), _scored(alerts))
    return held, due, Counter(alerts["object_id"].to_pylist())


def _scored(alerts: pa.Table) -> dict[str, set[int]]:
    """By model, the ids of alerts with its probabilities, or of which it could say nothing."""
    scored: dict[str, set[int]] = {}
    for batch in alerts.to_batches():
        scores = batch.column("scores")
        ids = batch.column("alert_id").to_numpy()[scores.value_parent_indices().to_numpy()]
        entries = scores.flatten()
        models = np.asarray(entries.field("model").to_pylist())
        silent = pc.fill_null(pc.equal(entries.field("reason"), SILENT), False)
        said = pc.or_(entries.field("probabilities").is_valid(), silent).to_numpy(zero_copy_only=False)
        for model in np.unique(models):
            scored.setdefault(str(model), set()).update(ids[said & (models == model)].tolist())
    return scored


def database(settings: Settings) -> tuple[Held, dict[str, int]]:
    """The alerts that the database remembers, and its number of alerts of each object."""
    from sqlalchemy import select

    from broker.database.tables import objects, recent_alerts

    with reading(connect(settings.database.url, migrate=False)) as db:
        ids = db.execute(
            select(recent_alerts.c.alert_id).where(recent_alerts.c.survey == settings.survey)
        ).scalars()
        held = Held("the database", list(ids))
        counted = db.execute(
            select(objects.c.object_id, objects.c.n_alerts).where(objects.c.survey == settings.survey)
        )
        return held, {row.object_id: row.n_alerts for row in counted}
