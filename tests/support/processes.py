"""A server process that a test starts, stops and kills; it never outlives the test run."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def spawn(command: Sequence[str], log: Path, **options: Any) -> subprocess.Popen[bytes]:
    """Start `command`, its output appended to `log`. However this process dies, that one goes too."""
    dies_with_us = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    with log.open("ab") as out:
        return subprocess.Popen(
            [*dies_with_us, *command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, **options
        )


def wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, timeout_s: float
) -> None:
    """Return once `ready()`; raise with the end of the log when the process ends or the time is over."""
    end = time.monotonic() + timeout_s
    while not ready():
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}: {tail(log)}")
        if time.monotonic() > end:
            process.kill()
            raise TimeoutError(f"{process.args!r} was not ready after {timeout_s:.0f} s: {tail(log)}")
        time.sleep(0.1)


def tail(log: Path, characters: int = 3000) -> str:
    return log.read_text(errors="replace")[-characters:]


def end(process: subprocess.Popen[bytes] | None, how: signal.Signals, timeout_s: float = 30) -> None:
    """Send the signal and wait; kill what does not obey in time."""
    if process is None or process.poll() is not None:
        return
    process.send_signal(how)
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
