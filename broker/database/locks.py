"""Who holds SQLite's write lock; and an end to a driver that sleeps.

A process that is stopped (SIGSTOP, a frozen terminal) keeps all that it has for as long as it sleeps: the
write lock, so that nobody can write, neither its successor nor another stream; and the workers that Ray has
lent it, so that its successor's tasks wait for CPUs for ever. The lease cannot help with either. SQLite means
one machine, so its successor can see all that and end it: a driver that lost its lease has nothing to lose.
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
    for pid in _writers(LOCKS.read_text()):
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if _has_open(process, engine):
                return process
    return None


def end_sleeper(engine: Engine, owner: str) -> bool:
    """Kill `owner` (HOST:PID) if it is stopped, and has this SQLite database open; whether that was so.

    Its lease must have run out. A process that runs is left alone: its epoch stops it, as it does one that
    sleeps on another machine when that wakes.
    """
    host, _, pid = owner.rpartition(":")
    if engine.dialect.name != "sqlite" or host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        process = psutil.Process(int(pid))
        if process.status() != psutil.STATUS_STOPPED or not _has_open(process, engine):
            return False
        process.send_signal(signal.SIGKILL)
    except psutil.Error:
        return False
    log.warning(
        "the former driver %s is stopped, its lease has run out, and it keeps the database's lock or Ray's "
        "workers from others: it is ended",
        owner,
    )
    return True


def _has_open(process: psutil.Process, engine: Engine) -> bool:
    database = os.path.realpath(str(engine.url.database))
    return database in {os.path.realpath(file.path) for file in process.open_files()}


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
