"""A survey's campaign: mutants among healthy packets, from Kafka to Kafka, and what has become of each."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from broker.archive.archive import Archive
from broker.archive.errors import ArchiveError
from broker.database.engine import connect
from broker.database.ledger import Ledger
from broker.packets.decode import decode
from broker.packets.survey import SchemaSource, survey
from rayfinch.bench.kafka import Kafka
from rayfinch.config import Settings, load, shipped
from rayfinch.embedded import PRODUCER, create_topic
from rayfinch.fuzz.mutations import mutate
from rayfinch.fuzz.packet import Base
from rayfinch.replay import LARGEST
from rayfinch.trial import driver
from rayfinch.trial.audit import Audit, audit

NEIGHBOURS = 4  # mutants for each healthy packet
_FIRST_MUTANT, _FIRST_HEALTHY = 1 << 59, 1 << 60
_PARTITIONS = 4
_STARTS = 20  # drivers, before a campaign is given up
START_S = 240.0  # for Ray, the models and the first batch
# What is the same however often a packet is decoded, and whoever its neighbours are.
_SAME = ("ra", "dec", "mjd", "flux", "flux_err", "band", "object_id")
COULD_NOT_SAY = "the model could not say"


@dataclass(frozen=True)
class Message:
    """`mutation`: its name, or None of a healthy packet."""

    value: bytes | None
    headers: list[tuple[str, bytes]]
    alert_id: int
    mutation: str | None
    base: int


def messages(bases: Sequence[Base], n: int, seed: int) -> Iterator[Message]:
    """`n` mutants, and a healthy packet behind every fourth; the same for the same arguments."""
    for i in range(n):
        which = i % len(bases)
        mutant = mutate(bases[which], _FIRST_MUTANT + i, f"{seed}/{i}")
        yield Message(mutant.value, mutant.headers, _FIRST_MUTANT + i, mutant.name, which)
        if i % NEIGHBOURS == NEIGHBOURS - 1:
            which = (i // NEIGHBOURS) % len(bases)
            alert_id = _FIRST_HEALTHY + i
            whole = bases[which].framed(bases[which].edited([], alert_id))
            yield Message(whole, [], alert_id, None, which)


@dataclass
class Result:
    """What came of a campaign. `packets` counts the mutants; `faults` says what is wrong, in sentences."""

    survey: str
    packets: int = 0
    healthy: int = 0
    decoded: int = 0
    resent: int = 0
    dead_letters: int = 0
    crashes: int = 0
    hangs: int = 0
    neighbours_harmed: int = 0
    accounted: bool = False
    second_attempts: int = 0  # batches that were run again, each packet isolated
    decoder_killed: int = 0  # dead letters that killed or hung the decoder
    seconds: float = 0.0
    mutations: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not (self.crashes or self.hangs or self.neighbours_harmed or self.faults) and self.accounted

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def run(
    name: str,
    bases: Sequence[Base],
    n: int,
    seed: int,
    folder: Path,
    kafka: Kafka,
    schemas: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Result:
    """Send `n` mutants of a survey's packets through a stream of its own, in `folder`, and judge it."""
    prefix = f"fuzz-{name}-{seed}-{int(time.time())}"
    address = {"bootstrap.servers": kafka.bootstrap, **({} if kafka.isolates else PRODUCER)}
    source: dict[str, Any] = {"topics": [f"{prefix}-in"]}
    if schemas is not None:
        source["schemas"] = str(schemas)
    config = driver.configure(shipped(name), folder, prefix, address, address, {"source": source})
    settings = load(config)
    result = Result(name)
    begin = time.monotonic()
    create_topic(kafka.bootstrap, f"{prefix}-in", _PARTITIONS)
    sent = _send(messages(bases, n, seed), address, f"{prefix}-in")
    result.mutations = dict(Counter(m for m, _ in sent.values() if m))
    result.packets, result.healthy = n, len(sent) - n
    watch = _Watch(config, folder / "stream.log", settings, len(sent), progress)
    watch.run()
    result.crashes, result.hangs = watch.crashes, watch.hangs
    result.faults += watch.faults
    healthy = {alert_id: base for alert_id, (mutation, base) in sent.items() if mutation is None}
    judge(result, audit(settings), len(sent), _harmed(settings, healthy, bases, schemas))
    result.decoder_killed = _killers(settings)
    result.seconds = round(time.monotonic() - begin, 1)
    return result


def judge(result: Result, found: Audit, sent: int, harmed: set[int]) -> None:
    """Fill in what the audit says of the `sent` messages."""
    counts = found.counts
    result.resent, result.dead_letters = counts["resent"], counts["dead_letters"]
    result.neighbours_harmed = len(harmed)
    result.decoded = counts["alerts"] - (result.healthy - len(harmed))
    result.second_attempts = found.attempts - found.batches
    result.accounted = counts["alerts"] + counts["resent"] + counts["dead_letters"] == sent
    result.faults += found.faults
    if counts["dead_letters"] != found.letters_kept:
        result.faults.append(
            f"the batches count {counts['dead_letters']} dead letters, the database {found.letters_kept}"
        )
    if not result.accounted:
        result.faults.append(f"{sent} messages were sent, and {dict(counts)} came of them")


@dataclass
class _Watch:
    """Runs drivers until everything is done; counts those that end by themselves, or do nothing."""

    config: Path
    log: Path
    settings: Settings
    wanted: int
    progress: Callable[[int], None]
    crashes: int = 0
    hangs: int = 0
    faults: list[str] = field(default_factory=list)

    def run(self) -> None:
        ledger = Ledger(connect(self.settings.database.url), self.settings.stream, self.settings.survey)
        # A packet that hangs the decoder costs a watchdog's time, and another when it is isolated; a batch
        # may hold several.
        patience = START_S + 4 * self.settings.watchdog_s
        process: subprocess.Popen[bytes] | None = None
        done, since = -1, time.monotonic()
        try:
            for _ in range(_STARTS):
                process = driver.start(self.config, self.log)
                while process.poll() is None:
                    now = sum(ledger.offsets().values())
                    if now > done:
                        done, since = now, time.monotonic()
                        self.progress(done)
                    if done >= self.wanted and not ledger.open_plans():
                        if driver.drain(process) != 0:
                            self.faults.append(f"the driver did not end well: {driver.tail(self.log, 300)}")
                        return
                    if time.monotonic() - since > patience:
                        self.hangs += 1
                        since = time.monotonic()
                        process.kill()
                        process.wait()
                        break
                    time.sleep(0.3)
                else:
                    self.crashes += 1
                    self.faults.append(
                        f"the driver ended with {process.returncode}: {driver.tail(self.log, 300)}"
                    )
            self.faults.append(f"{max(done, 0)} of {self.wanted} messages were done after {_STARTS} drivers")
        finally:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()


def _send(
    stream: Iterator[Message], address: dict[str, Any], topic: str
) -> dict[int, tuple[str | None, int]]:
    """Produce the messages over all partitions; alert id -> (mutation, base) of each."""
    from confluent_kafka import Producer

    producer = Producer({**address, "message.max.bytes": LARGEST, "queue.buffering.max.kbytes": 256 << 10})
    sent = {}
    for i, message in enumerate(stream):
        while True:
            try:
                producer.produce(
                    topic, message.value, partition=i % _PARTITIONS, headers=list(message.headers)
                )
                break
            except BufferError:
                producer.poll(0.05)
        producer.poll(0)
        sent[message.alert_id] = (message.mutation, message.base)
    if left := producer.flush(120):
        raise TimeoutError(f"{address['bootstrap.servers']} has not taken {left} messages in 120 s")
    return sent


def _harmed(
    settings: Settings, healthy: dict[int, int], bases: Sequence[Base], schemas: Path | None
) -> set[int]:
    """Healthy alerts that are not in the archive exactly once, with the values and scores that are theirs."""
    from broker.packets.registry import Folder

    source: SchemaSource | None = Folder(schemas) if schemas else None
    alone = [decode(survey(settings.survey), [b.framed(b.datum)], source).alerts.select(_SAME) for b in bases]
    expected = [table.to_pylist()[0] for table in alone]
    archive = Archive(settings.archive.uri, settings.survey)
    try:
        rows = archive.get(columns=["alert_id", "scores", *_SAME])
    except ArchiveError:
        return set(healthy)
    ours = np.isin(rows["alert_id"].to_numpy(), np.fromiter(healthy, np.int64, len(healthy)))
    times: Counter[int] = Counter()
    harmed = set()
    for row in rows.filter(pc.and_(ours, True)).to_pylist():
        alert_id, scores = row.pop("alert_id"), row.pop("scores")
        times[alert_id] += 1
        failed = [s for s in scores if s["probabilities"] is None and s["reason"] != COULD_NOT_SAY]
        if row != expected[healthy[alert_id]] or failed or len(scores) != len(settings.models):
            harmed.add(alert_id)
    return harmed | {alert_id for alert_id in healthy if times[alert_id] != 1}


def _killers(settings: Settings) -> int:
    letters = Ledger(connect(settings.database.url), settings.stream, settings.survey).dead_letters()
    return sum(1 for _, letter in letters if " the decoder" in letter.reason)
