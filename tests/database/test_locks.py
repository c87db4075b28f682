"""A database that somebody has locked: waited for, and an end to a former driver that sleeps."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.database.engine import DatabaseError, connect
from broker.database.lease import LeaseHeld, LeaseLost, acquire, renew
from broker.database.locks import holder

# Another program with the database open: it does each statement that it is sent.
CHILD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.stdin:
    db.execute(statement).fetchall()
    print("done", flush=True)
"""
LOOK, LOCK = "select count(*) from streams", "begin immediate"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    connect(f"sqlite:///{tmp_path / 'rayfinch.db'}").dispose()
    return tmp_path / "rayfinch.db"


@contextmanager
def program(file: Path, *statements: str) -> Iterator[subprocess.Popen[str]]:
    """Another program, which has done `statements`; it is killed in the end."""
    command = [sys.executable, "-c", CHILD, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            for statement in statements:
                tell(child, statement)
            yield child
        finally:
            child.kill()


def tell(child: subprocess.Popen[str], statement: str) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(f"{statement}\n")
    child.stdin.flush()
    assert child.stdout.readline() == "done\n"


@pytest.mark.parametrize("holds", [True, False])
def test_a_stopped_driver_is_ended_whether_it_holds_the_lock_or_not(file, caplog, holds):
    """Without the lock it still keeps Ray's workers from its successor."""
    engine = connect(f"sqlite:///{file}")
    with program(file, LOOK) as sleeper:
        former = acquire(engine, "ztf", "ztf", f"{socket.gethostname()}:{sleeper.pid}", 2, False)
        if holds:
            tell(sleeper, LOCK)
            tell(sleeper, "update streams set epoch = 99")
        sleeper.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        with caplog.at_level(logging.WARNING, "rayfinch.database"):
            lease = acquire(engine, "ztf", "ztf", "next:1", 10, True)
        assert time.monotonic() - began < 2 + 5, "the lease's time, and a few seconds"
        assert sleeper.wait(5) == -signal.SIGKILL
    assert lease.epoch == former.epoch + 1, "what it had not finished is rolled back"
    assert "is stopped, its lease has run out" in caplog.text
    renew(engine, lease)


def test_a_stopped_driver_is_left_alone_while_its_lease_runs(file):
    engine = connect(f"sqlite:///{file}")
    with program(file, LOOK) as sleeper:
        acquire(engine, "ztf", "ztf", f"{socket.gethostname()}:{sleeper.pid}", 60, False)
        sleeper.send_signal(signal.SIGSTOP)
        with pytest.raises(LeaseHeld):
            acquire(engine, "ztf", "ztf", "next:1", 10, False)
        assert sleeper.poll() is None


def test_a_stopped_process_that_only_has_the_drivers_number_is_left_alone(file, tmp_path):
    engine = connect(f"sqlite:///{file}")
    connect(f"sqlite:///{tmp_path / 'other.db'}").dispose()
    with program(tmp_path / "other.db", LOOK) as stranger:
        former = acquire(engine, "ztf", "ztf", f"{socket.gethostname()}:{stranger.pid}", 0.1, False)
        stranger.send_signal(signal.SIGSTOP)
        acquire(engine, "ztf", "ztf", "next:1", 10, True)
        assert stranger.poll() is None
    with pytest.raises(LeaseLost):
        renew(engine, former)


def test_a_driver_that_is_alive_with_the_lock_is_waited_for(file):
    """Its lease ran out because it was slow, not stopped: it ends its transaction by itself."""
    engine = connect(f"sqlite:///{file}")
    with program(file, LOOK) as slow:
        acquire(engine, "ztf", "ztf", f"{socket.gethostname()}:{slow.pid}", 0.1, False)
        tell(slow, LOCK)
        threading.Timer(3, tell, (slow, "commit")).start()
        acquire(engine, "ztf", "ztf", "next:1", 10, True)
        assert slow.poll() is None


@pytest.mark.parametrize("stopped", [False, True])
def test_the_lock_of_anybody_else_is_waited_for_and_said(file, caplog, stopped):
    """A shell with an open transaction, asleep or not, is not ours to end."""
    engine = connect(f"sqlite:///{file}")
    taken = threading.Event()

    def take() -> None:
        acquire(engine, "ztf", "ztf", "next:1", 10, True)
        taken.set()

    with program(file, LOCK) as shell:
        if stopped:
            shell.send_signal(signal.SIGSTOP)
        with pytest.raises(DatabaseError, match=rf"is locked by process {shell.pid} .*: end that"):
            acquire(engine, "ztf", "ztf", "next:1", 10, False)
        with caplog.at_level(logging.WARNING, "rayfinch.database"):
            threading.Thread(target=take, daemon=True).start()
            assert not taken.wait(3)
        assert shell.poll() is None
    assert taken.wait(10)
    assert f"is locked by process {shell.pid}" in caplog.text


def test_the_locks_holder_is_told(file):
    engine = connect(f"sqlite:///{file}")
    assert holder(engine) is None
    with program(file, LOOK):
        assert holder(engine) is None
    with program(file, LOCK) as child:
        found = holder(engine)
        assert found is not None
        assert found.pid == child.pid
    with engine.begin():
        mine = holder(engine)
        assert mine is not None
        assert mine.pid == os.getpid()
