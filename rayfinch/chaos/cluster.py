"""The Ray cluster of a campaign: a head process of its own, which outlives drivers, as an operator's does.

It has its own folder and ports, and none of its processes is found by a name that another Ray's could have.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from rayfinch.bench.kafka import free_ports

STORE = 2**30  # bytes of the object store


class ClusterFailed(RuntimeError):
    """Ray's head did not start."""


@dataclass
class Cluster:
    """`ray start --head --block`: it ends, with all below it, when its raylet or its GCS dies."""

    log: Path
    num_cpus: int
    port: int = field(default_factory=lambda: free_ports(4))
    # Not in the campaign's folder: the path of a socket in it has at most 107 characters.
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="rayfinch-ray-")))
    _head: subprocess.Popen[bytes] | None = None
    _seen: dict[int, psutil.Process] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def is_up(self) -> bool:
        return self._head is not None and self._head.poll() is None

    def start(self, wait_s: float = 120) -> None:
        """Start the head, and return once it takes drivers. Raises ClusterFailed."""
        self.sweep()
        options = {
            "node-ip-address": "127.0.0.1",
            "port": self.port,
            "ray-client-server-port": self.port + 1,
            "dashboard-agent-listen-port": self.port + 2,
            "dashboard-agent-grpc-port": self.port + 3,
            "min-worker-port": 0,  # any free ones: the usual range may be another Ray's
            "max-worker-port": 0,
            "num-cpus": self.num_cpus,
            "object-store-memory": STORE,
            "include-dashboard": "false",
            "temp-dir": self.folder,
        }
        env = {**os.environ, "RAY_AUTH_MODE": "disabled"}
        env.pop("RAY_ADDRESS", None)
        # As rayfinch.wiring.start_ray has it: workers beyond one a CPU are kept, a new one costs seconds.
        env.setdefault("RAY_num_workers_soft_limit", str(self.num_cpus + 4))
        head = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        with self.log.open("ab") as out:
            self._head = subprocess.Popen(
                [*head, "--disable-usage-stats", *(f"--{k}={v}" for k, v in options.items())],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=env,
            )
        deadline = time.monotonic() + wait_s
        began = self.log.stat().st_size
        while not self._answers(began):
            if not self.is_up or time.monotonic() > deadline:
                raise ClusterFailed(f"Ray's head did not start in {wait_s:.0f} s: see {self.log}")
            time.sleep(0.1)

    def processes(self, *words: str) -> list[psutil.Process]:
        """Those of its processes whose command line has one of `words` in it (none: all of them)."""
        found = []
        for process in self._tree():
            try:
                line = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if not words or any(word in line for word in words):
                found.append(process)
        return found

    def sweep(self) -> None:
        """End what a head that died has left behind."""
        self._tree()
        if self._head is not None and self._head.poll() is None:
            self._head.kill()
        for process in self._seen.values():
            try:
                process.kill()  # psutil sees to it that this is not another process of the same number
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(list(self._seen.values()), timeout=10)
        self._seen.clear()

    def close(self) -> None:
        self.sweep()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _tree(self) -> list[psutil.Process]:
        """All below the head; they are remembered, since those whose parent dies can't be found again."""
        for process in _below(self._head.pid if self._head else None):
            self._seen.setdefault(process.pid, process)
        self._seen = {pid: p for pid, p in self._seen.items() if p.is_running()}
        return list(self._seen.values())

    def _answers(self, began: int) -> bool:
        """Whether this start is over: `ray start` says so when GCS and raylet answer."""
        self._tree()
        with self.log.open("rb") as file:
            file.seek(began)
            return b"Ray runtime started" in file.read()


def _below(pid: int | None) -> Iterator[psutil.Process]:
    if pid is None:
        return
    try:
        yield from psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return
