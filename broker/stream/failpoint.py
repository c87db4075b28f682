"""Named moments of a batch at which a crash test ends the process as `kill -9` would.

`RAYFINCH_FAILPOINT=archive.after` kills at the first pass, `archive.after:3` at the third. Unset, which is
always so outside tests, a fail point does nothing.
"""

from __future__ import annotations

import os
import signal

POINTS = tuple(
    f"{step}.{side}"
    for step in ("plan", "run", "outcome", "archive", "publish", "commit")
    for side in ("before", "after")
)

_passed: dict[str, int] = {}


def failpoint(name: str) -> None:
    """Die here if RAYFINCH_FAILPOINT says so."""
    wanted, _, nth = os.environ.get("RAYFINCH_FAILPOINT", "").partition(":")
    if wanted == name:
        _passed[name] = _passed.get(name, 0) + 1
        if _passed[name] == int(nth or 1):
            os.kill(os.getpid(), signal.SIGKILL)
