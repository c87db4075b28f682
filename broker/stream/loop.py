"""The stream: a loop of batches, several in flight, archived, published and committed in their order.

Whatever goes wrong (a Kafka that went away, a task that keeps dying, a locked database) ends the same way:
what is in flight is dropped, and the open plans are recovered as after a restart. There is one recovery, and
every restart exercises it.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ray

from broker.archive.archive import Archive
from broker.database.ledger import Lease, LeaseLost, Ledger
from broker.packets.survey import SchemaSource
from broker.publish.outputs import Outputs
from broker.publish.publisher import Publisher
from broker.stream.commit import Committer
from broker.stream.failpoint import failpoint
from broker.stream.plan import DEAD_LETTERS, Plan, Range
from broker.stream.planning import choose, due
from broker.stream.protocols import Models
from broker.stream.run import compact, quiet, run
from broker.stream.source import KafkaSource
from broker.stream.topics import TopicWatch
from broker.stream.work import Work

log = logging.getLogger("rayfinch.stream")


@dataclass(frozen=True)
class Limits:
    """When a batch leaves, and how much is under way at once."""

    max_alerts: int = 2000
    max_bytes: int = 256 * 2**20
    deadline_s: float = 0.2
    in_flight: int = 2
    chunk: int = 1000  # alerts a task
    poll_s: float = 0.05
    lease_ttl_s: float = 10.0
    watchdog_s: float = 20.0
    compact_every_s: float | None = None
    vanished_s: float = 60.0  # how long a planned topic may be missing before its offsets are given up


@dataclass(frozen=True)
class Stream:
    """The parts of one stream. `start` is where a first start begins: `earliest` or `latest`."""

    name: str
    survey: str
    source: KafkaSource
    schemas: SchemaSource | None
    models: Models
    archive: Archive
    outputs: Outputs
    ledger: Ledger
    publisher: Callable[[], Publisher]
    limits: Limits = Limits()
    start: str = "earliest"


class Loop:
    """Runs a stream until it is told to stop.

    `on_batch(plan, outcome)` is called after each commit. `stop` drains: nothing new is planned, what is in
    flight is finished. Raises LeaseHeld at the start when another driver holds the stream, and LeaseLost when
    another one took over.
    """

    def __init__(
        self,
        stream: Stream,
        owner: str,
        on_batch: Callable[[Plan, dict[str, Any]], None] = lambda plan, outcome: None,
    ) -> None:
        self.stream = stream
        self.owner = owner
        self.stop = threading.Event()
        self.idle = threading.Event()  # set while nothing is due and nothing is in flight
        self._on_batch = on_batch
        self._watch = TopicWatch(stream.ledger, stream.limits.vanished_s)
        self._waiting_since: float | None = None
        self._mean_bytes = 64e3
        self._lease: Lease
        self._lost = threading.Event()

    def run(self, *, wait: bool = True) -> None:
        ledger, limits = self.stream.ledger, self.stream.limits
        quiet()
        self._lease = ledger.acquire(self.owner, limits.lease_ttl_s, wait)
        keeper = threading.Thread(target=self._keep_lease, daemon=True, name="lease")
        keeper.start()
        if limits.compact_every_s:
            threading.Thread(target=self._keep_compact, daemon=True, name="compact").start()
        pause = 0.5
        try:
            while not self.stop.is_set():
                try:
                    ledger.check(self._lease)  # a publisher fences the one before it: never a successor's
                    with self._open() as committer:
                        self._begin(committer)
                        pause = 0.5
                        self._flow(committer)
                    break
                except LeaseLost:
                    self._lost.set()
                    raise
                except Exception as error:
                    log.warning("the stream stumbled and recovers in %.1f s: %s", pause, _sentence(error))
                    self._alarm("stumbled", _sentence(error))
                    self.stop.wait(pause)
                    pause = min(pause * 2, 8.0)
        finally:
            stopping = not self._lost.is_set()
            self._lost.set()
            if stopping:
                ledger.release(self._lease)

    @contextmanager
    def _open(self) -> Iterator[Committer]:
        """A publisher for as long as nothing goes wrong: opening it fences whoever held the stream before."""
        stream, publisher = self.stream, self.stream.publisher()
        publisher.open()
        try:
            yield Committer(stream.ledger, stream.archive, publisher, stream.outputs, self._lease)
        finally:
            publisher.close()

    def _begin(self, committer: Committer) -> None:
        """Finish what an earlier run left open; on the very first start, note where to begin."""
        ledger = self.stream.ledger
        for plan in ledger.open_plans():
            outcome = committer.recover(plan)
            if outcome is None:
                plan = self._attempt(plan)
                outcome = committer.finish(plan, self._run(plan))
            log.info("batch %s recovered", plan.tag)
            self._on_batch(plan, outcome)
        if self.stream.start == "latest" and not ledger.planned():
            ends = [
                Range(p.topic, p.topic_id, p.partition, p.high, p.high)
                for p in self.stream.source.partitions()
            ]
            if ends:
                plan = ledger.plan(self._lease, ends, {})
                committer.finish(plan, [])

    def _flow(self, committer: Committer) -> None:
        """Plan, run and finish batches until told to stop. Any error ends it; recovery is the caller's."""
        limits = self.stream.limits
        pending: deque[Future[None]] = deque()
        broken = threading.Event()
        with (
            ThreadPoolExecutor(limits.in_flight, "run") as runners,
            ThreadPoolExecutor(1, "finish") as finisher,
        ):
            try:
                while True:
                    while pending and pending[0].done():
                        pending.popleft().result()
                    if self._lost.is_set():
                        raise LeaseLost(f"another driver took over the stream {self.stream.name}")
                    if self.stop.is_set() and not pending:
                        return
                    plan = None
                    if not self.stop.is_set() and len(pending) < limits.in_flight:
                        plan = self._plan(idle=not pending)
                    if plan is None:
                        self._rest(pending)
                        continue
                    plan = self._attempt(plan)
                    running = runners.submit(self._run, plan)
                    pending.append(finisher.submit(self._finish, committer, plan, running, broken))
            except BaseException:
                broken.set()  # batches behind the one that failed must not overtake it
                raise

    def _plan(self, *, idle: bool) -> Plan | None:
        """The next batch, written down; None while there is nothing due."""
        ledger, limits, source = self.stream.ledger, self.stream.limits, self.stream.source
        planned = ledger.planned()
        self._watch.look(source.topic_ids(), planned)
        retries = [Range(DEAD_LETTERS, self.stream.name, 0, row, row + 1) for row in ledger.retries()]
        ranges = [*retries, *due(source.partitions(), planned)]
        waiting = sum(len(r) for r in ranges)
        if not waiting:
            self._waiting_since = None
            if idle:
                self.idle.set()
            return None
        self.idle.clear()
        limit = max(1, min(limits.max_alerts, int(limits.max_bytes / self._mean_bytes)))
        now = time.monotonic()
        self._waiting_since = self._waiting_since or now
        if waiting < limit and now - self._waiting_since < limits.deadline_s:
            return None
        self._waiting_since = None
        failpoint("plan.before")
        plan = ledger.plan(self._lease, choose(ranges, limit), self.stream.models.pin())
        for news in self.stream.models.news():
            self._alarm("model", news)
        failpoint("plan.after")
        return plan

    def _attempt(self, plan: Plan) -> Plan:
        return replace(plan, attempt=self.stream.ledger.begin_attempt(self._lease, plan.batch))

    def _run(self, plan: Plan) -> list[ray.ObjectRef]:
        """Run a batch; from the second attempt on, each packet is decoded where it can harm nobody."""
        stream = self.stream
        failpoint("run.before")
        work = Work(
            survey=stream.survey,
            kafka=stream.source.kafka,
            schemas=stream.schemas,
            scorer=stream.models.scorer(plan.models),
            isolate=plan.attempt > 1,
            watchdog_s=stream.limits.watchdog_s,
            letters=stream.ledger.letters([r.first for r in plan.ranges if r.topic == DEAD_LETTERS]),
            lost=self._watch.lost(plan.ranges, stream.source.topic_ids(fresh=plan.attempt > 1)),
        )
        slot = plan.batch % stream.limits.in_flight
        blocks = run(work, plan.ranges, chunk=stream.limits.chunk, name=f"{stream.name}_{slot}")
        failpoint("run.after")
        return blocks

    def _finish(
        self, committer: Committer, plan: Plan, running: Future[list[ray.ObjectRef]], broken: threading.Event
    ) -> None:
        try:
            blocks = running.result()
            if broken.is_set():
                return
            outcome = committer.finish(plan, blocks)
        except BaseException:
            broken.set()
            raise
        self._on_batch(plan, outcome)

    def _rest(self, pending: deque[Future[None]]) -> None:
        if self.stop.is_set() or len(pending) >= self.stream.limits.in_flight:
            time.sleep(0.005)
        else:
            self.stop.wait(self.stream.limits.poll_s)

    def _keep_lease(self) -> None:
        """Renew the lease three times in its life; say so when it is lost."""
        ttl = self.stream.limits.lease_ttl_s
        while not self._lost.wait(ttl / 3):
            try:
                self.stream.ledger.renew(self._lease)
            except LeaseLost:
                self._lost.set()
            except Exception as error:
                log.warning("the lease could not be renewed: %s", error)

    def _keep_compact(self) -> None:
        """Compact the archive every so often. It never holds the stream up, and its errors only cost time."""
        while not self._lost.wait(self.stream.limits.compact_every_s):
            try:
                ray.get(compact.remote(self.stream.archive))
            except Exception as error:
                log.warning("the archive was not compacted: %s", _sentence(error))

    def _alarm(self, kind: str, message: str) -> None:
        try:
            self.stream.ledger.event(kind, message, {})
        except Exception as error:
            log.warning("the alarm %r could not be kept: %s", message, error)


def _sentence(error: Exception) -> str:
    """What went wrong, in a line: Ray wraps a task's error in tracebacks, the first cause first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Unavailable|Expired)\b: ", line)]
    if len(lines) > 1 and causes:
        return causes[0]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
