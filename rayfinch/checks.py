"""One thing that `rayfinch doctor` looks at: what it found, and how to mend it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "failure"]


@dataclass(frozen=True)
class Check:
    """`mend` says what to do when `state` is not ok. Only a failure keeps a stream from running."""

    name: str
    state: State
    found: str
    mend: str = ""


def ok(name: str, found: str) -> Check:
    return Check(name, "ok", found)


def warning(name: str, found: str, mend: str) -> Check:
    return Check(name, "warning", found, mend)


def failure(name: str, found: str, mend: str) -> Check:
    return Check(name, "failure", found, mend)


def guarded(name: str, look: Callable[[], Check]) -> Check:
    """The check's result; a failure if the look itself breaks, so that the other checks go on."""
    try:
        return look()
    except Exception as error:
        from rayfinch.cli import sentence

        return failure(name, f"{type(error).__name__}: {sentence(error)}", "read the message")
