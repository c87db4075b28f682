"""Dead letters as an operator sees them: listed, read, asked for again. The stream does the work itself.

A row's state: dead -> retry (asked for) -> retrying (planned) -> recovered, or dead again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Engine, func, select, update

from broker.database.engine import reading
from broker.database.objects import among
from broker.database.tables import batches, dead_letters

STATES = ("dead", "retry", "retrying", "recovered")
_SHOWN = [c for c in dead_letters.c if c.name != "packet"]


class NoDeadLetter(LookupError):
    """There is no dead letter of that number."""


def search(
    engine: Engine,
    *,
    stream: str | None = None,
    states: Sequence[str] = ("dead", "retry", "retrying"),
    reason: str | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """The rows, oldest first, without their packets: `bytes` is how long each is.

    `reason` is a SQL LIKE pattern; without a % it is looked for anywhere in the reason.
    """
    query = select(*_SHOWN, func.length(dead_letters.c.packet).label("bytes"))
    query = query.where(dead_letters.c.state.in_(states)).order_by(dead_letters.c.id).limit(limit)
    if stream is not None:
        query = query.where(dead_letters.c.stream == stream)
    if reason is not None:
        query = query.where(dead_letters.c.reason.ilike(reason if "%" in reason else f"%{reason}%"))
    with reading(engine) as db:
        return [dict(row) for row in db.execute(query).mappings()]


def read(engine: Engine, row: int) -> tuple[dict[str, Any], bytes]:
    """A row and its packet. Raises NoDeadLetter."""
    query = select(dead_letters).where(dead_letters.c.id == row)
    with reading(engine) as db:
        found = db.execute(query).mappings().one_or_none()
    if found is None:
        raise NoDeadLetter(
            f"there is no dead letter {row}; `rayfinch deadletters list` shows those there are"
        )
    shown = {name: value for name, value in found.items() if name != "packet"}
    packet = bytes(found["packet"])
    return {**shown, "bytes": len(packet)}, packet


def retry(engine: Engine, rows: Sequence[int], stream: str | None = None) -> int:
    """Ask for dead letters to be worked on again; how many of `rows` (of `stream`) there were to ask for.

    Those of a batch that is still under way are left alone: its next attempt finds them anew.
    """
    is_open = select(batches.c.batch).where(
        batches.c.stream == dead_letters.c.stream,
        batches.c.batch == dead_letters.c.batch,
        batches.c.state == "planned",
    )
    dead: ColumnElement[bool] = (dead_letters.c.state == "dead") & ~is_open.exists()
    if stream is not None:
        dead &= dead_letters.c.stream == stream
    with engine.begin() as db:
        wanted = update(dead_letters).where(dead, among(db, dead_letters.c.id, list(rows)))
        return db.execute(wanted.values(state="retry")).rowcount
