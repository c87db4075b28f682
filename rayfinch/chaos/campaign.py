"""One campaign: packets flow, one thing after another is killed, and then all that was kept is judged."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import Engine, func, select

from broker.database.engine import connect, reading
from broker.database.ledger import Ledger
from broker.database.tables import batches
from rayfinch.bench import held
from rayfinch.bench.driver import StreamFailed, configure
from rayfinch.bench.fill import Input
from rayfinch.bench.judge import faults
from rayfinch.bench.kafka import Kafka, KafkaScriptError, Server
from rayfinch.bench.sample import Sample
from rayfinch.bench.stream import PARTITIONS, written
from rayfinch.chaos import verdict
from rayfinch.chaos.cluster import Cluster
from rayfinch.chaos.strikes import Field, NotStruck, strike
from rayfinch.chaos.supervisor import Supervisor
from rayfinch.chaos.targets import Strike
from rayfinch.chaos.verdict import Hit
from rayfinch.config import Settings
from rayfinch.embedded import create_topic
from rayfinch.fresh import Message

STARTED_S = 600.0  # for the first batch: Ray, Serve and the models start
RECOVERED_S = 180.0  # a recovery that takes longer is none
SETTLED_S = 30.0  # how long a strike waits for the backlog of the one before it
DRAINED_S = 180.0
MOST = 10**9  # alerts: more than any campaign sends


@dataclass(frozen=True)
class Asked:
    """What a campaign is to be."""

    strikes: Sequence[Strike]
    rate: float  # alerts a second
    num_cpus: int
    skipped: Mapping[str, str]  # target -> why it can't be struck here
    enough: threading.Event = field(default_factory=threading.Event)  # set: no more strikes, judge


def run(
    asked: Asked, sample: Sample, script: Path, config: Path, folder: Path, tell: Callable[[str], None]
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Run a campaign: its figures, what is wrong, and what was slow.

    The recovery of a strike lasts from the kill until a batch that was planned after it is committed, by the
    database's own times; rayfinch.chaos.targets says for which targets the clock starts later. Raises
    StreamFailed, ClusterFailed or KafkaScriptError where the stream does not even start.
    """
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    source, own = (Server(script, folder / f"kafka-{name}") for name in ("source", "own"))
    cluster = Cluster(folder / "ray.log", asked.num_cpus)
    try:
        for server in (source, own):
            server.start()
        path = _configure(config, folder, source, own, cluster, sample)
        settings = written(path)
        supervisor = Supervisor(path, cluster, folder / "failpoint", tell)
        try:
            sent, hits, wrong = _under_fire(asked, sample, settings, supervisor, (source, own), tell)
        finally:
            supervisor.stop()
        tell("judging what it has kept")
        kept = held.look(settings)
        difference = held.difference(settings)
        wrong += verdict.not_recovered(hits) + faults(sent, kept.places, {}) + kept.wrong_counts
        wrong += [difference] if difference else []
        figures = verdict.figures(hits, sent, kept.places, difference, asked.skipped)
        figures |= {"drivers": supervisor.started, "seconds": time.monotonic() - began}
        return figures, wrong, verdict.slow(hits)
    finally:
        cluster.close()
        for server in (source, own):
            server.kill()


def _under_fire(
    asked: Asked,
    sample: Sample,
    settings: Settings,
    supervisor: Supervisor,
    servers: tuple[Server, Server],
    tell: Callable[[str], None],
) -> tuple[set[int], list[Hit], list[str]]:
    """Start the stream, strike, and let it finish: the alert ids sent, the strikes, what went wrong."""
    create_topic(servers[0].bootstrap, settings.source.topics[0], PARTITIONS)
    engine = connect(settings.database.url)
    ledger = Ledger(engine, settings.stream, settings.survey)

    def committed(since: float) -> bool:
        return _committed(engine, settings.stream, since) is not None

    def settled() -> bool:
        """Whether nothing but the latest packets waits: the strike before this one is got over."""
        return len(source.sent) - sum(ledger.planned().values()) < max(2 * asked.rate, 5)

    under_fire = Field(supervisor, *servers, Path(str(engine.url.database)), committed)
    source = Input(Kafka(servers[0].bootstrap, "source"), settings.source.topics[0])
    hits: list[Hit] = []
    wrong: list[str] = []
    with _flowing(source, sample, asked.rate, wrong):
        begin = time.time()
        tell("starting Ray and the stream")
        supervisor.start()
        if not supervisor.until(lambda: committed(begin), STARTED_S):
            log = supervisor.config.parent / "stream.log"
            raise StreamFailed(f"the stream committed nothing in {STARTED_S:.0f} s: see {log}")
        tell(f"{time.time() - begin:.0f} s: the stream runs")
        for one in asked.strikes:
            if asked.enough.is_set():
                break
            supervisor.until(settled, SETTLED_S)
            supervisor.rest(one.pause_s)
            hit = _hit(under_fire, one, engine, settings.stream, begin)
            tell(str(hit))
            hits.append(hit)
    tell(f"{len(source.sent)} alerts are sent: waiting for the rest of them")

    def done() -> bool:
        return sum(ledger.offsets().values()) >= len(source.sent) and not ledger.open_plans()

    if not supervisor.until(done, DRAINED_S):
        wrong.append(
            f"{sum(ledger.offsets().values())} of {len(source.sent)} packets are done {DRAINED_S:.0f} s "
            "after the last was sent"
        )
    engine.dispose()
    return set(source.sent), hits, wrong


def _hit(field: Field, one: Strike, engine: Engine, stream: str, begin: float) -> Hit:
    """Strike once, and wait for the recovery."""
    struck = time.time() - begin
    try:
        since = strike(field, one)
    except (NotStruck, KafkaScriptError) as error:
        return Hit(one, struck, None, str(error))
    recovered = field.supervisor.until(lambda: field.committed(since), RECOVERED_S)
    done = _committed(engine, stream, since)
    if not recovered or done is None:
        return Hit(one, since - begin, None, f"no batch in the {RECOVERED_S:.0f} s after it")
    return Hit(one, since - begin, done - since)


def _committed(engine: Engine, stream: str, since: float) -> float | None:
    """When the first batch that was planned after `since` was committed (s, UTC); None: not yet."""
    mine = (batches.c.stream == stream) & (batches.c.planned_at >= since)
    with reading(engine) as db:
        return db.scalar(select(func.min(batches.c.done_at)).where(mine))


@contextmanager
def _flowing(source: Input, sample: Sample, rate: float, wrong: list[str]) -> Iterator[None]:
    """Fresh alerts at a steady rate, for as long as the context lasts."""
    over = threading.Event()

    def alerts() -> Iterator[tuple[int, Message]]:
        for alert in sample.messages(MOST):
            if over.is_set():
                return
            yield alert

    def send() -> None:
        try:
            source.pace(alerts(), rate)
        except Exception as error:
            wrong.append(f"packets could not be sent any more: {error}")

    thread = threading.Thread(target=send, daemon=True, name="flow")
    thread.start()
    try:
        yield
    finally:
        over.set()
    thread.join()  # which waits for what is on its way; a campaign that was broken off does not


def _configure(
    config: Path, folder: Path, source: Server, own: Server, cluster: Cluster, sample: Sample
) -> Path:
    """The configuration of the stream under fire: two clusters, and a Ray that outlives its drivers."""
    name = f"chaos-{uuid.uuid4().hex[:8]}"
    path = configure(config, folder, source.bootstrap, f"{name}-in", name, sample.schemas)
    document = yaml.safe_load(path.read_text())
    document["publish"]["kafka"] = {"bootstrap.servers": own.bootstrap}
    document["ray"] = {"address": cluster.address}
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path
