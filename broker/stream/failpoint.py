"""Named moments of a batch at which a crash test ends the process as `kill -9` would.

`RAYFINCH_FAILPOINT=archive.after` kills at the first pass, `archive.after:3` at the third. `@FILE` lets a
driver run until a point's name is in that file: the next pass of it takes the file away and kills. Unset,
which is always so outside tests and `rayfinch chaos`, a fail point does nothing.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

POINTS = tuple(
    f"{step}.{side}"
    for step in ("plan", "run", "outcome", "archive", "publish", "commit")
    for side in ("before", "after")
)

_passed: dict[str, int] = {}


def failpoint(name: str) -> None:
    """Die here if RAYFINCH_FAILPOINT says so."""
    asked = os.environ.get("RAYFINCH_FAILPOINT", "")
    if not asked:
        return
    if asked.startswith("@"):
        if _written(Path(asked[1:])) == name:
            Path(asked[1:]).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return
    wanted, _, nth = asked.partition(":")
    if wanted == name:
        _passed[name] = _passed.get(name, 0) + 1
        if _passed[name] == int(nth or 1):
            os.kill(os.getpid(), signal.SIGKILL)


def _written(file: Path) -> str:
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""
