"""What the database knows of the streams, for `rayfinch status`: plain rows, which JSON takes as they are.

Every function takes a stream's name, or None for all of them.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from sqlalchemy import Engine, Select, Table, func, select

from broker.database.engine import reading
from broker.database.tables import batches, dead_letters, events, gaps, objects, offsets, streams

Row = dict[str, Any]


def drivers(engine: Engine, stream: str | None = None) -> list[Row]:
    """The streams there are: survey, epoch, owner, and whether one drives it now (`alive`)."""
    query = select(
        streams.c.stream, streams.c.survey, streams.c.epoch, streams.c.owner, streams.c.expires
    ).order_by(streams.c.stream)
    rows = _rows(engine, _of(query, streams, stream))
    return [{**row, "alive": bool(row["owner"]) and row["expires"] > time.time()} for row in rows]


def recent_batches(engine: Engine, stream: str | None = None, limit: int = 20) -> list[Row]:
    """The latest batches, newest first: state, attempt, models, outcome, planned_at, done_at (s), offsets."""
    query = select(batches).order_by(batches.c.planned_at.desc(), batches.c.batch.desc()).limit(limit)
    rows = _rows(engine, _of(query, batches, stream))
    for row in rows:
        row["offsets"] = sum(r["end"] - r["first"] for r in row.pop("ranges"))
    return rows


def rates(engine: Engine, stream: str | None = None, minutes: float = 5.0) -> Row:
    """What was committed over the last `minutes`.

    batches, alerts, alerts_per_s (over the whole time), counts (summed), stages_ms (mean a batch), and
    latency_p50_ms, latency_max_ms: the median batch's median and the worst, of Kafka timestamp to readable.
    """
    query = select(batches.c.outcome).where(
        batches.c.state == "done", batches.c.done_at > time.time() - 60 * minutes
    )
    outcomes = [row["outcome"] or {} for row in _rows(engine, _of(query, batches, stream))]
    counts: Counter[str] = Counter()
    stages: Counter[str] = Counter()
    for outcome in outcomes:
        counts.update(outcome.get("counts", {}))
        stages.update(outcome.get("stages_ms", {}))
    latencies = [latency for o in outcomes if (latency := o.get("latency_ms"))]
    medians = sorted(latency["p50"] for latency in latencies)
    return {
        "minutes": minutes,
        "batches": len(outcomes),
        "alerts": counts["alerts"],
        "alerts_per_s": counts["alerts"] / (60 * minutes),
        "counts": dict(counts),
        "stages_ms": {name: total / len(outcomes) for name, total in stages.items()},
        "latency_p50_ms": medians[len(medians) // 2] if medians else None,
        "latency_max_ms": max((latency["max"] for latency in latencies), default=None),
    }


def positions(engine: Engine, stream: str | None = None) -> list[Row]:
    """Up to where each partition is planned and committed (the next offset)."""
    query = select(offsets).order_by(offsets.c.stream, offsets.c.topic, offsets.c.partition)
    return _rows(engine, _of(query, offsets, stream))


def dead_letter_counts(engine: Engine, stream: str | None = None) -> dict[str, int]:
    """How many dead letters are in which state."""
    query = select(dead_letters.c.state, func.count().label("n")).group_by(dead_letters.c.state)
    return {row["state"]: row["n"] for row in _rows(engine, _of(query, dead_letters, stream))}


def dead_letter_reasons(engine: Engine, stream: str | None = None, limit: int = 10) -> list[Row]:
    """The most frequent reasons of what is dead now: reason, n."""
    n = func.count().label("n")
    query = select(dead_letters.c.reason, n).where(dead_letters.c.state == "dead")
    query = query.group_by(dead_letters.c.reason).order_by(n.desc(), dead_letters.c.reason).limit(limit)
    return _rows(engine, _of(query, dead_letters, stream))


def recent_gaps(engine: Engine, stream: str | None = None, limit: int = 20) -> list[Row]:
    """Offsets that the source no longer had, newest first."""
    return _rows(engine, _of(select(gaps).order_by(gaps.c.id.desc()).limit(limit), gaps, stream))


def recent_events(engine: Engine, stream: str | None = None, limit: int = 20) -> list[Row]:
    """Alarms, newest first."""
    return _rows(engine, _of(select(events).order_by(events.c.id.desc()).limit(limit), events, stream))


def totals(engine: Engine) -> dict[str, Row]:
    """Survey -> how many objects it has, and how many alerts they have together."""
    total = func.sum(objects.c.n_alerts).label("alerts")
    query = select(objects.c.survey, func.count().label("objects"), total).group_by(objects.c.survey)
    rows = _rows(engine, query)
    return {row["survey"]: {"objects": row["objects"], "alerts": int(row["alerts"])} for row in rows}


def _of(query: Select[Any], table: Table, stream: str | None) -> Select[Any]:
    return query if stream is None else query.where(table.c.stream == stream)


def _rows(engine: Engine, query: Select[Any]) -> list[Row]:
    with reading(engine) as db:
        return [dict(row) for row in db.execute(query).mappings()]
