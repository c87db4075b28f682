"""Panics of native code (Rust's) as errors of the packet that caused them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from broker.packets.survey import PacketError


@contextmanager
def told_panics() -> Iterator[None]:
    """Raise PacketError where an extension panics.

    Each extension has a PanicException of its own, which is no Exception: `except Exception` lets it through,
    and the task, or the stream, would end of it.
    """
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise PacketError(f"cannot be decoded: its reader panicked: {error}") from None
