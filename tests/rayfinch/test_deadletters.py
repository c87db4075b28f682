"""`rayfinch deadletters` and `rayfinch database`: what an operator does with packets that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from broker.database.engine import connect
from broker.database.ledger import Ledger
from broker.stream.plan import DeadLetter, Range
from rayfinch.cli import app

PACKET = b"Obj\x01\x00\xff\x00 not a packet"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'rayfinch.db'}"


@pytest.fixture
def ledger(url: str) -> Ledger:
    """Of a stream that found two dead letters, 1 and 2, in its first batch, and runs its second."""
    ledger = Ledger(connect(url), "ztf", "ztf")
    lease = ledger.acquire("me:1", 60, False)
    letters = [
        DeadLetter("t", "id", 3, i, why, PACKET, 1700000000000) for i, why in ((5, "bad magic"), (6, "odd"))
    ]
    first = ledger.plan(lease, [Range("t", "id", 3, 0, 9)], {})
    ledger.record_outcome(lease, first.batch, {}, letters, [])
    ledger.commit(lease, first, None, {})
    under_way = ledger.plan(lease, [Range("t", "id", 3, 9, 12)], {})
    ledger.record_outcome(lease, under_way.batch, {}, [DeadLetter("t", "id", 3, 9, "new", b"x")], [])
    return ledger


def test_list_says_where_and_why(ledger, url):
    shown = run("deadletters", "list", "--database", url)
    assert shown.exit_code == 0
    assert "1  dead       t[3]@5        20 bytes  bad magic" in shown.stdout
    listed = json.loads(run("deadletters", "list", "--database", url, "--reason", "magic", "--json").stdout)
    assert [(r["id"], r["offset"], r["kafka_timestamp"]) for r in listed] == [
        (1, 5, "2023-11-14 22:13:20+00:00")
    ]


def test_show_writes_the_packet_as_it_came(ledger, url, tmp_path):
    shown = run("deadletters", "show", "1", "--database", url, "--out", str(tmp_path / "p.avro"))
    assert shown.exit_code == 0
    assert "reason   bad magic" in shown.stdout
    assert (tmp_path / "p.avro").read_bytes() == PACKET


def test_show_of_none_is_an_error(ledger, url):
    shown = run("deadletters", "show", "99", "--database", url)
    assert shown.exit_code == 2
    assert "there is no dead letter 99" in shown.stderr


@pytest.mark.parametrize(
    ("which", "asked"), [(["1"], [1]), (["--all"], [1, 2]), (["--reason", "odd"], [2]), (["1", "2"], [1, 2])]
)
def test_retry_asks_the_stream(ledger, url, which, asked):
    shown = run("deadletters", "retry", *which, "--database", url)
    assert shown.exit_code == 0, shown.output
    assert ledger.retries() == asked


def test_retry_leaves_alone_what_a_batch_is_still_at(ledger, url):
    shown = run("deadletters", "retry", "3", "--database", url)
    assert shown.exit_code == 2
    assert ledger.retries() == []


def test_retry_wants_to_know_which(ledger, url):
    assert run("deadletters", "retry", "--database", url).exit_code == 2
    assert run("deadletters", "retry", "1", "--all", "--database", url).exit_code == 2


def test_the_database_is_named_once(url):
    assert run("deadletters", "list").exit_code == 2


def test_a_database_that_is_not_there_is_not_made(tmp_path):
    shown = run("deadletters", "list", "--database", f"sqlite:///{tmp_path / 'none.db'}")
    assert "there is no database" in str(shown.exception)
    assert not (tmp_path / "none.db").exists()


def test_upgrade_makes_the_tables(url):
    assert json.loads(run("database", "upgrade", "--database", url, "--json").stdout)["changed"] is True
    assert run("database", "upgrade", "--database", url).stdout == "at revision 0001: nothing to do\n"
