"""A stream's loop in a thread of the test's own process: no driver to start, and no models."""

from __future__ import annotations

import threading
from typing import Any

from broker.stream.loop import Loop
from rayfinch import wiring
from tests.support.deployment import Deployment, eventually


class Running:
    """Runs the deployment's loop until the context ends; Ray runs already."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.outcomes: list[dict[str, Any]] = []
        self.loop = Loop(wiring.stream(deployment.loaded), "test:1", lambda p, o: self.outcomes.append(o))
        self._thread = threading.Thread(target=self.loop.run)

    def __enter__(self) -> Running:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def count(self, name: str = "alerts") -> int:
        return sum(o["counts"][name] for o in self.outcomes)

    def until(self, alerts: int) -> None:
        eventually(lambda: self.count() >= alerts)

    def events(self) -> list[str]:
        return [e["kind"] for e in self.deployment.ledger().events()]
