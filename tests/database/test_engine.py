"""Opening a database: made, migrated, refused."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from broker.database import engine as engine_module
from broker.database.engine import DatabaseError, connect, reading, revision, upgrade
from broker.database.lease import acquire, hold
from broker.database.tables import metadata


def test_the_migrations_make_the_very_tables_of_the_code(engine):
    with reading(engine) as db:
        assert revision(db) == "0001"
        assert compare_metadata(MigrationContext.configure(db), metadata) == []


def test_an_open_database_has_nothing_to_upgrade(engine):
    assert upgrade(engine) is False


def test_folders_are_made_and_sqlite_has_every_commit_on_the_disk(tmp_path):
    with connect(f"sqlite:///{tmp_path / 'a' / 'b' / 'x.db'}").connect() as db:
        assert db.execute(text("pragma journal_mode")).scalar() == "wal"
        assert db.execute(text("pragma synchronous")).scalar() == 2  # FULL


def _open(url: str) -> None:
    connect(url)


def test_several_processes_may_open_a_fresh_database_at_once(url):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_open, args=(url,)) for _ in range(3)]
    for p in processes:
        p.start()
    for p in processes:
        p.join(60)
        assert p.exitcode == 0


def test_several_threads_may_open_a_fresh_database_at_once(url):
    with ThreadPoolExecutor(4) as threads:
        engines = list(threads.map(connect, [url] * 4))
    with reading(engines[0]) as db:
        assert revision(db) == "0001"


def test_a_database_of_a_newer_version_is_refused_with_the_remedy(engine, url):
    with engine.begin() as db:
        db.execute(text("update alembic_version set version_num = '9999'"))
    with pytest.raises(
        DatabaseError, match="revision 9999, which a newer Rayfinch made: install that version"
    ):
        connect(url)


def test_a_database_that_is_not_there_is_named_without_its_password():
    with pytest.raises(DatabaseError, match=r"127\.0\.0\.1:9/x cannot be opened") as caught:
        connect("postgresql://me:secret@127.0.0.1:9/x")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sqlite://", "names no file"),
        ("mysql://host/db", "a database of the kind 'mysql' is not supported"),
        ("rayfinch.db", "is not a database's URL"),
    ],
)
def test_what_is_no_database_is_said(url, why):
    with pytest.raises(DatabaseError, match=why):
        connect(url)


def test_postgresql_ends_a_transaction_whose_client_sleeps(fresh_postgres_url, monkeypatch):
    """A driver that is stopped inside of one keeps its lease's row from its successor no longer."""
    monkeypatch.setattr(engine_module, "IDLE_S", 0.5)
    sleeper, successor = connect(fresh_postgres_url), connect(fresh_postgres_url)
    lease = acquire(sleeper, "ztf", "ztf", "sleeper:1", 0.1, False)
    with pytest.raises(DBAPIError), sleeper.begin() as db:  # noqa: PT012  # the end of it raises, too
        hold(db, lease)
        acquire(successor, "ztf", "ztf", "successor:1", 10, True)
        hold(db, lease)


def test_a_reader_sees_what_was_committed_while_a_writer_is_at_work(engine):
    with engine.begin() as writer:
        writer.execute(
            text("insert into events (stream, at, kind, message, detail) values ('s',0,'k','m','{}')")
        )
        with reading(engine) as db:
            assert db.execute(text("select count(*) from events")).scalar() == 0
    with reading(engine) as db:
        assert db.execute(text("select count(*) from events")).scalar() == 1
