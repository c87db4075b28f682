"""What is published where: the rules that a deployment's configuration sets. Plain values: they travel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from broker.packets.schema import PUBLIC

Packet = Literal["full", "no-cutouts", "slim"]
Framing = Literal["plain", "fink"]

ALL = "all"
DEAD_LETTERS = "deadletters"
RESTRICTED = "restricted"
SCHEMAS = "schemas"
BATCHES = "batches"
_RESERVED = {ALL, DEAD_LETTERS, RESTRICTED}


@dataclass(frozen=True)
class TopicRule:
    """How alerts look in a topic.

    packet: `full` (the original datum and our fields after it), `no-cutouts` (the same without the stamps) or
        `slim` (a small record of our own, without history).
    framing: `plain` (key = object id) or `fink` (key = the schema's JSON, as fink-client expects it).
    """

    packet: Packet
    framing: Framing = "plain"

    def __post_init__(self) -> None:
        if self.packet not in get_args(Packet):
            raise ValueError(f"a topic's packet is {_one_of(Packet)}, not {self.packet!r}")
        if self.framing not in get_args(Framing):
            raise ValueError(f"a topic's framing is {_one_of(Framing)}, not {self.framing!r}")


def _one_of(choices: Any) -> str:
    return " or ".join(get_args(choices))


@dataclass(frozen=True)
class Outputs:
    """The topics of a deployment.

    prefix: begins every topic's name.
    threshold: an alert goes to its top class's topic where that class's probability is at least this;
        `thresholds` has others for single models.
    all, classes: rules of `<prefix>.<survey>.all` and `<prefix>.<survey>.<model>.<class>`; None: no topics.
    topics: rules of single topics, by name without the prefix (`ztf.stamps.sn`), `*` allowed; the first match
        wins. A restricted topic follows the rule of its public twin, unless it is named itself.
    partitions, replication: of topics that are made. topic_config: further settings of those that carry
        alerts or dead letters, such as retention.ms.
    """

    prefix: str = "rayfinch"
    threshold: float = 0.5
    thresholds: Mapping[str, float] = field(default_factory=dict)
    all: TopicRule | None = TopicRule("full")
    classes: TopicRule | None = TopicRule("slim")
    topics: Mapping[str, TopicRule] = field(default_factory=dict)
    partitions: int = 4
    replication: int = 1
    topic_config: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", self.prefix):
            raise ValueError(f"the topics' prefix {self.prefix!r} has characters that Kafka refuses")

    @property
    def schemas(self) -> str:
        """The compacted topic of output schemas: key = schema id, value = schema JSON."""
        return f"{self.prefix}.{SCHEMAS}"

    @property
    def batches(self) -> str:
        """The compacted topic of markers: key = stream, value = JSON of its last published batch."""
        return f"{self.prefix}.{BATCHES}"

    def dead_letters(self, survey: str) -> str:
        """The topic of a survey's packets that could not be decoded."""
        return f"{self.prefix}.{survey}.{DEAD_LETTERS}"

    def all_topic(self, survey: str, rights: str) -> str:
        """The topic of all alerts of a survey with these rights."""
        return self._topic(survey, rights, ALL)

    def class_topic(self, survey: str, rights: str, model: str, top_class: str) -> str:
        """The topic of alerts whose top class by this model is `top_class`."""
        name = word(model)
        if name in _RESERVED:
            raise ValueError(
                f"a model cannot be called {model!r}: its topics' names would be taken for others"
            )
        return self._topic(survey, rights, f"{name}.{word(top_class)}")

    def rule(self, topic: str) -> TopicRule | None:
        """The rule of a topic (a full name, public or restricted); None: nothing is published there."""
        name = topic.removeprefix(f"{self.prefix}.")
        survey, _, rest = name.partition(".")
        rest = rest.removeprefix(f"{RESTRICTED}.")
        for pattern, rule in self.topics.items():
            if fnmatchcase(name, pattern) or fnmatchcase(f"{survey}.{rest}", pattern):
                return rule
        return self.all if rest == ALL else self.classes

    def _topic(self, survey: str, rights: str, rest: str) -> str:
        restricted = "" if rights == PUBLIC else f"{RESTRICTED}."
        return f"{self.prefix}.{survey}.{restricted}{rest}"


def word(name: str) -> str:
    """A model's or class's name as a part of a topic's: lower case, [a-z0-9_-] only."""
    clean = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-")
    if not clean:
        raise ValueError(f"{name!r} has no letter or digit that a topic's name could have")
    return clean
