"""Objects: a batch's alerts summed up to one row an object, and added to what is known of it.

Summing up is pure; adding is one statement for all rows, in the caller's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from sqlalchemy import (
    JSON,
    BigInteger,
    Connection,
    Table,
    Text,
    case,
    cast,
    column,
    func,
    literal,
    select,
    text,
)
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
    last = alerts["scores"].take(one["row"].to_arrow()).combine_chunks()
    return one.drop("row").with_columns(last_scores=pl.Series(top_scores(last), dtype=pl.String)).to_dicts()


def top_scores(scores: pa.ListArray) -> list[str]:
    """Of each row of type schema.SCORES its models' most probable classes, as JSON.

    A list of {model, version, class, probability, reason}; class and probability are null, and the reason
    says why, where a model could not score. Thousands of rows a second pass here: no Python object a number.
    """
    if isinstance(scores, pa.ChunkedArray):  # what combine_chunks makes of no rows at all
        scores = pa.array([], scores.type)
    entries = scores.flatten()
    model, version, reason = (entries.field(n).to_pylist() for n in ("model", "version", "reason"))
    probabilities, classes = entries.field("probabilities"), entries.field("classes")
    values = np.asarray(probabilities.values.to_numpy(zero_copy_only=False), np.float64)
    ends = probabilities.offsets.to_numpy().tolist()
    tops = [a + int(values[a:b].argmax()) if a < b else -1 for a, b in pairwise(ends)]
    # `classes` runs parallel to `probabilities`, entry by entry.
    shift = (classes.offsets.to_numpy() - probabilities.offsets.to_numpy())[:-1].tolist()
    at = pa.array([None if top < 0 else top + by for top, by in zip(tops, shift, strict=True)], pa.int64())
    names = classes.values.take(at).to_pylist()
    texts = [
        _said(model[i], version[i], names[i], values[top])
        if top >= 0 and np.isfinite(values[top])
        else _silent(model[i], version[i], reason[i])
        for i, top in enumerate(tops)
    ]
    bounds = scores.offsets.to_numpy() - (scores.offsets[0].as_py() if len(scores) else 0)
    return [f"[{', '.join(texts[a:b])}]" for a, b in pairwise(bounds)]


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
    key = ["survey", "object_id"]
    execute_many(db, statement.on_conflict_do_update(index_elements=key, set_=changes), rows)


def insert_into(db: Connection, table: Table) -> Any:
    """INSERT with `on_conflict_do_update` and `excluded`, in the dialect of `db`."""
    return postgresql.insert(table) if db.dialect.name == "postgresql" else sqlite.insert(table)


def execute_many(db: Connection, statement: Any, rows: Sequence[dict[str, Any]]) -> None:
    """Execute an INSERT for many rows whose values the driver takes as they are; JSON as text.

    SQLAlchemy's own way with each value of each row would cost more than the database's work. PostgreSQL gets
    all rows in one statement, as one JSON text: psycopg takes longer over arrays.
    """
    names = list(rows[0])
    if db.dialect.name == "postgresql":
        fields = [statement.table.c[name] for name in names]
        types = [column(f.name, Text() if isinstance(f.type, JSON) else f.type) for f in fields]
        document = cast(literal(json.dumps(rows), Text), JSON)
        given = func.json_to_recordset(document).table_valued(*types).render_derived(with_types=True)
        values = [cast(given.c[f.name], f.type) for f in fields]
        db.execute(statement.from_select(names, select(*values)))
    else:
        compiled = statement.compile(dialect=db.dialect, column_keys=names)
        order = compiled.positiontup
        db.exec_driver_sql(str(compiled), [tuple([row[name] for name in order]) for row in rows])


def among(db: Connection, field: Any, ids: Sequence[int]) -> Any:
    """The condition that `field` is one of `ids`, however many they are: one parameter, not thousands."""
    if db.dialect.name == "postgresql":
        return field == func.any(literal(list(ids), postgresql.ARRAY(BigInteger)))
    return field.in_(select(text("value from json_each(:ids)")).params(ids=json.dumps(list(ids))))


def _said(model: str, version: str, name: str, probability: float) -> str:
    return f'{_head(model, version, name)}, "probability": {probability:.7g}, "reason": null}}'


@lru_cache(4096)
def _head(model: str, version: str, name: str) -> str:
    return json.dumps({"model": model, "version": version, "class": name})[:-1]


@lru_cache(4096)
def _silent(model: str, version: str, reason: str | None) -> str:
    said = {"model": model, "version": version, "class": None, "probability": None, "reason": reason}
    return json.dumps(said)
