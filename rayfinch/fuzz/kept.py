"""What a stream has kept of a campaign: each message accounted for, the healthy ones as if alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from broker.archive.archive import Archive
from broker.archive.errors import ArchiveError
from broker.database import deadletters
from broker.database.engine import connect, reading
from broker.packets.decode import decode
from broker.packets.registry import Folder
from broker.packets.schema import ALERTS, CUTOUTS, datum
from broker.packets.survey import SchemaSource, survey
from broker.publish.reader import Schemas
from broker.publish.reader import decode as read_published
from rayfinch.bench.held import all_topics, database, messages
from rayfinch.bench.judge import Held, faults, objects_faults
from rayfinch.config import Settings
from rayfinch.fuzz.messages import Messages, number
from rayfinch.fuzz.result import Result

# A column of the alert table is what it is whoever the neighbours are, but for these.
_PLACES = ("ingested_at", "topic", "partition", "offset")
_SAME = [name for name in ALERTS.names if name not in (*_PLACES, "packet", *CUTOUTS)]
DEADLY = " the decoder"  # in the reason of a packet that killed or hung it


@dataclass(frozen=True)
class Kept:
    """deadly: numbers of the messages that killed or hung the decoder. harmed: ids of healthy alerts."""

    deadly: list[int]
    harmed: list[int]


def judge(settings: Settings, sent: Messages, result: Result) -> Kept:
    """Fill in the result. The stream must have ended."""
    counts, second_attempts = _outcomes(settings)
    result.packets, result.healthy = sent.mutants, sent.healthy
    result.resent, result.dead_letters = counts["resent"], counts["dead_letters"]
    result.second_attempts = second_attempts
    result.accounted = counts["alerts"] + counts["resent"] + counts["dead_letters"] == len(sent)
    if not result.accounted:
        result.faults.append(f"{len(sent)} messages were sent, and {dict(counts)} came of them")
    archived = _Archived(settings, sent)
    result.neighbours_harmed = len(archived.harmed)
    result.decoded = len(archived.ids) - sum(1 for i in archived.ids if i in sent.healthy_ids())
    remembered, per_object = database(settings)
    result.faults += faults(archived.ids, [Held("the archive", archived.ids), remembered], {})
    result.faults += objects_faults(per_object, archived.objects)
    result.faults += [f"healthy alert {i}: {why}" for i, why in list(archived.harmed.items())[:5]]
    if counts["alerts"] != len(archived.ids):
        result.faults.append(
            f"the batches count {counts['alerts']} alerts, the archive has {len(archived.ids)}"
        )
    result.unreadable, of_object = _published(settings)
    if of_object != archived.objects:
        result.faults.append(
            f"the topics have {of_object.total()} alerts, of other objects than the archive's"
        )
    return Kept(_letters(settings, result), list(archived.harmed))


class _Archived:
    """The archive's alerts: their ids, how many each object has, which healthy ones are not themselves."""

    def __init__(self, settings: Settings, sent: Messages) -> None:
        self.ids: list[int] = []
        self.objects: Counter[str] = Counter()
        self.harmed: dict[int, str] = {}
        self._sent = sent
        self._alone = _Alone(settings)
        self._scored: dict[int, set[str]] = {}
        seen: Counter[int] = Counter()
        for table in _batches(settings):
            self.ids += table["alert_id"].to_pylist()
            self.objects.update(table["object_id"].to_pylist())
            ids = table["alert_id"].to_numpy()
            ours = (ids >= sent.healthy_ids().start) & (ids < sent.healthy_ids().stop)
            for row in table.take(np.flatnonzero(ours)).to_pylist():
                seen[row["alert_id"]] += 1
                self._look_at(row)
        for alert_id in sent.healthy_ids():
            if seen[alert_id] != 1:
                self.harmed[alert_id] = f"it is in the archive {seen[alert_id]} times"
        self._look_at_scores()

    def _look_at(self, row: dict[str, Any]) -> None:
        alert_id = row["alert_id"]
        base = self._sent.base(alert_id)
        if (found := values(row)) != (wanted := self._alone.values(base)):
            names = [name for name in wanted if found[name] != wanted[name]]
            self.harmed[alert_id] = f"it has other values than alone: {', '.join(names)}"
        elif datum(row) != base.edited((), alert_id):
            self.harmed[alert_id] = "its packet cannot be rebuilt byte for byte"
        self._scored[alert_id] = {s["model"] for s in row["scores"] if s["probabilities"] is not None}

    def _look_at_scores(self) -> None:
        """A model that scores one alert of a packet scores each of its likes."""
        due: dict[int, set[str]] = {}
        for alert_id, models in self._scored.items():
            due.setdefault(id(self._sent.base(alert_id)), set()).update(models)
        for alert_id, models in self._scored.items():
            if lacking := due[id(self._sent.base(alert_id))] - models:
                self.harmed.setdefault(alert_id, f"it has no score of {', '.join(sorted(lacking))}")
        if self._scored and not any(due.values()):
            self.harmed |= dict.fromkeys(self._scored, "no model has scored it")


class _Alone:
    """Healthy packets decoded with nobody beside them."""

    def __init__(self, settings: Settings) -> None:
        self._survey = survey(settings.survey)
        self._schemas: SchemaSource | None = (
            Folder(Path(settings.source.schemas)) if settings.source.schemas else None
        )
        self._known: dict[int, dict[str, str]] = {}

    def values(self, base: Any) -> dict[str, str]:
        if id(base) not in self._known:
            alerts = decode(self._survey, [base.packet(1 << 60)], self._schemas).alerts
            (row,) = alerts.to_pylist()
            self._known[id(base)] = values(row)
        return self._known[id(base)]


def values(row: dict[str, Any]) -> dict[str, str]:
    """By column, told so that NaN equals NaN, without the id, which each has for itself.

    The archive's `source` has the fields of every schema that came by, in the order in which they came: null
    where an alert's lacks them.
    """
    given = {k: v for k, v in sorted(row["source"].items()) if v is not None}
    return {
        name: repr(given if name == "source" else row[name]).replace(str(row["alert_id"]), "its id")
        for name in _SAME
    }


def _batches(settings: Settings) -> Iterator[pa.Table]:
    archive = Archive(settings.archive.uri, settings.survey)
    try:
        tags = archive.get(columns=["batch"])["batch"].unique().to_pylist()
    except ArchiveError:  # not one alert has come out
        return
    for tag in tags:
        yield archive.read_batch(tag)


def _published(settings: Settings) -> tuple[int, Counter[str]]:
    """How many alerts in the topics no consumer can decode, and how many there are of each object."""
    schemas = Schemas(settings.publish.kafka, settings.publish.prefix)
    unreadable = 0
    objects: Counter[str] = Counter()
    for message in messages(str(settings.publish.kafka["bootstrap.servers"]), all_topics(settings)):
        objects[(message.key() or b"").decode()] += 1
        try:
            read_published(message, schemas)
        except Exception:  # fastavro raises whatever it hits
            unreadable += 1
    return unreadable, objects


def _letters(settings: Settings, result: Result) -> list[int]:
    """Hold the table of dead letters against the batches and the topic; which of them are deadly."""
    from rayfinch.wiring import outputs

    rows = deadletters.search(connect(settings.database.url), stream=settings.stream)
    if len(rows) != result.dead_letters:
        result.faults.append(f"the batches count {result.dead_letters} dead letters, the table {len(rows)}")
    if silent := sum(1 for row in rows if not row["reason"]):
        result.faults.append(f"{silent} dead letters have no reason")
    bootstrap = str(settings.publish.kafka["bootstrap.servers"])
    told = sum(1 for _ in messages(bootstrap, [outputs(settings).dead_letters(settings.survey)]))
    if told != len(rows):
        result.faults.append(f"{told} dead letters are in the topic, {len(rows)} in the table")
    deadly = [number(r["partition"], r["offset"]) for r in rows if DEADLY in r["reason"]]
    result.decoder_killed = len(deadly)
    return deadly


def _outcomes(settings: Settings) -> tuple[Counter[str], int]:
    """The sum of the batches' counts, and how many attempts there were beside the first ones."""
    from sqlalchemy import select

    from broker.database.tables import batches

    counts: Counter[str] = Counter()
    more = 0
    query = select(batches.c.attempt, batches.c.outcome).where(batches.c.stream == settings.stream)
    with reading(connect(settings.database.url)) as db:
        for attempt, outcome in db.execute(query):
            more += attempt - 1
            counts.update({k: v for k, v in (outcome or {}).get("counts", {}).items() if isinstance(v, int)})
    return counts, more
