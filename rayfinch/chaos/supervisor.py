"""Keeps a driver and its Ray running, as systemd, or a Ray job's retries and KubeRay, would."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rayfinch.bench.driver import Driver
from rayfinch.chaos.cluster import Cluster, ClusterFailed

TICK_S = 0.05


@dataclass
class Supervisor:
    """What has ended is started again by `tick`, which whoever waits for anything calls all the while.

    failpoints: the file in which a driver is told at which fail point to die (broker.stream.failpoint).
    """

    config: Path
    cluster: Cluster
    failpoints: Path
    tell: Callable[[str], None]
    driver: Driver = field(init=False)
    started: int = 0

    def start(self) -> None:
        self.cluster.start()
        self.driver = self._start()

    def tick(self) -> None:
        """Start again what has ended; Ray before the driver, which needs it."""
        if not self.cluster.is_up:
            self.tell("      Ray's head ended: starting it again")
            try:
                self.cluster.start()
            except ClusterFailed as error:
                self.tell(f"      {error}")
                return  # and try again
        if (status := self.driver.status) is not None:
            self.tell(f"      the driver ended with status {status}: starting it again")
            self.driver = self._start()

    def rest(self, seconds: float) -> None:
        """Wait, on duty."""
        self.until(lambda: False, seconds)

    def until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Wait for `done` at most so long, on duty; whether it was."""
        end = time.monotonic() + seconds
        while not (found := done()) and time.monotonic() < end:
            self.tick()
            time.sleep(TICK_S)
        return found

    def succeed(self) -> Driver:
        """Start a driver beside the one that there is, which is returned and not looked after any more."""
        former, self.driver = self.driver, self._start()
        return former

    def stop(self) -> None:
        """Let the driver finish what is in flight; nothing is started again."""
        if self.started:
            self.driver.stop()

    def _start(self) -> Driver:
        self.failpoints.unlink(missing_ok=True)
        driver = Driver(self.config, environment={"RAYFINCH_FAILPOINT": f"@{self.failpoints}"})
        driver.start()
        self.started += 1
        return driver
