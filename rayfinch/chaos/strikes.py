"""How each target is struck. Each returns the moment (s, UTC) from which the recovery counts."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from rayfinch.bench.kafka import Server
from rayfinch.chaos.supervisor import Supervisor
from rayfinch.chaos.targets import Strike

FOUND_S = 60.0  # how long something to strike is looked for
SUCCEEDED_S = 180.0  # and the successor of one that sleeps, to commit a batch
WOKEN_S = 60.0  # how long a driver that slept may take to see that it lost the stream
FILE_LIMIT = 4096  # bytes


class NotStruck(RuntimeError):
    """There was nothing to strike, or it did not do what it has to when struck."""


@dataclass(frozen=True)
class Field:
    """The stream under fire. `committed(since)`: whether a batch planned after `since` is committed."""

    supervisor: Supervisor
    source: Server
    own: Server
    database: Path
    committed: Callable[[float], bool]


def strike(field: Field, what: Strike) -> float:
    """Strike. Raises NotStruck."""
    return _STRIKES[what.target](field, what)


def impossible(target: str) -> str | None:
    """Why a target can't be struck on this machine, or None."""
    if target == "full" and not hasattr(psutil, "RLIMIT_FSIZE"):
        return "the size of another process's files can be limited on Linux alone"
    return None


def _driver(field: Field, what: Strike) -> float:
    at = time.time()
    os.kill(field.supervisor.driver.pid, signal.SIGKILL)
    return at


def _failpoint(field: Field, what: Strike) -> float:
    """The driver takes the file away, and dies."""
    file = field.supervisor.failpoints
    new = file.with_suffix(".new")
    new.write_text(what.point)
    new.rename(file)
    end = time.monotonic() + FOUND_S
    while file.exists():
        if time.monotonic() > end:
            file.unlink(missing_ok=True)
            raise NotStruck(f"the driver did not come by {what.point} in {FOUND_S:.0f} s")
        time.sleep(0.005)
    return time.time()


def _processes(*words: str) -> Callable[[Field, Strike], float]:
    """Kill one process of our Ray with one of `words` in its command line."""

    def kill(field: Field, what: Strike) -> float:
        end = time.monotonic() + FOUND_S
        while time.monotonic() < end:
            found = field.supervisor.cluster.processes(*words)
            if found:
                process = found[int(what.luck * len(found))]
                with suppress(psutil.NoSuchProcess):
                    at = time.time()
                    process.kill()
                    return at
            field.supervisor.tick()
        raise NotStruck(f"no process {' or '.join(words)} was seen in {FOUND_S:.0f} s")

    return kill


def _kafka(which: Callable[[Field], Server]) -> Callable[[Field, Strike], float]:
    def kill(field: Field, what: Strike) -> float:
        server = which(field)
        server.kill()
        field.supervisor.rest(1 + 4 * what.luck)
        server.start()
        return time.time()

    return kill


def _stall(field: Field, what: Strike) -> float:
    """Whether it held SQLite's lock or not: the sleeper must end by itself, or have been ended."""
    at = time.time()
    os.kill(field.supervisor.driver.pid, signal.SIGSTOP)
    sleeper = field.supervisor.succeed()
    try:
        worked = field.supervisor.until(lambda: field.committed(at), SUCCEEDED_S)
    finally:
        with suppress(ProcessLookupError):
            os.kill(sleeper.pid, signal.SIGCONT)
    ended = field.supervisor.until(lambda: sleeper.status is not None, WOKEN_S)
    if not ended:
        os.kill(sleeper.pid, signal.SIGKILL)
        raise NotStruck(f"the driver that slept still runs {WOKEN_S:.0f} s after it woke")
    if sleeper.status == 0:
        raise NotStruck("the driver that slept ended as if nothing had happened")
    if not worked:
        raise NotStruck(f"the successor of a driver that sleeps committed nothing in {SUCCEEDED_S:.0f} s")
    return at


def _locked(field: Field, what: Strike) -> float:
    """For some seconds; one time in four for longer than the stream's transactions wait."""
    db = sqlite3.connect(field.database, timeout=60, isolation_level=None)
    try:
        db.execute("begin immediate")
        field.supervisor.rest(70 if what.luck < 0.25 else 20 * what.luck)
        db.execute("rollback")
        return time.time()
    finally:
        db.close()


def _full(field: Field, what: Strike) -> float:
    with _no_room(field):
        field.supervisor.rest(3 + 7 * what.luck)
    return time.time()


@contextmanager
def _no_room(field: Field) -> Iterator[None]:
    """Let no file of the driver and of its workers grow: what a full disk is, without needing to mount one.

    Python ignores the signal that comes with it, so that a write fails as it does on a full disk.
    """
    found = [psutil.Process(field.supervisor.driver.pid)]
    found += field.supervisor.cluster.processes("ray::MapBatches", "ray::write", "ray::IDLE")
    try:
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.rlimit(psutil.RLIMIT_FSIZE, (FILE_LIMIT, psutil.RLIM_INFINITY))
        yield
    finally:
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))


_STRIKES: dict[str, Callable[[Field, Strike], float]] = {
    "driver": _driver,
    "failpoint": _failpoint,
    "task": _processes("ray::MapBatches(Work)", "ray::write"),
    "replica": _processes("ray::ServeReplica:stream-"),
    "controller": _processes("ray::ServeController"),
    "raylet": _processes("/raylet/raylet"),
    "gcs": _processes("gcs_server"),
    "source": _kafka(lambda field: field.source),
    "own": _kafka(lambda field: field.own),
    "stall": _stall,
    "locked": _locked,
    "full": _full,
}
