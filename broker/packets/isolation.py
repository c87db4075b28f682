"""Decode in a child process, so that a packet which kills or hangs native code costs only itself.

The child says which packets it takes up before it does. When it dies or falls silent, the parent starts
another: what it was at is tried packet by packet, with the reference reader (a packet that only the fast
reader cannot survive is saved); the one it was at then is the Failure.
"""

from __future__ import annotations

import importlib
import os
import pickle
import selectors
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import IO, Any

import numpy as np

from broker.packets.decode import Decoded, Failure, decode, decode_reference
from broker.packets.survey import SchemaSource, SchemasUnavailable, Survey
from broker.packets.times import leap_seconds
from broker.packets.union import concatenated

_CHUNK = 64
_START_S = 60.0  # a child imports for seconds, longer on a busy machine
_SIZE = 8


def decode_isolated(
    survey: Survey,
    packets: Sequence[bytes],
    schemas: SchemaSource | None = None,
    *,
    watchdog_s: float,
    cutouts: bool = False,
) -> Decoded:
    """decode() in child processes; see there. `survey` must be importable by name in a fresh process."""
    chunks = [(at, min(at + _CHUNK, len(packets))) for at in range(0, len(packets), _CHUNK)]
    parts: list[tuple[int, Decoded]] = []
    failures: list[Failure] = []
    while chunks:
        job = (survey, packets, schemas, cutouts, chunks)
        how, done = _run_child(job, watchdog_s, parts)
        chunks = chunks[done:]
        if how is None:
            break
        first, end = chunks.pop(0)
        if end - first == 1:
            failures.append(Failure(first, how))
        else:
            chunks = [(i, i + 1) for i in range(first, end)] + chunks
    return _joined(parts, failures)


def _run_child(job: tuple, watchdog_s: float, parts: list[tuple[int, Decoded]]) -> tuple[str | None, int]:
    """Run one child until it ends; return what ended it (None: it finished), and how many chunks it did."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "broker.packets.isolation"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        done = 0
        try:
            _write(child.stdin, pickle.dumps(job))
            deadline = time.monotonic() + _START_S + watchdog_s
            while True:
                message = _read(child.stdout, deadline)
                if message is None:
                    return _end(child), done
                kind, content = pickle.loads(message)
                if kind == "finished":
                    return None, done
                if kind == "unavailable":
                    raise SchemasUnavailable(content)
                if kind == "decoded":
                    parts.append(content)
                    done += 1
                deadline = time.monotonic() + watchdog_s
        except BrokenPipeError:
            return _end(child), done
        except TimeoutError:
            return f"hung the decoder for {watchdog_s:g} s", done
        finally:
            child.kill()


def _end(child: subprocess.Popen) -> str:
    code = child.wait()
    if code >= 0:
        return f"killed the decoder: exit code {code}"
    return f"killed the decoder: signal {-code} ({signal.Signals(-code).name})"


def _joined(parts: Sequence[tuple[int, Decoded]], failures: list[Failure]) -> Decoded:
    """The chunks' results as one, in the packets' order."""
    parts = sorted(parts, key=lambda part: part[0])
    counts: Counter[str] = Counter()
    schemas: dict[str, str] = {}
    for first, part in parts:
        counts.update(part.counts)
        schemas.update(part.schemas)
        failures += [Failure(first + f.index, f.reason) for f in part.failures]
    alerts = concatenated([part.alerts for _, part in parts if part.alerts.num_rows])
    index = np.concatenate([np.empty(0, np.int64), *(first + part.index for first, part in parts)])
    return Decoded(alerts, index, sorted(failures, key=lambda f: f.index), schemas, dict(counts))


def _write(stream: IO[bytes], message: bytes) -> None:
    stream.write(len(message).to_bytes(_SIZE, "big"))
    stream.write(message)
    stream.flush()


def _read(stream: IO[bytes], deadline: float) -> bytes | None:
    """The next message; None at the end. Raises TimeoutError at the deadline (of time.monotonic)."""
    size = _read_exactly(stream, _SIZE, deadline)
    return None if size is None else _read_exactly(stream, int.from_bytes(size, "big"), deadline)


def _read_exactly(stream: IO[bytes], size: int, deadline: float) -> bytes | None:
    data = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while len(data) < size:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            piece = os.read(stream.fileno(), min(size - len(data), 1 << 20))
            if not piece:
                return None
            data += piece
    return bytes(data)


def _child() -> None:
    """Read the job from stdin, write messages to what was stdout; libraries that print do so to stderr."""
    leap_seconds()  # what decoding loads when it first needs it must not count against the first packet
    importlib.import_module("pandas")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    size = int.from_bytes(sys.stdin.buffer.read(_SIZE), "big")
    survey, packets, schemas, cutouts, chunks = pickle.loads(sys.stdin.buffer.read(size))

    def say(kind: str, content: Any = None) -> None:
        _write(answers, pickle.dumps((kind, content)))

    for first, end in chunks:
        say("taken", first)
        read = decode if end - first > 1 else decode_reference
        try:
            part = read(survey, packets[first:end], schemas, watchdog_s=0, cutouts=cutouts)
        except SchemasUnavailable as error:
            say("unavailable", str(error))
            return
        say("decoded", (first, part))
    say("finished")


if __name__ == "__main__":
    _child()
