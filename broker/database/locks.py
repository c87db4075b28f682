"""Who holds SQLite's write lock; and an end to a driver that sleeps with it.

In WAL mode a process that is stopped (SIGSTOP, a frozen terminal) keeps the lock for as long as it sleeps,
and nobody can write: neither its successor nor another stream. The lease cannot help, since it is in that
database. SQLite means one machine, so its successor can see all that and end it: the lock goes with the
process, and SQLite rolls its transaction back.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sqlite3
from contextlib import suppress
from pathlib import Path

import psutil
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

log = logging.getLogger("rayfinch.database")

LOCKS = Path("/proc/locks")
WRITE_LOCK = 120  # the byte of FILE-shm whose lock is the right to write (WAL_WRITE_LOCK, wal.c)


def is_busy(error: OperationalError) -> bool:
    """Whether SQLite says that another process held its lock for all the time that we had."""
    return getattr(error.orig, "sqlite_errorname", "").startswith("SQLITE_BUSY") and isinstance(
        error.orig, sqlite3.OperationalError
    )


def holder(engine: Engine) -> psutil.Process | None:
    """The process of this machine that holds the write lock now; None: nobody, or it cannot be told."""
    if engine.dialect.name != "sqlite" or not LOCKS.exists():
        return None
    database = os.path.realpath(str(engine.url.database))
    for pid in _writers(LOCKS.read_text()):
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if database in {os.path.realpath(file.path) for file in process.open_files()}:
                return process
    return None


def end_sleeper(engine: Engine, owner: str) -> bool:
    """Kill `owner` (HOST:PID) if it is stopped and holds the write lock; whether that was so.

    A process that runs, or that sleeps without the lock, is left alone: its epoch stops it when it wakes.
    """
    process = holder(engine)
    if process is None or owner != f"{socket.gethostname()}:{process.pid}":
        return False
    try:
        if process.status() != psutil.STATUS_STOPPED:
            return False
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return True
    log.warning(
        "the former driver %s was stopped while it held the database's write lock: it is ended, and its "
        "unfinished transaction is rolled back",
        owner,
    )
    return True


def _writers(locks: str) -> list[int]:
    """The processes that /proc/locks names for an exclusive lock on the byte of SQLite's write lock."""
    found = []
    for line in locks.splitlines():
        # 1: POSIX  ADVISORY  WRITE 4711 fe:00:1311 120 120
        match line.split():
            case [_, "POSIX", "ADVISORY", "WRITE", pid, _, first, last] if (
                pid.isdigit() and first.isdigit() and int(first) <= WRITE_LOCK
            ):
                if last == "EOF" or int(last) >= WRITE_LOCK:
                    found.append(int(pid))
    return found
