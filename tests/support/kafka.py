"""A real Apache Kafka of one node, to stop, kill and start again on the same folder and port."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.support.ports import answers, free_port
from tests.support.processes import end, spawn, wait_until

SCRIPT = Path(os.environ.get("RAYFINCH_KAFKA", Path(__file__).parents[3] / "shared" / "kafka" / "start"))


def unavailable() -> str | None:
    """Why no Kafka can be started here, or None."""
    if not SCRIPT.exists():
        return f"no Kafka: {SCRIPT} is missing (RAYFINCH_KAFKA may name a script `start DIR PORT PROPERTIES`)"
    if not shutil.which("java"):
        return "no Java: install openjdk-17-jre-headless"
    return None


class KafkaServer:
    """One Kafka; `folder` keeps its log over restarts. The controller takes `port + 1`.

    `properties` are appended to its configuration; `port` must stay a listener without credentials.
    """

    def __init__(
        self, folder: Path, port: int | None = None, properties: Mapping[str, str] | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = port or free_port(run=2)
        self.log = folder / "kafka.log"
        self._extra = folder / "extra.properties"
        self._extra.write_text("".join(f"{k}={v}\n" for k, v in (properties or {}).items()))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "Kafka is not started"
        return self._process.pid

    def start(self, timeout_s: float = 90) -> KafkaServer:
        """Start it and return once it lists its topics. After a kill -9 this takes longer (recovery)."""
        command = ["sh", str(SCRIPT), str(self.folder), str(self.port), str(self._extra)]
        self._process = spawn(command, self.log)
        wait_until(self._ready, self._process, self.log, timeout_s)
        return self

    def stop(self) -> None:
        """Stop it cleanly."""
        end(self._process, signal.SIGTERM)

    def kill(self) -> None:
        """kill -9: a crash to recover from."""
        end(self._process, signal.SIGKILL)

    def __enter__(self) -> KafkaServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        # Nobody needs the log of a test's Kafka, and a clean shutdown takes seconds.
        self.kill()

    def _ready(self) -> bool:
        if not answers(self.port):
            return False
        quiet: dict[str, str | int | float | bool] = {"bootstrap.servers": self.bootstrap, "log_level": 0}
        try:
            return bool(AdminClient(quiet).list_topics(timeout=5).brokers)
        except KafkaException:
            return False
