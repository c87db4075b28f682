"""The Kafka of a benchmark: one that is named, a real one started by a script, or the embedded one."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rayfinch.embedded import CLUSTER_ID, EmbeddedKafka

# Beside the checkout, where $RAYFINCH_KAFKA names no other.
SCRIPT = Path(__file__).parents[3] / "shared" / "kafka" / "start"


class KafkaScriptError(RuntimeError):
    """The script that starts Kafka does not."""


@dataclass(frozen=True)
class Kafka:
    """A cluster. `isolates`: what a transaction has not committed cannot be seen; `pid`: if it is our own."""

    bootstrap: str
    what: str
    isolates: bool = True
    pid: int | None = None


def script() -> Path | None:
    """The script `start DIR PORT` of a real Kafka: $RAYFINCH_KAFKA, or the one beside the checkout; or None.

    Raises KafkaScriptError where $RAYFINCH_KAFKA names one that is not there.
    """
    if named := os.environ.get("RAYFINCH_KAFKA"):
        if not Path(named).is_file():
            raise KafkaScriptError(f"RAYFINCH_KAFKA names {named}, and there is no such script")
        return Path(named)
    return SCRIPT if SCRIPT.is_file() and shutil.which("java") else None


@contextmanager
def opened(folder: Path, bootstrap: str | None = None) -> Iterator[Kafka]:
    """A Kafka for as long as the context lasts; the one at `bootstrap` stays.

    Raises KafkaScriptError, EmbeddedKafkaError or KafkaException where there is none.
    """
    if bootstrap is not None:
        yield _named(bootstrap)
    elif (found := script()) is None:
        with EmbeddedKafka() as embedded:
            yield Kafka(embedded.bootstrap, "embedded (tansu)", isolates=False, pid=embedded.pid)
    else:
        yield from _started(found, folder)


def _named(bootstrap: str) -> Kafka:
    from confluent_kafka.admin import AdminClient

    cluster = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}).list_topics(timeout=20)
    embedded = (cluster.cluster_id or "").startswith(CLUSTER_ID)
    return Kafka(bootstrap, f"{'embedded (tansu), ' if embedded else ''}at {bootstrap}", not embedded)


def _started(path: Path, folder: Path) -> Iterator[Kafka]:
    server = Server(path, folder)
    try:
        server.start()
        what = f"started by {path.name} in {path.parent.name}"
        yield Kafka(server.bootstrap, what, pid=server.pid)
    finally:
        server.kill()  # nobody needs what it holds, and a clean end takes seconds


@dataclass
class Server:
    """A Kafka that `script` starts, which can be killed and started again on its port, with what it holds."""

    script: Path
    folder: Path
    port: int = field(default_factory=lambda: free_ports(2))
    _process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it, and return once it answers. Raises KafkaScriptError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / "server.log"
        # However this process dies, the server goes too.
        tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [*tied, "sh", str(self.script), str(self.folder), str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        _wait(self._process, self.port, log)

    def kill(self) -> None:
        """As kill -9 would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()


def _wait(server: subprocess.Popen[bytes], port: int, log: Path, wait_s: float = 90) -> None:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0})
    deadline = time.monotonic() + wait_s
    while True:
        if server.poll() is not None:
            raise KafkaScriptError(f"Kafka ended at once: {log.read_text(errors='replace')[-500:]}")
        try:
            if admin.list_topics(timeout=1).brokers:
                return
        except KafkaException as error:
            if time.monotonic() > deadline:
                raise KafkaScriptError(f"Kafka does not answer after {wait_s:.0f} s; see {log}") from error
        time.sleep(0.1)


def free_ports(count: int) -> int:
    """The first of `count` free ports in a row, on 127.0.0.1.

    Below Linux' ephemeral range, so that no outgoing connection takes one while its server is down.
    """
    for _ in range(1000):
        first = random.SystemRandom().randrange(15000, 32000)
        if all(_is_free(first + i) for i in range(count)):
            return first
    raise KafkaScriptError(f"no {count} free ports in a row on 127.0.0.1")


def _is_free(port: int) -> bool:
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
