"""The demonstration: a Kafka and a Ray of its own, packets replayed, and the stream as it is."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rayfinch.config import Settings, load, shipped
from rayfinch.embedded import PRODUCER
from rayfinch.report import Report

Packets = Sequence[tuple[str, bytes]]


@dataclass
class Show:
    """One survey's part of the demonstration: what was sent, and what has become of it."""

    settings: Settings
    config: Path
    packets: Packets
    report: Report = field(default_factory=Report)
    sent: int = 0
    failure: str | None = None

    @property
    def topic(self) -> str:
        return self.settings.source.topics[0]

    @property
    def done(self) -> int:
        """Packets of which it is settled what became of them."""
        return sum(self.report.counts[name] for name in ("alerts", "resent", "dead_letters"))

    @property
    def finished(self) -> bool:
        return self.failure is not None or (self.sent == len(self.packets) and self.done >= self.sent)


def by_survey(
    packets: Iterable[tuple[str, bytes]], schemas: Path | None
) -> dict[str, list[tuple[str, bytes]]]:
    """Packets sorted by the survey that they are of, in order. Raises PacketError for one of none."""
    from broker.packets.check import survey_of
    from broker.packets.registry import Folder

    source = Folder(schemas) if schemas else None

    found: dict[str, list[tuple[str, bytes]]] = {}
    for name, packet in packets:
        found.setdefault(survey_of(packet, source).name, []).append((name, packet))
    return found


def schemas_beside(paths: Sequence[Path]) -> Path | None:
    """The folder `schemas` with ID.avsc files beside the packets, where there is one."""
    for path in paths:
        for folder in ((path if path.is_dir() else path.parent) / "schemas", path / "schemas"):
            if any(folder.glob("[0-9]*.avsc")):
                return folder
    return None


def configure(survey: str, folder: Path, bootstrap: str, schemas: Path | None) -> Path:
    """Write the configuration of a survey's demonstration, configs/demo.yaml made concrete; its path."""
    kafka = {"bootstrap.servers": bootstrap}
    document: dict[str, Any] = yaml.safe_load(shipped("demo").read_text())
    document |= {"stream": f"demo-{survey}", "survey": survey}
    document["source"] |= {"kafka": kafka, "topics": [f"{survey}_demo"]}
    # The embedded Kafka is right about where a topic ends only if every batch has one message.
    document["publish"] |= {"kafka": {**kafka, **PRODUCER}}
    document["archive"] |= {"uri": str(folder / "archive")}
    document["database"] |= {"url": f"sqlite:///{folder / 'rayfinch.db'}"}
    if schemas is not None:
        document["source"]["schemas"] = str(schemas)
    path = folder / f"{survey}.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def prepare(packets: Mapping[str, Packets], folder: Path, bootstrap: str, schemas: Path | None) -> list[Show]:
    """A show for each survey, its topic made."""
    from rayfinch.embedded import create_topic

    folder.mkdir(parents=True, exist_ok=True)
    shows = []
    for survey, of_survey in packets.items():
        config = configure(survey, folder, bootstrap, schemas)
        show = Show(load(config), config, of_survey)
        create_topic(bootstrap, show.topic, 4)
        shows.append(show)
    return shows


def replay_all(shows: Sequence[Show], bootstrap: str, rate: float | None, schemas: Path | None) -> None:
    """Send every show's packets to its topic, all at once, each at `rate` a second."""
    from rayfinch.replay import Sent, messages, replay

    def send(show: Show) -> None:
        def tell(sent: Sent) -> None:
            show.sent = sent.messages

        try:
            replay(
                messages((packet for _, packet in show.packets), schemas=schemas),
                bootstrap,
                show.topic,
                rate=rate,
                partitions=4,
                progress=tell,
            )
        except Exception as error:
            show.failure = f"the replay failed: {error}"

    for show in shows:
        threading.Thread(target=send, args=(show,), daemon=True).start()


def run_all(
    shows: Sequence[Show],
    stop: threading.Event,
    begin: Callable[[], None],
    tick: Callable[[], None],
) -> None:
    """Run every show's stream, side by side, until all that was sent is settled, or `stop`.

    `begin()` is called once the streams run; it starts what they are to work on. `tick()` is called a few
    times a second. Failures end up in the shows.
    """
    from rayfinch.wiring import start

    def run(show: Show, loop: Any) -> None:
        try:
            loop.run()
        except Exception as error:
            show.failure = f"the stream failed: {error}"

    def teller(show: Show) -> Callable[[Any, dict[str, Any]], None]:
        return lambda plan, outcome: show.report.add(outcome)

    loops = [start(show.settings, teller(show)) for show in shows]
    threads = [
        threading.Thread(target=run, args=pair, daemon=True) for pair in zip(shows, loops, strict=True)
    ]
    for thread in threads:
        thread.start()
    begin()
    while not stop.is_set() and not all(show.finished for show in shows):
        tick()
        time.sleep(0.2)
    for loop in loops:
        loop.stop.set()
    for thread in threads:
        thread.join(60)
    tick()


def published(show: Show) -> dict[str, int]:
    """How many records each of our topics holds, as a consumer finds them."""
    from confluent_kafka import Consumer, KafkaError, TopicPartition

    settings = show.settings
    prefix = f"{settings.publish.prefix}.{settings.survey}."
    consumer = Consumer(
        {
            "bootstrap.servers": settings.publish.kafka["bootstrap.servers"],
            "group.id": "rayfinch-demo",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    topics = consumer.list_topics(timeout=10).topics
    places = [TopicPartition(t, p, 0) for t in topics if t.startswith(prefix) for p in topics[t].partitions]
    consumer.assign(places)
    counts: Counter[str] = Counter()
    left = len(places)
    while left:
        messages = consumer.consume(500, timeout=10)
        if not messages:
            break  # it has gone silent; what was found is shown
        for message in messages:
            error = message.error()
            if error is None:
                counts[str(message.topic())] += 1
            elif error.code() == KafkaError._PARTITION_EOF:
                left -= 1
    consumer.close()
    return dict(sorted(counts.items()))
