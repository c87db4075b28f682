"""Objects: a batch's alerts summed up to one row an object, and added to what is known of it.

Summing up is pure; adding is one statement for all rows, in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
import pyarrow as pa
from sqlalchemy import Connection, Table, case
from sqlalchemy.dialects import postgresql, sqlite

from broker.database.tables import objects
from broker.packets.schema import PUBLIC

_LATEST = ("ra", "dec", "hpx29", "last_alert_id", "last_scores")


def object_rows(alerts: pa.Table) -> list[dict[str, Any]]:
    """One row of the table `objects` per object of `alerts`, in the order of their ids.

    Needs survey, alert_id, object_id, mjd, ra, dec, hpx29, rights and scores. Of two alerts with the same mjd
    the one with the higher alert_id is the later.
    """
    frame = pl.from_arrow(alerts.select([c for c in alerts.column_names if c != "scores"]))
    assert isinstance(frame, pl.DataFrame)
    one = (
        frame.with_row_index("row")
        .sort("mjd", "alert_id")
        .group_by("survey", "object_id")
        .agg(
            pl.col("mjd").first().alias("first_mjd"),
            pl.col("mjd").last().alias("last_mjd"),
            pl.len().cast(pl.Int64).alias("n_alerts"),
            (pl.col("rights") == PUBLIC).sum().cast(pl.Int64).alias("n_public"),
            pl.col("ra", "dec", "hpx29", "row").last(),
            pl.col("alert_id").last().alias("last_alert_id"),
        )
        .sort("survey", "object_id")  # all lock rows in one order: no deadlock between streams on PostgreSQL
    )
    scores = alerts["scores"].take(one["row"].to_arrow()).to_pylist()
    rows = one.drop("row").to_dicts()
    for row, entries in zip(rows, scores, strict=True):
        row["last_scores"] = [_top(entry) for entry in entries]
    return rows


def upsert(db: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Add `rows` (of object_rows) to the objects known; once per batch, for counts are added up.

    An older alert never replaces what a newer one said.
    """
    if not rows:
        return
    statement = insert_into(db, objects)
    new, old = statement.excluded, objects.c
    later = new.last_mjd >= old.last_mjd
    changes = {
        "first_mjd": case((new.first_mjd < old.first_mjd, new.first_mjd), else_=old.first_mjd),
        "last_mjd": case((later, new.last_mjd), else_=old.last_mjd),
        "n_alerts": old.n_alerts + new.n_alerts,
        "n_public": old.n_public + new.n_public,
        **{name: case((later, new[name]), else_=old[name]) for name in _LATEST},
    }
    db.execute(
        statement.on_conflict_do_update(index_elements=["survey", "object_id"], set_=changes), list(rows)
    )


def insert_into(db: Connection, table: Table) -> Any:
    """INSERT with `on_conflict_do_update` and `excluded`, in the dialect of `db`."""
    return postgresql.insert(table) if db.dialect.name == "postgresql" else sqlite.insert(table)


def _top(entry: dict[str, Any]) -> dict[str, Any]:
    """A score's most probable class; null, with the reason, where the model could not say."""
    probabilities = entry["probabilities"]
    best = max(range(len(probabilities)), key=probabilities.__getitem__) if probabilities else None
    return {
        "model": entry["model"],
        "version": entry["version"],
        "class": None if best is None else entry["classes"][best],
        "probability": None if best is None else probabilities[best],
        "reason": entry["reason"],
    }
