"""What is struck, in which order and when; and how soon the stream has to go on. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from broker.stream.failpoint import POINTS


@dataclass(frozen=True)
class Target:
    """Something to strike. `bar_s`: what the median recovery may be, in seconds."""

    name: str
    what: str
    bar_s: float


TARGETS = {
    t.name: t
    for t in (
        Target("driver", "kill -9 of the driver at a random moment", 15),
        Target("failpoint", "kill -9 of the driver at a fail point, each in its turn", 15),
        Target("task", "kill -9 of a Ray Data task or of one that writes", 3),
        Target("replica", "kill -9 of a model's replica", 8),
        Target("controller", "kill -9 of the Serve controller", 10),
        Target("raylet", "kill -9 of the raylet", 40),
        Target("gcs", "kill -9 of the GCS", 40),
        Target("source", "kill -9 of the source's Kafka; counted from when it answers again", 10),
        Target("own", "kill -9 of our own Kafka; counted from when it answers again", 10),
        Target("stall", "SIGSTOP of the driver until its successor works, then SIGCONT", 25),
        Target("locked", "another program locks the database; counted from when it lets go", 10),
        Target("full", "no file can grow (RLIMIT_FSIZE); counted from when it can again", 15),
    )
}


@dataclass(frozen=True)
class Strike:
    """One kill. `pause_s`: how long the stream runs undisturbed before it. `luck`: 0 to 1, its own dice."""

    number: int
    target: str
    pause_s: float
    luck: float
    point: str = ""


def schedule(kills: int, targets: Sequence[str], seed: int) -> list[Strike]:
    """`kills` strikes on `targets` in equal shares (to within one), in random order.

    The fail points take turns. The same seed gives the same order, pauses and dice.
    """
    dice = random.Random(seed)
    points = cycle(dice.sample(POINTS, len(POINTS)))
    order = [targets[i % len(targets)] for i in range(kills)]
    dice.shuffle(order)
    return [
        Strike(i, name, dice.uniform(1, 4), dice.random(), next(points) if name == "failpoint" else "")
        for i, name in enumerate(order, 1)
    ]


def chosen(text: str) -> list[str]:
    """The targets of a comma-separated list, all for an empty one. Raises ValueError, naming all."""
    names = [name.strip() for name in text.split(",") if name.strip()] or list(TARGETS)
    if unknown := [name for name in names if name not in TARGETS]:
        raise ValueError(f"no target {unknown[0]!r}: there are {', '.join(TARGETS)}")
    return list(dict.fromkeys(names))
