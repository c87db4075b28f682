"""Whether a change of versions costs an alert its score, or its time: made on a stream that runs at a rate.

Promotion, rollback, a challenger that cannot be loaded, one that raises on every tenth block, one that is
more than ten times as slow, and its end; each while alerts flow. What is changed is `aliases.json`, as the
reconciler changes it.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from broker.archive.archive import Archive
from models.contract import shipped, shipped_version
from models.folders import write_aliases
from models.golden import FILE as GOLDEN
from models.manifest import FILE, WEIGHTS
from rayfinch.bench.driver import Driver
from rayfinch.bench.fill import Input
from rayfinch.bench.held import judge
from rayfinch.bench.kafka import Kafka
from rayfinch.bench.sample import Sample
from rayfinch.bench.stream import placed
from rayfinch.bench.watch import Watch
from training.comparison import said

MODEL = "stamps"
SHIPPED, NEXT = "shipped", "next"
SLOW_S = 0.005  # an alert; `stamps` takes a quarter of a millisecond
SETTLE_S = 10.0  # behind a change, its alerts are looked at for so long


@dataclass(frozen=True)
class Change:
    """What the aliases become."""

    name: str
    aliases: Mapping[str, str]


CHANGES = (
    Change("promotion", {"champion": NEXT}),
    Change("rollback", {"champion": SHIPPED}),
    Change("corrupt challenger", {"champion": SHIPPED, "challenger": "broken"}),
    Change("raising challenger", {"champion": SHIPPED, "challenger": "raising"}),
    Change("slow challenger", {"champion": SHIPPED, "challenger": "slow"}),
    Change("no challenger", {"champion": SHIPPED}),
)


def run(
    rate: float,
    every_s: float,
    sample: Sample,
    kafka: Kafka,
    config: Path,
    folder: Path,
    tell: Callable[[str], None],
) -> tuple[dict[str, Any], list[str]]:
    """Make a change every `every_s` seconds; how long alerts waited, and what is wrong with what was kept."""
    models = versions(folder / "models")
    path, settings, topics = placed(sample, kafka, config, folder, models_dir=str(models))
    source, driver = Input(kafka, settings.source.topics[0]), Driver(path)
    watch = Watch(kafka.bootstrap, topics)
    warm = int(rate * 10)
    n = warm + int(rate * every_s * (len(CHANGES) + 1))
    alerts = sample.messages(n)
    made: list[float] = []

    def change() -> None:
        for one in CHANGES:
            time.sleep(every_s)
            tell(one.name)
            made.append(time.time())
            write_aliases(models / MODEL, one.aliases)

    try:
        driver.start()
        watch.start()
        source.pace((next(alerts) for _ in range(warm)), rate)
        driver.wait_for(warm)
        tell("warm: measuring")
        begin = time.time()
        threading.Thread(target=change, daemon=True, name="changes").start()
        source.pace(alerts, rate)
        driver.wait_for(n)
        watch.wait(n)
    finally:
        driver.stop()
    tell("judging what it has kept")
    wrong, places = judge(settings, source.sent.keys())
    sent = np.array([source.sent[i] for i in places.values()])
    waits = np.array([watch.readable.get(p, np.nan) for p in places]) - sent
    found = latencies(sent, waits, begin, made)
    shadows = archived(Archive(settings.archive.uri, settings.survey))
    if not shadows["scored"] or not shadows["failed"]:
        wrong.append(f"the raising challenger was to score and to fail in the shadow: {shadows}")
    return {"rate": rate, "alerts": n, **found, "shadow": shadows, "kafka": kafka.what}, wrong


def latencies(sent: np.ndarray, waits: np.ndarray, begin: float, made: list[float]) -> dict[str, Any]:
    """p99 and longest wait before the first change; the longest within SETTLE_S of each, and its excess."""
    quiet = waits[(sent >= begin) & (sent < made[0] - 1)]
    p99 = float(np.nanpercentile(quiet, 99))
    longest = {
        one.name: float(np.nanmax(waits[(sent >= at - 1) & (sent < at + SETTLE_S)]))
        for one, at in zip(CHANGES, made, strict=True)
    }
    return {
        "latency_p99_before_s": p99,
        "latency_max_before_s": float(np.nanmax(quiet)),
        "latency_max_s": longest,
        "excess_s": max(longest.values()) - p99,
    }


def archived(archive: Archive) -> dict[str, Any]:
    """How many alerts have a challenger's score, and how many why not."""
    table = archive.get(columns=["alert_id", "shadow"])
    found = said(table, "shadow", MODEL)
    return (
        {"scored": 0, "failed": {}}
        if found is None
        else {
            "scored": len(found.rows),
            "failed": dict(found.failed),
        }
    )


def versions(folder: Path) -> Path:
    """The shipped models, and of one of them a second version, a broken, a raising and a slow one."""
    shutil.copytree(shipped() / "lightcurve", folder / "lightcurve")
    own = shipped_version(MODEL)
    doubles = {"raising": {"every": 10}, "slow": {"seconds_per_alert": SLOW_S}}
    for version in (SHIPPED, NEXT, "broken", *doubles):
        target = folder / MODEL / version
        shutil.copytree(own, target)
        said_ = json.loads((target / FILE).read_text()) | {"version": version}
        if version in doubles:
            said_ |= {"architecture": "models.doubles:Faulty", "hyperparameters": doubles[version]}
            (target / GOLDEN).unlink()
        (target / FILE).write_text(json.dumps(said_))
    write_aliases(folder / MODEL, {"champion": SHIPPED})
    weights = folder / MODEL / "broken" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    return folder
