"""CPU time and memory of a tree of processes: the driver, and the Ray that it has started."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import psutil

CPU_EVERY_S = 0.25
PSS_EVERY_S = 2.0

# Ray's own processes by a word of their command line; what runs our code bears a name that begins with ray::.
RAYS = {
    "gcs_server": "gcs",
    "raylet/raylet": "raylet",
    "log_monitor": "ray's helpers",
    "dashboard": "ray's helpers",
    "runtime_env": "ray's helpers",
    "monitor.py": "ray's helpers",
}


def role(command: str, *, root: bool = False) -> str:
    """What a process is for, by its command line: driver, workers, replicas, controller, raylet, gcs ..."""
    if root:
        return "driver"
    if command.startswith("ray::"):
        name = command.removeprefix("ray::").lower()
        if "controller" in name:
            return "serve controller"
        if "replica" in name:
            return "replicas"
        return "workers"
    for word, what in RAYS.items():
        if word in command:
            return what
    return "workers" if "default_worker.py" in command else "other"


@dataclass
class Meter:
    """Watches a process and all below it, in a thread, from `start` to `stop`.

    CPU of a process that has ended counts as it was last seen, at most a quarter of a second before.
    """

    pss_mb: list[tuple[float, float]] = field(default_factory=list)  # time.monotonic(), sum over processes
    _root: int = 0
    _seen: dict[tuple[int, float], tuple[str, float]] = field(default_factory=dict)
    _processes: dict[tuple[int, float], psutil.Process] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, root: int) -> None:
        self._root = root
        threading.Thread(target=self._watch, daemon=True, name="meter").start()

    def stop(self) -> None:
        self._stop.set()

    def cpu_s(self) -> Counter[str]:
        """User and system time so far, by role, in seconds."""
        with self._lock:
            self._look()
            total: Counter[str] = Counter()
            for what, seconds in self._seen.values():
                total[what] += seconds  # type: ignore[assignment]  # a Counter of seconds
            return total

    def _watch(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(CPU_EVERY_S):
            with self._lock:
                self._look()
                living = list(self._processes.values())
            if time.monotonic() >= due:
                self.pss_mb.append((time.monotonic(), sum(map(_pss, living)) / 2**20))
                due = time.monotonic() + PSS_EVERY_S

    def _look(self) -> None:
        try:
            tree = [psutil.Process(self._root)]
            tree += tree[0].children(recursive=True)
        except psutil.NoSuchProcess:
            tree = []
        now = {}
        for process in tree:
            try:
                key = (process.pid, process.create_time())
                process = self._processes.get(key, process)
                now[key] = process
                times = process.cpu_times()
                what = self._seen[key][0] if key in self._seen else "other"
                if what in ("other", "workers"):  # a worker becomes a replica once it is told to
                    what = role(" ".join(process.cmdline()), root=process.pid == self._root)
                self._seen[key] = (what, times.user + times.system)
            except psutil.Error:
                continue
        self._processes = now


def cpu_s(pid: int | None) -> float:
    """User and system time of one process; 0 where there is none."""
    try:
        times = psutil.Process(pid).cpu_times() if pid else None
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system if times else 0.0


def _pss(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss)
    except psutil.Error:
        return 0.0
