"""The stream under test: `rayfinch stream` as a process of its own, and what it tells of its batches."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rayfinch.config import PREFIX, ConfigError, load
from rayfinch.problems import Problem

# A stream that commits nothing for so long is broken; the first batch waits for Ray and the models.
STALLED_S = 120.0


class StreamFailed(RuntimeError):
    """The stream ended, or does nothing any more."""


@dataclass(frozen=True)
class Batch:
    """A batch that was committed: when we were told (time.monotonic()), its outcome, and a mark."""

    at: float
    outcome: dict[str, Any]
    mark: Any = None

    @property
    def alerts(self) -> int:
        return int(self.outcome["counts"]["alerts"])


def configure(
    config: Path, folder: Path, bootstrap: str, topic: str, prefix: str, schemas: Path | None
) -> Path:
    """Write `config` with its places replaced; the rest, with what the environment overrides, stays."""
    document = load(config).model_dump(mode="json")
    if document["publish"]["all"] is None:
        raise ConfigError(
            str(config), [Problem("publish.all", "is null, and the benchmark reads that topic")]
        )
    kafka = {"bootstrap.servers": bootstrap}
    document["source"] |= {"kafka": kafka, "topics": [topic], "start": "earliest"}
    document["source"] |= {"schemas": str(schemas) if schemas else None, "registry": None}
    document["publish"] |= {"kafka": kafka, "prefix": prefix, "replication": 1}
    document["archive"] |= {"uri": str(folder / "archive"), "storage_options": {}}
    document["database"] |= {"url": f"sqlite:///{folder / 'rayfinch.db'}"}
    document["ray"] |= {"address": "local"}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


@dataclass
class Driver:
    """A running `rayfinch stream`. Its log is `stream.log` beside its configuration."""

    config: Path
    mark: Callable[[], Any] = lambda: (
        None
    )  # called as each batch is told; what it returns stays with the batch
    batches: list[Batch] = field(default_factory=list)
    environment: Mapping[str, str] = field(default_factory=dict)  # beside that of this process
    _process: subprocess.Popen[str] | None = None
    _told: threading.Condition = field(default_factory=threading.Condition)

    @property
    def pid(self) -> int:
        assert self._process is not None, "the stream is not started"
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll() if self._process else None

    @property
    def done(self) -> int:
        """Alerts in all batches so far."""
        return sum(b.alerts for b in self.batches)

    def start(self) -> None:
        # What of the environment overrides the configuration is in the file already; here it would undo the
        # places. RAY_ADDRESS would lead to a cluster whose processes are not ours to measure.
        env = {k: v for k, v in os.environ.items() if not (k.startswith(PREFIX) and "__" in k)}
        env.pop("RAY_ADDRESS", None)
        env |= self.environment
        tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with (self.config.parent / "stream.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*tied, sys.executable, "-m", "rayfinch", "stream", str(self.config), "--json"],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        threading.Thread(target=self._listen, daemon=True, name="driver").start()

    def wait_for(self, alerts: int) -> None:
        """Return once `alerts` are committed in all. Raises StreamFailed when it ends or stalls before."""
        deadline = time.monotonic() + STALLED_S
        seen = len(self.batches)
        with self._told:
            while self.done < alerts:
                if self._process is None or self._process.poll() is not None:
                    raise StreamFailed(
                        f"the stream ended after {self.done} of {alerts} alerts: {self.tail()}"
                    )
                self._told.wait(0.5)
                if len(self.batches) > seen:
                    seen, deadline = len(self.batches), time.monotonic() + STALLED_S
                if time.monotonic() > deadline:
                    raise StreamFailed(
                        f"the stream committed nothing for {STALLED_S:.0f} s, after {self.done} of {alerts} "
                        f"alerts: {self.tail()}"
                    )

    def stop(self) -> None:
        """Let it finish what is in flight; kill it when that takes more than a minute."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            now = time.monotonic()
            try:
                told = json.loads(line)
            except ValueError:
                continue  # a library's print
            if isinstance(told, dict) and "batch" in told:
                mark = self.mark()
                with self._told:
                    self.batches.append(Batch(now, told, mark))
                    self._told.notify_all()

    def tail(self) -> str:
        """The end of its log."""
        log = self.config.parent / "stream.log"
        return log.read_text(errors="replace").strip()[-1500:] or "it said nothing"
