"""What `rayfinch status` is told."""

from __future__ import annotations

import json

import pytest

from broker.database import reports
from broker.database.ledger import Ledger
from broker.stream.plan import DeadLetter, Gap, Range


def letter(offset: int, reason: str) -> DeadLetter:
    return DeadLetter("t", "id", 0, offset, reason, b"abc", 1700000000000)


@pytest.fixture
def lease(ledger):
    """A stream that has done one batch of 8 offsets and has another one planned."""
    lease = ledger.acquire("me:1", 60, False)
    done = ledger.plan(lease, [Range("t", "id", 0, 0, 8)], {"stamps": "1"})
    letters = [letter(2, "no magic"), letter(3, "no magic"), letter(5, "cut short")]
    ledger.record_outcome(lease, done.batch, {}, letters, [Gap("t", "id", 0, 0, 1, "expired")])
    outcome = {
        "counts": {"alerts": 4, "dead_letters": 3},
        "stages_ms": {"decode": 30.0},
        "latency_ms": {"p50": 500.0, "max": 900.0},
    }
    ledger.commit(lease, done, None, outcome)
    ledger.plan(lease, [Range("t", "id", 0, 8, 10), Range("t", "id", 1, 0, 5)], {"stamps": "2"})
    ledger.event("gap", "an offset is gone", {"first": 0})
    return lease


def test_batches_come_newest_first_with_their_times(engine, lease):
    planned, done = reports.recent_batches(engine, "ztf")
    assert (planned["batch"], planned["state"], planned["offsets"], planned["outcome"]) == (
        2,
        "planned",
        7,
        None,
    )
    assert (done["batch"], done["state"], done["offsets"]) == (1, "done", 8)
    assert done["outcome"]["counts"]["alerts"] == 4
    assert done["planned_at"] <= done["done_at"]


def test_rates_add_up_what_was_committed_lately(engine, lease):
    found = reports.rates(engine, "ztf", minutes=2)
    assert (found["batches"], found["alerts"], found["alerts_per_s"]) == (1, 4, 4 / 120)
    assert found["stages_ms"] == {"decode": 30.0}
    assert (found["latency_p50_ms"], found["latency_max_ms"]) == (500.0, 900.0)
    assert reports.rates(engine, "other")["alerts"] == 0


def test_dead_letters_are_counted_by_state_and_by_reason(engine, ledger, lease):
    [(first, _), *_] = ledger.dead_letters()
    ledger.retry([first])
    assert reports.dead_letter_counts(engine, "ztf") == {"dead": 2, "retry": 1}
    assert reports.dead_letter_reasons(engine) == [
        {"reason": "cut short", "n": 1},
        {"reason": "no magic", "n": 1},
    ]


def test_positions_gaps_and_alarms(engine, lease):
    at = {r["partition"]: (r["planned"], r["committed"]) for r in reports.positions(engine, "ztf")}
    assert at == {0: (10, 8), 1: (5, 0)}
    [gap] = reports.recent_gaps(engine)
    assert (gap["first"], gap["end"], gap["reason"]) == (0, 1, "expired")
    assert [e["kind"] for e in reports.recent_events(engine)] == ["gap"]


def test_drivers_are_alive_until_they_release(engine, ledger, lease):
    Ledger(engine, "lsst", "lsst").acquire("me:2", 60, False)
    ledger.release(lease)
    assert {d["stream"]: d["alive"] for d in reports.drivers(engine)} == {"ztf": False, "lsst": True}


def test_every_report_is_json(engine, lease):
    for report in (reports.drivers, reports.recent_batches, reports.rates, reports.positions):
        json.dumps(report(engine, None))
    json.dumps([reports.recent_gaps(engine), reports.recent_events(engine), reports.totals(engine)])
