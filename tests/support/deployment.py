"""A whole deployment in a folder, its driver a process of its own; and the audit of what it has kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import yaml
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from broker.archive.archive import Archive
from broker.database.engine import connect
from broker.database.ledger import Ledger
from broker.kafka import IDEMPOTENT, RECONNECT
from rayfinch.bench import equal
from rayfinch.config import Settings, load
from rayfinch.wiring import outputs
from tests.publish.topics import messages
from tests.support.processes import tail

ROOT = Path(__file__).parents[2]
SENT_S = 60.0  # a source that was killed is back by then


@dataclass
class Deployment:
    """One stream with its own topics, database and archive.

    `ray` is the address of a cluster that outlives the drivers ("local": each driver starts its own).
    """

    folder: Path
    source: str
    own: str
    name: str
    ray: str = "local"
    survey: str = "ztf"
    topics: Sequence[str] = ()
    stream: str = "crash"
    models: Sequence[str] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.topic = f"{self.name}-in"
        self.config = self.folder / "config.yaml"
        self.log = self.folder / "driver.log"
        document: dict[str, Any] = {
            "stream": self.stream,
            "survey": self.survey,
            "source": {
                "kafka": {"bootstrap.servers": self.source},
                "topics": list(self.topics) or [self.topic],
                "refresh_s": 1.0,
            },
            "batch": {"max_alerts": 60, "in_flight": 2},
            "models": [{"name": model} for model in self.models],
            "publish": {"kafka": {"bootstrap.servers": self.own}, "prefix": self.name, "threshold": 0.3},
            "archive": {"uri": str(self.folder / "archive"), "compact_every_s": None},
            "database": {"url": f"sqlite:///{self.folder / 'rayfinch.db'}"},
            "ray": {"address": self.ray},
            "lease_ttl_s": 2.0,
        }
        for section, values in self.settings.items():
            if isinstance(values, dict):
                document.setdefault(section, {}).update(values)
            else:
                document[section] = values
        self.config.write_text(yaml.safe_dump(document))

    @property
    def loaded(self) -> Settings:
        return load(self.config)

    def send(self, packets: Sequence[bytes], topic: str = "", partitions: int = 3) -> None:
        """Produce packets to the source, over all partitions."""
        topic = topic or self.topic
        kafka = {**RECONNECT, "bootstrap.servers": self.source}
        admin = AdminClient(kafka)
        if topic not in admin.list_topics(timeout=SENT_S).topics:
            admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result()
        producer = Producer({**kafka, "message.max.bytes": 16 << 20, **IDEMPOTENT})
        for i, packet in enumerate(packets):
            producer.produce(topic, packet, partition=i % partitions)
            producer.poll(0)
        assert producer.flush(SENT_S) == 0

    def start(self, *options: str, failpoint: str = "") -> subprocess.Popen[bytes]:
        """Start a driver; `failpoint` kills it as kill -9 would."""
        env = {**os.environ, "RAYFINCH_FAILPOINT": failpoint, "RAY_AUTH_MODE": "disabled"}
        env.pop("RAY_ADDRESS", None)
        with self.log.open("ab") as out:
            out.write(f"--- {options} {failpoint}\n".encode())
            out.flush()
            return subprocess.Popen(
                [sys.executable, "-m", "rayfinch", "stream", str(self.config), *options],
                cwd=ROOT,
                env=env,
                stdout=out,
                stderr=out,
            )

    def drive(self, failpoint: str = "", timeout_s: float = 150) -> int:
        """Run a driver until all that the source holds is committed, or it dies; its exit status."""
        process = self.start("--until-idle", failpoint=failpoint)
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"the driver did not end in {timeout_s} s: {tail(self.log)}") from None

    def finish(self) -> None:
        """Run a driver to the end, which must be a good one."""
        status = self.drive()
        assert status == 0, f"the driver ended with {status}: {tail(self.log)}"

    def ledger(self) -> Ledger:
        return Ledger(connect(self.loaded.database.url), self.stream, self.survey)

    def archive(self) -> Archive:
        return Archive(self.loaded.archive.uri, self.survey)

    def audit(self) -> Audit:
        """What archive, topics and database hold now."""
        alerts = self.archive().get(where="true")
        return Audit(self, alerts, read_topics(self.own, self.name))


@dataclass
class Audit:
    deployment: Deployment
    alerts: pa.Table
    messages: list[equal.Record]

    @property
    def alert_ids(self) -> list[int]:
        return sorted(self.alerts["alert_id"].to_pylist())

    def in_topic(self, name: str) -> list[equal.Record]:
        topic = f"{self.deployment.name}.{self.deployment.survey}.{name}"
        return [m for m in self.messages if m[0] == topic]

    def assert_exactly_once(self, alert_ids: Sequence[int], dead_letters: int = 0) -> None:
        """Nothing lost and nothing doubled: in the archive, in every topic, in the database."""
        d = self.deployment
        assert self.alert_ids == sorted(alert_ids), "the archive"
        settings = d.loaded
        schemas = d.archive().writer_schemas(set(self.alerts["packet_schema"].to_pylist()))
        own = (f"{d.name}.schemas", f"{d.name}.batches", f"{d.name}.{d.survey}.deadletters")
        found = equal.digests(m for m in self.messages if m[0] not in own)
        wrong = equal.difference(found, equal.expected(self.alerts, schemas, outputs(settings)))
        assert wrong is None, wrong
        assert len(self.in_topic("deadletters")) == dead_letters, "the dead-letter topic"
        with connect(settings.database.url).connect() as db:
            from sqlalchemy import text

            # Of this stream alone: others may share the database.
            mine = {"survey": d.survey, "stream": d.stream}
            of_survey = "select object_id, n_alerts from objects where survey = :survey"
            objects = db.execute(text(of_survey), mine).all()
            of_stream = "select count(*) from dead_letters where stream = :stream"
            letters = db.execute(text(of_stream), mine).scalar()
        counted = Counter(self.alerts["object_id"].to_pylist())
        assert {o.object_id: o.n_alerts for o in objects} == counted, "the database's objects"
        assert letters == dead_letters, "the dead-letter table"
        assert not d.ledger().open_plans(), "every batch is done"


def read_topics(bootstrap: str, prefix: str) -> list[equal.Record]:
    """Every committed message of the topics that begin with `prefix.`"""
    kafka = {"bootstrap.servers": bootstrap}
    return [
        (topic, message.key(), message.value())
        for topic in AdminClient(kafka).list_topics(timeout=20).topics
        if topic.startswith(f"{prefix}.")
        for message in messages(kafka, topic)
    ]


def eventually(what: Callable[[], bool], seconds: float = 60.0, sleep: float = 0.1) -> None:
    """Wait until `what()`; fail when the time is over."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(sleep)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(10)


def ray_processes(title: str) -> list[psutil.Process]:
    """The processes with this in their title of the Ray that this test run has started: never another's."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:  # it has ended meanwhile
            continue
        if line.startswith("ray::") and title in line:
            found.append(process)
    return found
