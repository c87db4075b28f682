"""Opening the database: SQLite (WAL) or PostgreSQL, migrated to this program's tables.

Many threads and processes use it at once. On SQLite a writer takes the file's lock when its transaction
begins and others wait for it, so that none fails halfway.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

if TYPE_CHECKING:
    from alembic.config import Config

BUSY_S = 60.0
# After so long PostgreSQL ends a transaction whose client says nothing, so that a driver which was stopped
# inside of one (SIGSTOP) does not keep its rows from its successor.
IDLE_S = 15.0
# Any constant of ours: PostgreSQL's advisory lock under which the tables are migrated.
_MIGRATION_LOCK = 0x7261_7966


class DatabaseError(RuntimeError):
    """The database cannot be used; the message says why and what to do."""


def connect(url: str, *, migrate: bool = True) -> Engine:
    """Open the database at SQLAlchemy's `url`, its tables made or brought up to date.

    `sqlite:///FILE` (folders are made) or `postgresql+psycopg://USER:PASSWORD@HOST/DATABASE`.
    Raises DatabaseError: no such database, or one that a newer Rayfinch has migrated.
    """
    engine = _open(url)
    if migrate:
        try:
            upgrade(engine)
        except DBAPIError as error:
            raise DatabaseError(f"the database {_shown(url)} cannot be opened: {error.orig}") from error
    return engine


def impatient(engine: Engine, busy_s: float) -> Engine:
    """The same database for a writer that waits for SQLite's lock for `busy_s` seconds, not for BUSY_S."""
    return engine.execution_options(busy_s=busy_s)


def reading(engine: Engine) -> Connection:
    """A connection that only reads: on SQLite it takes no lock that a writer would wait for."""
    return engine.connect().execution_options(read=True)


def revision(db: Connection) -> str | None:
    """The revision that the database's tables are at; None: it has none yet."""
    from alembic.migration import MigrationContext

    return MigrationContext.configure(db).get_current_revision()


def upgrade(engine: Engine) -> bool:
    """Bring the tables up to date; True if there was something to do. Safe when several start at once."""
    from alembic import command
    from alembic.script import ScriptDirectory

    with reading(engine) as db:
        config = _alembic(db)
        script = ScriptDirectory.from_config(config)
        if revision(db) == _head(script):
            return False
    if engine.dialect.name == "sqlite":
        _use_wal(engine)
    with engine.begin() as db:
        if db.dialect.name == "postgresql":
            db.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        current = revision(db)
        if current == _head(script):
            return False
        if current is not None and current not in {r.revision for r in script.walk_revisions()}:
            raise DatabaseError(
                f"the database {engine.url.render_as_string()} is at revision {current}, which a newer "
                "Rayfinch made: install that version, or name another database"
            )
        config.attributes["connection"] = db
        command.upgrade(config, "head")
    return True


def _open(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise DatabaseError(f"{url!r} is not a database's URL; try sqlite:///rayfinch.db") from error
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
        # A connection that the server closed overnight is replaced, not an error.
        engine = create_engine(parsed, pool_pre_ping=True)
        event.listen(engine, "connect", _prepare_postgresql)
        return engine
    if backend != "sqlite":
        raise DatabaseError(f"a database of the kind {backend!r} is not supported: use SQLite or PostgreSQL")
    if not parsed.database or parsed.database == ":memory:":
        raise DatabaseError(f"{url!r} names no file; try sqlite:///rayfinch.db")
    Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, connect_args={"timeout": BUSY_S})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_postgresql(connection: Any, record: object) -> None:
    connection.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_S:g}s'")
    connection.commit()


def _prepare_sqlite(connection: Any, record: object) -> None:
    connection.isolation_level = None  # transactions begin where _begin_sqlite says, not where Python does
    # In WAL mode NORMAL survives kill -9; a power cut may undo the last transactions, each as a whole,
    # but then what the archive and the topics hold would be ahead: FULL costs one fsync a batch.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(db: Connection) -> None:
    options = db.get_execution_options()
    db.exec_driver_sql(f"PRAGMA busy_timeout={options.get('busy_s', BUSY_S) * 1e3:.0f}").close()
    db.exec_driver_sql("BEGIN" if options.get("read") else "BEGIN IMMEDIATE")


def _use_wal(engine: Engine) -> None:
    """Writers and readers beside each other. The mode stays with the file."""
    end = time.monotonic() + BUSY_S
    while True:
        connection = engine.raw_connection()
        try:
            connection.driver_connection.execute("PRAGMA journal_mode=WAL")  # type: ignore[union-attr]
            return
        except Exception as error:
            # The switch does not wait for others that open the file at the same moment.
            if "locked" not in str(error) or time.monotonic() > end:
                raise OperationalError("PRAGMA journal_mode=WAL", None, error) from error
            time.sleep(0.02)
        finally:
            connection.close()


def _alembic(db: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = db
    return config


def _head(script: Any) -> str:
    head = script.get_current_head()
    assert head is not None, "the migrations are not in this installation"
    return str(head)


def _shown(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)
