"""A deployment whose driver several tests put under fire, one after the other: a start costs seconds."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from broker.packets.decode import decode
from broker.packets.survey import survey
from tests.support.deployment import Deployment, eventually, kill


class Shared:
    """A deployment and its driver; each test takes packets of its own.

    A test that leaves the driver dead costs the next one a start; one that fails, a deployment (`renew`).
    """

    def __init__(self, make: Callable[[], Deployment], packets: Iterator[bytes]) -> None:
        self.packets = packets
        self._make = make
        self.renew()

    def renew(self) -> None:
        """Take a deployment that nothing has happened to."""
        self.deployment = self._make()
        self.sent: list[bytes] = []
        self.driver: subprocess.Popen[bytes] | None = None

    def running(self) -> subprocess.Popen[bytes]:
        if self.driver is None or self.driver.poll() is not None:
            self.driver = self.deployment.start()
        return self.driver

    def end(self) -> None:
        if self.driver is not None and self.driver.poll() is None:
            kill(self.driver)

    def take(self, n: int) -> list[bytes]:
        """Packets that were never sent, one that is none among them."""
        taken = [*islice(self.packets, n - 1), b"Obj\x01 not a packet"]
        self.sent += taken
        return taken

    def settle(self) -> None:
        """Wait until all that was sent is committed."""
        ledger = self.deployment.ledger()
        wanted = len(self.sent)
        eventually(lambda: sum(ledger.offsets().values()) >= wanted and not ledger.open_plans(), 120)

    def assert_exactly_once(self) -> None:
        ids = alert_ids_of(self.sent)
        self.deployment.audit().assert_exactly_once(ids, dead_letters=len(self.sent) - len(ids))

    def scores(self, packets: list[bytes]) -> dict[str, list[dict[str, Any]]]:
        """What the models said of each of `packets`, by model."""
        mine = set(alert_ids_of(packets))
        rows = self.deployment.archive().get(where="true").select(["alert_id", "scores"]).to_pylist()
        entries = [entry for row in rows if row["alert_id"] in mine for entry in row["scores"]]
        return {model: [e for e in entries if e["model"] == model] for model in ("stamps", "lightcurve")}


def alert_ids_of(packets: list[bytes]) -> list[int]:
    return decode(survey("ztf"), packets).alerts["alert_id"].to_pylist()
