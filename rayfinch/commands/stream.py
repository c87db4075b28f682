"""`rayfinch stream`: run a stream until it is told to stop."""

from __future__ import annotations

import json
import logging
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer


def stream(
    config: Annotated[Path, typer.Argument(help="The deployment's configuration, such as configs/ztf.yaml.")],
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="Stop once all that the source holds now is committed.")
    ] = False,
    wait: Annotated[
        bool, typer.Option(help="Wait while another driver holds the stream; else end with an error.")
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="One line of JSON a batch, and one with the totals at the end.")
    ] = False,
) -> None:
    """Read the survey's packets, classify, archive and publish them, batch by batch, exactly once.

    Runs until SIGTERM or Ctrl-C, which finish what is in flight. Start it again after anything else, kill -9
    included: it goes on where it was.

    Examples:

      rayfinch stream configs/ztf.yaml

      ray job submit --working-dir . -- python -m rayfinch stream configs/ztf.yaml
    """
    from rayfinch.config import load
    from rayfinch.report import Report
    from rayfinch.wiring import drained_by_signals, start

    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for noisy in ("ray", "ray.serve", "ray.data", "alembic", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    report = Report()

    def tell(plan: Any, outcome: dict[str, Any]) -> None:
        report.add(outcome)
        if as_json:
            print(json.dumps({"batch": plan.batch, **outcome}), flush=True)
        else:
            print(line(plan.batch, outcome), file=sys.stderr, flush=True)

    loop = start(load(config), tell)
    if until_idle:

        def stop_when_idle() -> None:
            loop.idle.wait()
            loop.stop.set()

        threading.Thread(target=stop_when_idle, daemon=True).start()
    with drained_by_signals(loop):
        loop.run(wait=wait)
    if as_json:
        print(json.dumps({"total": report.as_json()}), flush=True)
    else:
        print(f"drained: {report.batches} batches, {report.counts['alerts']} alerts", file=sys.stderr)


def line(batch: int, outcome: dict[str, Any]) -> str:
    """A batch in one line."""
    counts = outcome["counts"]
    parts = [f"batch {batch}: {counts['alerts']} alerts"]
    parts += [
        f"{counts[name]} {word}"
        for name, word in (
            ("resent", "resent"),
            ("dead_letters", "dead letters"),
            ("gap_offsets", "offsets gone"),
        )
        if counts.get(name)
    ]
    if latency := outcome.get("latency_ms"):
        parts.append(f"latency p50 {latency['p50'] / 1e3:.2f} s, max {latency['max'] / 1e3:.2f} s")
    if outcome.get("attempt", 1) > 1:
        parts.append(f"attempt {outcome['attempt']}")
    return ", ".join(parts)
