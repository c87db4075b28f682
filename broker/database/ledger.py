"""One stream's book: what is planned, what was found wanting, what is done.

Every writing method verifies the lease inside its own transaction: it raises LeaseLost and changes nothing
once another driver has taken over.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, Engine, Select, delete, func, insert, select, update

from broker.database import deadletters
from broker.database import lease as leases
from broker.database.lease import Lease, LeaseHeld, LeaseLost
from broker.database.objects import among, execute_many, insert_into, object_rows, upsert
from broker.database.tables import batches, dead_letters, events, gaps, offsets, recent_alerts, streams
from broker.stream.plan import DEAD_LETTERS, DeadLetter, Gap, Plan, Range

__all__ = ["Lease", "LeaseHeld", "LeaseLost", "Ledger"]

Key = tuple[str, str, int]  # topic, topic_id, partition

THREE_NIGHTS_S = 3 * 86400.0
BATCHES_KEPT_S = 30 * 86400.0
_PLACE = ("topic", "topic_id", "partition")
_LETTER = (*_PLACE, "offset", "reason", "packet", "kafka_timestamp")


class Ledger:
    """The book of `stream`, which reads `survey`, in the database of `engine`."""

    def __init__(self, engine: Engine, stream: str, survey: str) -> None:
        self.engine, self.stream, self.survey = engine, stream, survey

    # -- the lease

    def acquire(self, owner: str, ttl_s: float, wait: bool) -> Lease:
        """Take the stream over; see broker.database.lease.acquire. Raises LeaseHeld."""
        return leases.acquire(self.engine, self.stream, self.survey, owner, ttl_s, wait)

    def renew(self, lease: Lease) -> None:
        leases.renew(self.engine, lease)

    def check(self, lease: Lease) -> None:
        """Raise LeaseLost unless the lease is still the latest."""
        with self._read() as db:
            leases.hold(db, lease)

    def release(self, lease: Lease) -> None:
        leases.release(self.engine, lease)

    # -- plans

    def planned(self) -> dict[Key, int]:
        """Where the next plan begins in each partition."""
        return self._offsets("planned")

    def offsets(self) -> dict[Key, int]:
        """What is done in each partition: the next offset."""
        return self._offsets("committed")

    def plan(self, lease: Lease, ranges: Sequence[Range], models: Mapping[str, str]) -> Plan:
        """Write the next batch down, before any work on it; the next plan will begin behind `ranges`."""
        with self.engine.begin() as db:
            leases.hold(db, lease)
            mine = batches.c.stream == self.stream
            batch = (db.scalar(select(func.max(batches.c.batch)).where(mine)) or 0) + 1
            row = {"stream": self.stream, "batch": batch, "state": "planned", "attempt": 0}
            row |= {"ranges": [asdict(r) for r in ranges], "models": dict(models), "planned_at": time.time()}
            db.execute(insert(batches), row)
            rows = [r.first for r in ranges if r.topic == DEAD_LETTERS]
            self._letters_become(db, "retrying", rows)
            places = [
                {"stream": self.stream, **_place(r), "planned": r.end, "committed": r.first}
                for r in ranges
                if r.topic != DEAD_LETTERS
            ]
            if places:
                new = insert_into(db, offsets)
                key = ["stream", *_PLACE]
                db.execute(
                    new.on_conflict_do_update(index_elements=key, set_={"planned": new.excluded.planned}),
                    places,
                )
            return self._plan(row, db)

    def open_plans(self) -> list[Plan]:
        """What is planned and not done, in order: what a restart finishes first."""
        query = self._batches().where(batches.c.state == "planned").order_by(batches.c.batch)
        with self._read() as db:
            return [self._plan(dict(row), db) for row in db.execute(query).mappings()]

    def begin_attempt(self, lease: Lease, batch: int) -> int:
        """Count an attempt at a batch; the first one is 1."""
        mine = self._is(batch)
        with self.engine.begin() as db:
            leases.hold(db, lease)
            db.execute(update(batches).where(mine).values(attempt=batches.c.attempt + 1))
            return db.execute(select(batches.c.attempt).where(mine)).scalar_one()

    # -- what was found wanting

    def record_outcome(
        self,
        lease: Lease,
        batch: int,
        outcome: Mapping[str, Any],
        letters: Sequence[DeadLetter],
        found_gaps: Sequence[Gap],
    ) -> None:
        """Keep what a run of a batch found. Another run of the same batch replaces it."""
        now = time.time()
        common = {"stream": self.stream, "batch": batch, "recorded_at": now}
        with self.engine.begin() as db:
            leases.hold(db, lease)
            retried = self._retried(db, batch)
            former = (dead_letters.c.stream == self.stream) & (dead_letters.c.batch == batch)
            db.execute(delete(dead_letters).where(former & dead_letters.c.id.not_in(retried)))
            db.execute(delete(gaps).where((gaps.c.stream == self.stream) & (gaps.c.batch == batch)))
            self._letters_become(db, "retrying", retried)
            if letters:
                new = insert_into(db, dead_letters)
                changes = {name: new.excluded[name] for name in ("reason", "batch", "state", "recorded_at")}
                rows = [{**common, **asdict(letter), "state": "dead"} for letter in letters]
                key = ["stream", *_PLACE, "offset"]
                db.execute(new.on_conflict_do_update(index_elements=key, set_=changes), rows)
            if found_gaps:
                gap = insert_into(db, gaps)
                rows = [{**common, **asdict(g)} for g in found_gaps]
                db.execute(gap.on_conflict_do_nothing(), rows)
            db.execute(update(batches).where(self._is(batch)).values(outcome=dict(outcome)))

    def outcome(self, batch: int) -> dict[str, Any] | None:
        """What was recorded of a batch; None before that."""
        with self._read() as db:
            return db.scalar(select(batches.c.outcome).where(self._is(batch)))

    def dead_letters_of(self, batch: int) -> list[DeadLetter]:
        dead = (dead_letters.c.batch == batch) & (dead_letters.c.state == "dead")
        return [letter for _, letter in self._letters(dead)]

    def dead_letters(self) -> list[tuple[int, DeadLetter]]:
        """(row, letter) of every packet that is dead now."""
        return self._letters(dead_letters.c.state == "dead")

    def letters(self, rows: Sequence[int]) -> dict[int, DeadLetter]:
        """The dead letters of these rows, whatever their state."""
        return dict(self._letters(dead_letters.c.id.in_(list(rows)))) if rows else {}

    def retry(self, rows: Sequence[int]) -> int:
        """Ask the stream to work on dead letters again; how many of `rows` were dead."""
        return deadletters.retry(self.engine, rows, self.stream)

    def retries(self) -> list[int]:
        """Rows of dead letters that somebody asked for again and no batch has taken yet."""
        asked = (dead_letters.c.stream == self.stream) & (dead_letters.c.state == "retry")
        with self._read() as db:
            return list(db.scalars(select(dead_letters.c.id).where(asked).order_by(dead_letters.c.id)))

    def gaps(self) -> list[Gap]:
        names = (*_PLACE, "first", "end", "reason")
        query = select(*(gaps.c[n] for n in names)).where(gaps.c.stream == self.stream)
        with self._read() as db:
            return [Gap(**row) for row in db.execute(query.order_by(gaps.c.recorded_at)).mappings()]

    # -- the end of a batch

    def resent(self, alert_ids: np.ndarray, within_s: float = THREE_NIGHTS_S) -> set[int]:
        """Those of `alert_ids` that a batch of any stream of this survey kept within three nights."""
        if not len(alert_ids):
            return set()
        since = time.time() - within_s
        with self._read() as db:
            sent = among(db, recent_alerts.c.alert_id, alert_ids.tolist())
            # Not `kept_at > since` here: SQLite would go through all of the three nights by that index.
            query = select(recent_alerts.c.alert_id, recent_alerts.c.kept_at)
            found = db.execute(query.where(recent_alerts.c.survey == self.survey, sent))
            return {row.alert_id for row in found if row.kept_at > since}

    def commit(self, lease: Lease, plan: Plan, alerts: pa.Table | None, outcome: Mapping[str, Any]) -> None:
        """End a batch, in one transaction: objects, recent ids, offsets, dead letters, the batch itself.

        alerts: what was kept (columns survey, alert_id, object_id, mjd, ra, dec, hpx29, rights, scores).
        Does nothing where the batch is done already.
        """
        now = time.time()
        rows = object_rows(alerts) if alerts is not None else []
        # Sorted, as the objects are: streams of one survey lock rows in one order, and never deadlock.
        kept = [] if alerts is None else sorted(alerts["alert_id"].to_pylist())
        with self.engine.begin() as db:
            leases.hold(db, lease)
            if db.execute(select(batches.c.state).where(self._is(plan.batch))).scalar_one() == "done":
                return
            upsert(db, rows)
            if kept:
                new = insert_into(db, recent_alerts)
                ids = [{"survey": self.survey, "alert_id": i, "kept_at": now} for i in kept]
                again = {"kept_at": new.excluded.kept_at}
                key = ["survey", "alert_id"]
                execute_many(db, new.on_conflict_do_update(index_elements=key, set_=again), ids)
            old = (recent_alerts.c.survey == self.survey) & (recent_alerts.c.kept_at < now - THREE_NIGHTS_S)
            db.execute(delete(recent_alerts).where(old))
            for r in plan.ranges:
                if r.topic != DEAD_LETTERS:
                    here = [offsets.c[name] == value for name, value in _place(r).items()]
                    mine = offsets.c.stream == self.stream
                    db.execute(update(offsets).where(mine, *here).values(committed=r.end))
            self._letters_become(db, "recovered", self._retried(db, plan.batch), only="retrying")
            if plan.batch % 100 == 0:
                ancient = (batches.c.stream == self.stream) & (batches.c.done_at < now - BATCHES_KEPT_S)
                db.execute(delete(batches).where(ancient))
            done = {"state": "done", "outcome": dict(outcome), "done_at": now}
            db.execute(update(batches).where(self._is(plan.batch)).values(**done))

    # -- alarms

    def event(self, kind: str, message: str, detail: Mapping[str, Any]) -> None:
        """Raise an alarm: kept, and shown by `rayfinch status`."""
        row = {"stream": self.stream, "kind": kind, "message": message, "detail": dict(detail)}
        with self.engine.begin() as db:
            db.execute(insert(events), {**row, "at": time.time()})

    def events(self, limit: int = 1000) -> list[dict[str, Any]]:
        """The latest alarms of the stream, oldest first."""
        query = select(events).where(events.c.stream == self.stream).order_by(events.c.id.desc()).limit(limit)
        with self._read() as db:
            return [dict(row) for row in db.execute(query).mappings()][::-1]

    # -- helpers

    def _read(self) -> Connection:
        return self.engine.connect().execution_options(read=True)

    def _is(self, batch: int) -> Any:
        return (batches.c.stream == self.stream) & (batches.c.batch == batch)

    def _batches(self) -> Select[Any]:
        return select(batches).where(batches.c.stream == self.stream)

    def _offsets(self, which: str) -> dict[Key, int]:
        query = select(offsets).where(offsets.c.stream == self.stream)
        with self._read() as db:
            rows = db.execute(query).mappings()
            return {(r["topic"], r["topic_id"], r["partition"]): r[which] for r in rows}

    def _plan(self, row: Mapping[str, Any], db: Connection) -> Plan:
        identity = db.scalar(select(streams.c.identity).where(streams.c.stream == self.stream))
        return Plan(
            stream=self.stream,
            batch=row["batch"],
            ranges=tuple(Range(**r) for r in row["ranges"]),
            models=row["models"],
            attempt=row["attempt"],
            identity=str(identity),
        )

    def _letters(self, where: Any) -> list[tuple[int, DeadLetter]]:
        query = select(dead_letters).where(dead_letters.c.stream == self.stream, where)
        with self._read() as db:
            rows = db.execute(query.order_by(dead_letters.c.id)).mappings()
            return [(row["id"], DeadLetter(**{name: row[name] for name in _LETTER})) for row in rows]

    def _retried(self, db: Connection, batch: int) -> list[int]:
        """The dead letters that a batch works on again."""
        ranges = db.execute(select(batches.c.ranges).where(self._is(batch))).scalar_one()
        return [r["first"] for r in ranges if r["topic"] == DEAD_LETTERS]

    def _letters_become(
        self, db: Connection, state: str, rows: Sequence[int], only: str | None = None
    ) -> None:
        if rows:
            where = (dead_letters.c.stream == self.stream) & dead_letters.c.id.in_(list(rows))
            if only is not None:
                where &= dead_letters.c.state == only
            db.execute(update(dead_letters).where(where).values(state=state))


def _place(r: Range) -> dict[str, Any]:
    return {"topic": r.topic, "topic_id": r.topic_id, "partition": r.partition}
