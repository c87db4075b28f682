"""Watch the survey's topics come, go and come again under another id; raise each alarm once."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping

from broker.database.ledger import Ledger
from broker.stream.plan import DEAD_LETTERS, Range
from broker.stream.planning import Key
from broker.stream.source import SourceError

log = logging.getLogger("rayfinch.stream")

RECREATED = "the topic was deleted and made again before these offsets were read"
VANISHED = "the topic is gone"


class TopicWatch:
    """Compares what the source has with what the stream has worked on.

    `vanished_s`: how long the topic of a planned range may be missing before its offsets are given up.
    """

    def __init__(self, ledger: Ledger, vanished_s: float) -> None:
        self._ledger = ledger
        self._vanished_s = vanished_s
        self._told: set[tuple[str, str]] = set()
        self._missing_since: dict[str, float] = {}

    def look(self, present: Mapping[str, str], planned: Mapping[Key, int]) -> None:
        """Raise an alarm for each topic that vanished or was recreated since it was worked on."""
        if not present:
            self._tell("no_topics", "", "no topic of the source matches: the stream waits")
        else:
            self._told.discard(("no_topics", ""))
        for topic, topic_id in {(t, i) for t, i, _ in planned if t != DEAD_LETTERS}:
            if topic not in present:
                self._tell("topic_vanished", topic, f"topic {topic} is gone from the source")
            elif present[topic] != topic_id:
                self._tell(
                    "topic_recreated",
                    f"{topic} {topic_id}",
                    f"topic {topic} was recreated: its new id {present[topic]} starts at offset 0",
                )
            else:
                self._told.discard(("topic_vanished", topic))

    def lost(self, ranges: Iterable[Range], present: Mapping[str, str]) -> dict[tuple[str, str], str]:
        """The planned topics that can't be read any more, with the reason.

        Raises SourceError for a topic that is missing but may come back (a cluster that restarts).
        """
        lost = {}
        for r in ranges:
            if r.topic == DEAD_LETTERS:
                continue
            if r.topic in present:
                self._missing_since.pop(r.topic, None)
                if present[r.topic] != r.topic_id:
                    lost[r.topic, r.topic_id] = RECREATED
                continue
            since = self._missing_since.setdefault(r.topic, time.monotonic())
            self._tell("topic_vanished", r.topic, f"topic {r.topic} is gone from the source")
            if time.monotonic() - since < self._vanished_s:
                raise SourceError(f"topic {r.topic} is gone while a batch of it is planned: waiting for it")
            lost[r.topic, r.topic_id] = VANISHED
        return lost

    def _tell(self, kind: str, what: str, message: str) -> None:
        if (kind, what) in self._told:
            return
        self._told.add((kind, what))
        log.warning(message)
        self._ledger.event(kind, message, {"topic": what})
