"""What a stream is doing: gathered from its database, its source and its archive, changing none of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayfinch.config import Settings
from rayfinch.masking import masked_text

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from broker.stream.planning import Partition
    from broker.stream.source import KafkaSource

Row = dict[str, Any]

MINUTES = (1, 10, 60)


def book(url: str) -> Engine:
    """The database that a stream has made. Raises DatabaseError where there is none, or an older one."""
    from alembic.script import ScriptDirectory

    from broker.database import engine as databases

    first = "the first `rayfinch stream` makes it"
    file = url.removeprefix("sqlite:///").partition("?")[0]
    if file != url and not Path(file).exists():
        raise databases.DatabaseError(f"there is no database {file}: {first}")
    engine = databases.connect(url, migrate=False)
    with databases.reading(engine) as db:
        at = databases.revision(db)
    if at is None:
        raise databases.DatabaseError(f"the database {masked_text(url)} has no tables: {first}")
    wanted = ScriptDirectory(str(Path(databases.__file__).parent / "migrations")).get_current_head()
    if at != wanted:
        raise databases.DatabaseError(
            f"the database {masked_text(url)} is at revision {at}, this Rayfinch wants {wanted}: "
            "run `rayfinch database upgrade`"
        )
    return engine


def source(settings: Settings) -> KafkaSource:
    """The source as the stream sees it, but quiet: librdkafka writes its troubles to stderr otherwise."""
    from broker.stream.source import KafkaSource

    kafka = {**{k: str(v) for k, v in settings.source.kafka.items()}, "log_level": "0"}
    return KafkaSource(kafka, settings.source.topics, settings.source.refresh_s)


def look(settings: Settings, engine: Engine, kafka: KafkaSource) -> Row:
    """One look at the stream, as JSON takes it: times are ISO 8601 (UTC), latencies and stages ms.

    What cannot be reached says so under `error`; the rest is there all the same.
    """
    from broker.archive.archive import Archive
    from broker.database import reports

    stream = settings.stream
    batches = reports.recent_batches(engine, stream)
    return {
        "stream": stream,
        "survey": settings.survey,
        "at": _iso(datetime.now(UTC).timestamp()),
        "driver": next(map(_driver, reports.drivers(engine, stream)), None),
        "source": _source(kafka, reports.positions(engine, stream)),
        "rates": [reports.rates(engine, stream, m) for m in MINUTES],
        "models": batches[0]["models"] if batches else {},
        "batches": [_batch(row) for row in batches],
        "dead_letters": {
            "states": reports.dead_letter_counts(engine, stream),
            "reasons": reports.dead_letter_reasons(engine, stream),
        },
        "gaps": [_dated(row) for row in reports.recent_gaps(engine, stream)],
        "events": [_dated(row) for row in reports.recent_events(engine, stream)],
        "totals": reports.totals(engine).get(settings.survey, {"objects": 0, "alerts": 0}),
        "archive": _archive(
            Archive(settings.archive.uri, settings.survey, settings.archive.storage_options or None)
        ),
    }


def lags(ends: Iterable[Partition], positions: Iterable[Mapping[str, Any]]) -> list[Row]:
    """How far the stream is behind in each partition: `end` of the source less `committed` of the stream.

    A partition that was never planned is behind by all that it holds. One that the source no longer shows is
    listed, with `end` and `lag` None, only while a planned batch of it is not done.
    """
    known = {(p["topic"], p["topic_id"], p["partition"]): p for p in positions}
    rows = []
    for part in sorted(ends):
        at = known.pop(part.key, None)
        committed = at["committed"] if at else None
        rows.append(
            _lag(part.topic, part.partition, part.high, committed, max(0, part.high - (committed or 0)))
        )
    for (topic, _, partition), at in sorted(known.items()):
        if at["planned"] > at["committed"]:
            rows.append(_lag(topic, partition, None, at["committed"], None))
    return rows


def _lag(topic: str, partition: int, end: int | None, committed: int | None, lag: int | None) -> Row:
    return {"topic": topic, "partition": partition, "end": end, "committed": committed, "lag": lag}


def _source(kafka: KafkaSource, positions: list[Row]) -> Row:
    from broker.stream.source import SourceError

    address = kafka.kafka.get("bootstrap.servers", "?")
    try:
        rows = lags(kafka.partitions(), positions)
    except SourceError as error:
        # The stream's own side of it is known all the same.
        rows = [_lag(p["topic"], p["partition"], None, p["committed"], None) for p in positions]
        return {"address": address, "error": str(error), "lag": None, "partitions": rows}
    return {"address": address, "error": None, "lag": sum(r["lag"] or 0 for r in rows), "partitions": rows}


def _archive(archive: Any) -> Row:
    from broker.archive.errors import ArchiveError

    try:
        stats = archive.stats()
    except (ArchiveError, OSError, ValueError) as error:
        return {"uri": archive.address, "error": masked_text(" ".join(str(error).split())), "alerts": None}
    kept = {k: stats[k] for k in ("alerts", "bytes", "bytes_per_alert", "fragments", "versions")}
    return {"uri": archive.address, "error": None, **kept}


def _driver(row: Row) -> Row:
    return {
        "owner": row["owner"] or None,
        "alive": row["alive"],
        "until": _iso(row["expires"]) if row["owner"] else None,
        "epoch": row["epoch"],
    }


def _batch(row: Row) -> Row:
    outcome = row["outcome"] or {}
    return {
        "batch": row["batch"],
        "state": row["state"],
        "attempt": row["attempt"],
        "offsets": row["offsets"],
        "alerts": outcome.get("counts", {}).get("alerts"),
        "counts": outcome.get("counts", {}),
        "classes": outcome.get("classes", {}),
        "latency_ms": outcome.get("latency_ms") or None,
        "stages_ms": outcome.get("stages_ms", {}),
        "models": row["models"],
        "planned_at": _iso(row["planned_at"]),
        "done_at": _iso(row["done_at"]) if row["done_at"] else None,
    }


def _dated(row: Row) -> Row:
    """A row with its time readable, and without what only the database needs."""
    kept = {k: v for k, v in row.items() if k not in ("id", "stream")}
    return {k: _iso(v) if k in ("at", "recorded_at") else v for k, v in kept.items()}


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
