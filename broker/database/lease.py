"""Who drives a stream: a lease with an epoch. A driver that lost it can change nothing any more."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from dataclasses import dataclass
from typing import Any

import psutil
from sqlalchemy import Connection, Engine, insert, select, update
from sqlalchemy.exc import IntegrityError, OperationalError

from broker.database import locks
from broker.database.engine import DatabaseError, impatient, reading
from broker.database.tables import streams

log = logging.getLogger("rayfinch.database")

LOCKED_S = 1.0  # how long the lease's taker waits for SQLite's write lock before it looks who holds it


@dataclass(frozen=True)
class Lease:
    """The right to drive `stream`, as long as its epoch is the latest."""

    stream: str
    epoch: int
    owner: str
    ttl_s: float


class LeaseHeld(RuntimeError):
    """Another driver holds the stream, and is alive."""


class LeaseLost(RuntimeError):
    """Another driver took the stream over: this one must stop."""


def this_process() -> str:
    """The name under which this process holds leases: HOST:PID."""
    return f"{socket.gethostname()}:{os.getpid()}"


def acquire(engine: Engine, stream: str, survey: str, owner: str, ttl_s: float, wait: bool) -> Lease:
    """Take the stream's lease, which nobody holds or whose holder is dead.

    A holder is dead when it did not renew in its time, or at once when it was a process of this machine that
    is gone. One that is stopped on this machine is ended (see broker.database.locks); any other program's
    lock is waited for. Raises LeaseHeld when somebody is alive and `wait` is false, DatabaseError
    where the stream is another survey's, or the database is locked and `wait` is false.
    """
    told = False
    while True:
        row = _look(engine, stream)
        now = time.time()
        if row is not None and row.survey != survey:
            raise DatabaseError(
                f"stream {stream!r} is of survey {row.survey!r} in this database, not {survey!r}: "
                "give the stream another name"
            )
        if row is None or _is_free(row, owner, now):
            if row is not None:
                locks.end_sleeper(engine, row.owner)
            try:
                lease = _take(engine, stream, survey, owner, ttl_s)
            except OperationalError as error:
                if not locks.is_busy(error):
                    raise
                locked = f"the database of stream {stream!r} is locked by {_named(locks.holder(engine))}"
                if not wait:
                    raise DatabaseError(f"{locked}: end that, or wait for it") from error
                if not told:
                    log.warning("%s: waiting for it", locked)
                    told = True
            else:
                if lease is not None:
                    return lease
                continue  # another driver was faster: look at it
        elif not wait:
            raise LeaseHeld(
                f"stream {stream!r} is driven by {row.owner}, whose lease runs {row.expires - now:.1f} s more"
            )
        time.sleep(min(0.2, ttl_s / 4))


def _look(engine: Engine, stream: str) -> Any:
    """The stream's row; None where it has none. Reading waits for nobody."""
    with reading(engine) as db:
        return db.execute(select(streams).where(streams.c.stream == stream)).first()


def _is_free(row: Any, owner: str, now: float) -> bool:
    return row.expires <= now or row.owner in ("", owner) or _is_gone(row.owner)


def _take(engine: Engine, stream: str, survey: str, owner: str, ttl_s: float) -> Lease | None:
    """Become the owner; None where another driver was faster. Raises OperationalError: SQLite is locked."""
    with impatient(engine, LOCKED_S).begin() as db:
        row = db.execute(select(streams).where(streams.c.stream == stream).with_for_update()).first()
        now = time.time()
        if row is None:
            values = {"stream": stream, "survey": survey, "identity": secrets.token_hex(4), "epoch": 1}
            try:
                with db.begin_nested():
                    db.execute(insert(streams).values(**values, owner=owner, expires=now + ttl_s))
            except IntegrityError:
                return None  # two drivers at once made the stream's first row, and the other one won
            return Lease(stream, 1, owner, ttl_s)
        if not _is_free(row, owner, now):
            return None
        values = {"epoch": row.epoch + 1, "owner": owner, "expires": now + ttl_s}
        db.execute(update(streams).where(streams.c.stream == stream).values(**values))
        return Lease(stream, row.epoch + 1, owner, ttl_s)


def _named(process: psutil.Process | None) -> str:
    try:
        return f"process {process.pid} ({process.name()})" if process else "another process"
    except psutil.NoSuchProcess:
        return "another process"


def hold(db: Connection, lease: Lease) -> None:
    """Inside a transaction: keep others from taking the lease until it ends. Raises LeaseLost."""
    query = select(streams.c.epoch, streams.c.owner).where(streams.c.stream == lease.stream)
    row = db.execute(query.with_for_update()).first()
    if row is None or row.epoch != lease.epoch:
        holder = row.owner if row else "nobody: its row is gone"
        raise LeaseLost(f"stream {lease.stream!r} is driven by {holder} now, not by {lease.owner}")


def renew(engine: Engine, lease: Lease) -> None:
    """Hold the lease for another while. Raises LeaseLost."""
    with engine.begin() as db:
        hold(db, lease)
        expires = time.time() + lease.ttl_s
        db.execute(update(streams).where(streams.c.stream == lease.stream).values(expires=expires))


def release(engine: Engine, lease: Lease) -> None:
    """Let the next driver start at once. Nothing happens where the lease was lost."""
    mine = (streams.c.stream == lease.stream) & (streams.c.epoch == lease.epoch)
    with engine.begin() as db:
        db.execute(update(streams).where(mine).values(owner="", expires=0.0))


def _is_gone(owner: str) -> bool:
    """Whether the owner was a process of this machine that has ended. (If not so, its epoch stops it.)"""
    host, _, pid = owner.rpartition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
