"""The ledger on SQLite and PostgreSQL: plans before work, one commit a batch, and fences against zombies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import event, select, text

from broker.database.engine import DatabaseError, connect
from broker.database.lease import this_process
from broker.database.ledger import LeaseHeld, LeaseLost, Ledger
from broker.database.objects import object_rows
from broker.database.tables import objects
from broker.packets.schema import SCORES
from broker.stream.plan import DEAD_LETTERS, DeadLetter, Gap, Range


def alerts(*rows: dict[str, Any]) -> pa.Table:
    """Alerts of the given ids, objects, times; everything else as it may be."""
    common = {"survey": "ztf", "ra": 10.0, "dec": -5.0, "hpx29": 7, "rights": "public"}
    score = {"model": "stamps", "version": "1", "classes": ["SN", "VS"], "reason": None}
    full = [{**common, "scores": [{**score, "probabilities": [0.25, 0.75]}], **row} for row in rows]
    table = pa.Table.from_pylist(full)
    return table.set_column(
        table.schema.get_field_index("scores"), "scores", pa.array([r["scores"] for r in full], SCORES)
    )


def alert(alert_id: int, object_id: str = "a", mjd: float = 60000.0, **more: Any) -> dict[str, Any]:
    return {"alert_id": alert_id, "object_id": object_id, "mjd": mjd, **more}


def test_plans_follow_one_another_and_outlive_their_driver(ledger):
    lease = ledger.acquire("me:1", 10, False)
    first = ledger.plan(lease, [Range("t", "id", 0, 0, 5), Range("t", "id", 1, 2, 3)], {"stamps": "1"})
    second = ledger.plan(lease, [Range("t", "id", 0, 5, 9)], {"stamps": "2"})
    assert (first.batch, second.batch) == (1, 2)
    assert ledger.planned() == {("t", "id", 0): 9, ("t", "id", 1): 3}
    assert ledger.offsets() == {("t", "id", 0): 0, ("t", "id", 1): 2}
    again = Ledger(ledger.engine, "ztf", "ztf").open_plans()
    assert again == [first, second]
    assert [ledger.begin_attempt(lease, 1) for _ in range(2)] == [1, 2]


def test_a_commit_moves_objects_offsets_and_the_batch_at_once_and_once(ledger):
    lease = ledger.acquire("me:1", 10, False)
    plan = ledger.plan(lease, [Range("t", "id", 0, 0, 3)], {})
    kept = alerts(alert(2**62, "a", 60001.0, rights="ztf:2"), alert(2, "b", 60000.5), alert(3, "a", 60000.0))
    for _ in range(2):
        ledger.commit(lease, plan, kept, {"counts": {"alerts": 3}})
    assert ledger.open_plans() == []
    assert ledger.offsets() == {("t", "id", 0): 3}
    with ledger.engine.begin() as db:
        rows = {r.object_id: r for r in db.execute(select(objects))}
    a = rows["a"]
    assert (a.n_alerts, a.n_public, a.first_mjd, a.last_mjd) == (2, 1, 60000.0, 60001.0)
    assert a.last_alert_id == 2**62, "an int64 id stays what it is"
    assert a.last_scores == [
        {"model": "stamps", "version": "1", "class": "VS", "probability": 0.75, "reason": None}
    ]
    assert rows["b"].n_alerts == 1
    assert ledger.resent(np.array([1, 2, 3, 2**62])) == {2, 3, 2**62}


def test_an_older_alert_adds_to_an_object_but_does_not_replace_its_latest_state(ledger):
    lease = ledger.acquire("me:1", 10, False)
    for batch, row in enumerate([alert(1, mjd=60010.0, ra=20.0), alert(2, mjd=60000.0, ra=10.0)]):
        plan = ledger.plan(lease, [Range("t", "id", 0, batch, batch + 1)], {})
        ledger.commit(lease, plan, alerts(row), {})
    with ledger.engine.begin() as db:
        [row] = db.execute(select(objects)).all()
    assert (row.n_alerts, row.first_mjd, row.last_mjd, row.ra, row.last_alert_id) == (
        2,
        60000.0,
        60010.0,
        20.0,
        1,
    )


def test_an_alert_counts_as_resent_for_three_nights(ledger):
    lease = ledger.acquire("me:1", 10, False)
    plan = ledger.plan(lease, [Range("t", "id", 0, 0, 1)], {})
    ledger.commit(lease, plan, alerts(alert(5)), {})
    assert ledger.resent(np.array([5])) == {5}
    with ledger.engine.begin() as db:
        db.execute(text("update recent_alerts set kept_at = kept_at - 3.01 * 86400"))
    assert ledger.resent(np.array([5])) == set()
    assert Ledger(ledger.engine, "other", "lsst").resent(np.array([5])) == set(), "ids are a survey's"


def test_a_lease_is_held_until_it_is_released_or_expires(ledger):
    lease = ledger.acquire("elsewhere:1", 1.0, False)
    with pytest.raises(LeaseHeld, match="driven by elsewhere:1"):
        ledger.acquire("me:2", 10, False)
    begin = time.monotonic()
    taken = ledger.acquire("me:2", 10, True)
    assert taken.epoch == lease.epoch + 1
    assert time.monotonic() - begin > 0.5
    ledger.release(taken)
    assert ledger.acquire("me:3", 10, False).epoch == 3


def test_a_holder_of_this_machine_that_is_dead_is_not_waited_for(ledger):
    gone = multiprocessing.get_context("spawn").Process(target=int)
    gone.start()
    gone.join()
    host = this_process().rpartition(":")[0]
    ledger.acquire(f"{host}:{gone.pid}", 3600, False)
    assert ledger.acquire(this_process(), 10, False).epoch == 2


def test_a_driver_that_lost_its_lease_changes_nothing(ledger):
    old = ledger.acquire("elsewhere:1", 0.1, False)
    plan = ledger.plan(old, [Range("t", "id", 0, 0, 3)], {})
    new = ledger.acquire("me:2", 10, True)
    for late in (
        lambda: ledger.check(old),
        lambda: ledger.renew(old),
        lambda: ledger.plan(old, [Range("t", "id", 0, 3, 4)], {}),
        lambda: ledger.begin_attempt(old, plan.batch),
        lambda: ledger.record_outcome(old, plan.batch, {}, [], []),
        lambda: ledger.commit(old, plan, alerts(alert(1)), {}),
    ):
        with pytest.raises(LeaseLost, match="driven by me:2 now, not by elsewhere:1"):
            late()
    assert ledger.open_plans() == [plan]
    assert ledger.offsets() == {("t", "id", 0): 0}
    ledger.release(old)
    ledger.check(new)


def letter(offset: int, reason: str = "rubbish") -> DeadLetter:
    return DeadLetter("t", "id", 0, offset, reason, b"\x00\xff" * 3, 1700000000000)


def test_an_outcome_can_be_recorded_again_and_the_latest_counts(ledger):
    lease = ledger.acquire("me:1", 10, False)
    plan = ledger.plan(lease, [Range("t", "id", 0, 0, 9)], {})
    gap = Gap("t", "id", 0, 0, 4, "gone")
    ledger.record_outcome(lease, plan.batch, {"counts": 1}, [letter(5), letter(6)], [gap])
    ledger.record_outcome(lease, plan.batch, {"counts": 2}, [letter(6, "another")], [gap])
    assert ledger.outcome(plan.batch) == {"counts": 2}
    assert ledger.dead_letters_of(plan.batch) == [letter(6, "another")]
    assert ledger.gaps() == [gap]


@pytest.mark.parametrize("dies_again", [False, True])
def test_a_dead_letter_is_retried_by_a_plan_of_its_own(ledger, dies_again):
    lease = ledger.acquire("me:1", 10, False)
    plan = ledger.plan(lease, [Range("t", "id", 0, 0, 9)], {})
    ledger.record_outcome(lease, plan.batch, {}, [letter(5)], [])
    ledger.commit(lease, plan, None, {})
    [(row, found)] = ledger.dead_letters()
    assert found == letter(5)
    assert ledger.retry([row]) == 1
    assert ledger.retries() == [row]
    again = ledger.plan(lease, [Range(DEAD_LETTERS, "ztf", 0, row, row + 1)], {})
    assert ledger.retries() == [], "it is planned: no second batch takes it"
    assert ledger.letters([row]) == {row: letter(5)}
    for _ in range(2):  # as after a crash between the two
        ledger.record_outcome(lease, again.batch, {}, [letter(5, "still")] if dies_again else [], [])
    ledger.commit(lease, again, None, {})
    assert ledger.dead_letters() == ([(row, letter(5, "still"))] if dies_again else [])
    assert ledger.planned() == {("t", "id", 0): 9}


def test_alarms_are_kept_in_order(ledger):
    ledger.event("gap", "offsets are gone", {"first": 1})
    ledger.event("topic_vanished", "topic t is gone", {})
    assert [e["kind"] for e in ledger.events()] == ["gap", "topic_vanished"]
    assert ledger.events()[0]["detail"] == {"first": 1}


def test_a_stream_keeps_its_survey(engine, ledger):
    ledger.release(ledger.acquire("me:1", 10, False))
    with pytest.raises(DatabaseError, match="of survey 'ztf' in this database, not 'lsst'"):
        Ledger(engine, "ztf", "lsst").acquire("me:1", 10, False)


def test_another_database_gives_its_batches_other_names(url, tmp_path, ledger):
    other = Ledger(connect(f"sqlite:///{tmp_path / 'other.db'}"), "ztf", "ztf")
    plans = [
        book.plan(book.acquire("me:1", 10, False), [Range("t", "id", 0, 0, 1)], {})
        for book in (ledger, other)
    ]
    assert plans[0].batch == plans[1].batch
    assert plans[0].tag != plans[1].tag


def _commit_and_die(url: str) -> None:
    """A driver that is killed with its transaction open, all its statements sent."""
    ledger = Ledger(connect(url), "ztf", "ztf")
    lease = ledger.acquire(this_process(), 10, False)
    plan = ledger.plan(lease, [Range("t", "id", 0, 0, 1)], {})
    from sqlalchemy import event

    event.listen(ledger.engine, "commit", lambda connection: os.kill(os.getpid(), signal.SIGKILL))
    ledger.commit(lease, plan, alerts(alert(1)), {})


def test_a_driver_killed_within_its_commit_leaves_nothing_of_it(url, ledger):
    driver = multiprocessing.get_context("spawn").Process(target=_commit_and_die, args=(url,))
    driver.start()
    driver.join(60)
    assert driver.exitcode == -signal.SIGKILL
    lease = ledger.acquire(this_process(), 10, False)
    [plan] = ledger.open_plans()
    with ledger.engine.begin() as db:
        assert db.execute(text("select count(*) from objects")).scalar() == 0
    assert ledger.resent(np.array([1])) == set()
    ledger.commit(lease, plan, alerts(alert(1)), {})
    assert ledger.resent(np.array([1])) == {1}


def _write_many(url: str, stream: str, n: int) -> None:
    ledger = Ledger(connect(url), stream, "ztf")
    lease = ledger.acquire(this_process(), 10, False)
    for i in range(n):
        plan = ledger.plan(lease, [Range(stream, "id", 0, i, i + 1)], {})
        ledger.commit(lease, plan, alerts(alert(int(stream[-1]) * 1000 + i, "shared")), {})


def test_two_streams_write_at_once_and_every_alert_is_counted(url, ledger):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(url, f"s{k}", 25)) for k in (1, 2)]
    for w in writers:
        w.start()
    for w in writers:
        w.join(90)
        assert w.exitcode == 0
    with ledger.engine.begin() as db:
        [row] = db.execute(select(objects)).all()
    assert row.n_alerts == 50


def test_one_row_an_object_whatever_the_order_of_its_alerts():
    table = alerts(alert(1, "a", 5.0), alert(2, "b", 1.0), alert(3, "a", 9.0), alert(4, "a", 7.0))
    rows = {r["object_id"]: r for r in object_rows(table)}
    assert {k: (r["n_alerts"], r["last_alert_id"]) for k, r in rows.items()} == {"a": (3, 3), "b": (1, 2)}


def test_any_number_of_ids_can_be_asked_for(ledger):
    lease = ledger.acquire("me:1", 10, False)
    plan = ledger.plan(lease, [Range("t", "id", 0, 0, 1)], {})
    ledger.commit(lease, plan, alerts(alert(2**62 + 1)), {})
    assert ledger.resent(np.arange(2**62 - 50_000, 2**62 + 2)) == {2**62 + 1}


def test_batches_are_forgotten_after_a_month_and_numbers_go_on(engine, ledger):
    lease = ledger.acquire("me:1", 10, False)
    for i in range(100):
        plan = ledger.plan(lease, [Range("t", "id", 0, i, i + 1)], {})
        if plan.batch == 100:
            with engine.begin() as db:
                db.execute(text("update batches set done_at = done_at - 31 * 86400 where batch < 50"))
        ledger.commit(lease, plan, None, {})
    with engine.connect() as db:
        assert db.execute(text("select min(batch) from batches")).scalar() == 50
    assert ledger.plan(lease, [], {}).batch == 101


def test_what_was_kept_is_found_by_its_id_and_not_by_going_through_three_nights(tmp_path):
    """SQLite would: of a million ids kept it took half a second a batch, and longer with each."""
    engine = connect(f"sqlite:///{tmp_path / 'rayfinch.db'}")
    asked = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(connection, cursor, statement, parameters, context, many):
        asked.append((statement, parameters))

    Ledger(engine, "s", "ztf").resent(np.array([1, 2]))
    [(statement, parameters)] = [a for a in asked if "recent_alerts" in a[0]]
    with engine.connect() as db:
        plan = str(db.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all())
    assert "USING PRIMARY KEY (survey=? AND alert_id=?)" in plan
