"""End this process when native code hangs: nothing in Python could."""

from __future__ import annotations

import faulthandler
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_inside = 0


@contextmanager
def watchdog(seconds: float) -> Iterator[None]:
    """Within, the process gets `seconds`; then it writes every thread's traceback and exits with code 1.

    A process has one such timer: threads that are inside at once share it, and each entry sets it anew.
    `seconds` <= 0 sets none.
    """
    global _inside
    if seconds <= 0:
        yield
        return
    with _lock:
        _inside += 1
        faulthandler.dump_traceback_later(seconds, exit=True, file=_stderr())
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                faulthandler.cancel_dump_traceback_later()


def _stderr() -> int:
    """A file descriptor to write to, even where sys.stderr has been replaced by an object without one."""
    for stream in (sys.stderr, sys.__stderr__):
        try:
            return stream.fileno()  # type: ignore[union-attr]
        except (AttributeError, OSError, ValueError):
            continue
    return 2
