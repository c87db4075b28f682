"""`rayfinch status`: what a stream is doing, and what went wrong."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

SHOWN_BATCHES = 8
SHOWN_EVENTS = 8


def status(
    config: Annotated[Path, typer.Argument(help="The deployment's configuration, such as configs/ztf.yaml.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document; with --watch one a line, look by look.")
    ] = False,
    watch: Annotated[
        float | None, typer.Option(min=0.1, metavar="SECONDS", help="Look again so often, until Ctrl-C.")
    ] = None,
) -> None:
    """Show a stream's driver, lag, rates, recent batches, dead letters, gaps and alarms. It changes nothing.

    Example: rayfinch status configs/ztf.yaml --watch 2
    """
    from rayfinch.config import load
    from rayfinch.status import book, look, source

    settings = load(config)
    engine, kafka = book(settings.database.url), source(settings)
    if watch is None:
        found = look(settings, engine, kafka)
        _print(found, as_json)
        return
    try:
        if as_json:
            while True:
                _print(look(settings, engine, kafka), True)
                time.sleep(watch)
        from rich.live import Live

        with Live(table(look(settings, engine, kafka)), auto_refresh=False) as live:
            while True:
                time.sleep(watch)
                live.update(table(look(settings, engine, kafka)), refresh=True)
    except KeyboardInterrupt:
        return


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(found), flush=True)
        return
    from rich.console import Console

    Console().print(table(found))


def table(found: dict[str, Any]) -> Group:
    """A look as tables for the terminal; what is empty is left out."""
    from rich.console import Group
    from rich.text import Text

    models = ", ".join(f"{name} {version}" for name, version in sorted(found["models"].items())) or "none"
    totals, dead = found["totals"], found["dead_letters"]
    lines = [
        f"{found['stream']} ({found['survey']}): {_driver(found['driver'])}",
        f"models    {models}",
        f"total     {totals['alerts']} alerts of {totals['objects']} objects",
        f"archive   {_archive(found['archive'])}",
        f"source    {_source(found['source'])}",
    ]
    parts: list[Any] = [Text(line) for line in lines]
    if rows := found["source"]["partitions"]:
        cells = [(r["topic"], r["partition"], r["committed"], r["end"], r["lag"]) for r in rows]
        parts.append(_grid(("topic", "partition", "committed", "end", "lag"), cells))
    parts.append(
        _grid(("over", "batches", "alerts", "alerts/s", "latency p50", "max"), map(_rate, found["rates"]))
    )
    if found["batches"]:
        columns = ("batch", "state", "alerts", "of", "p50", "p99", "attempt", "stages (ms)")
        parts.append(_grid(columns, map(_batch, found["batches"][:SHOWN_BATCHES])))
    states = ", ".join(f"{n} {state}" for state, n in dead["states"].items())
    parts.append(Text(f"dead letters: {states or 'none'}"))
    parts += [Text(f"  {r['n']:>6}  {r['reason']}") for r in dead["reasons"]]
    parts.append(Text(f"gaps: {len(found['gaps']) or 'none'}"))
    parts += [
        Text(f"  {g['topic']}[{g['partition']}] {g['first']} to {g['end']}: {g['reason']}")
        for g in found["gaps"][:SHOWN_EVENTS]
    ]
    parts.append(Text(f"alarms: {len(found['events']) or 'none'}"))
    parts += [Text(f"  {e['at'][:19]}  {e['kind']}: {e['message']}") for e in found["events"][:SHOWN_EVENTS]]
    return Group(*parts)


def _driver(driver: dict[str, Any] | None) -> str:
    if driver is None:
        return "never started"
    if driver["owner"] is None:
        return "stopped"
    state = "driven by" if driver["alive"] else "its driver is gone:"
    return f"{state} {driver['owner']}, lease until {driver['until'][:19]}"


def _archive(archive: dict[str, Any]) -> str:
    if archive["error"]:
        return str(archive["error"])
    size = f"{archive['alerts']} alerts, {archive['bytes'] / 1e6:.1f} MB"
    return f"{size}, {archive['fragments']} fragments in {archive['uri']}"


def _source(source: dict[str, Any]) -> str:
    return str(source["error"] or f"{source['address']}, {source['lag']} behind")


def _rate(rate: dict[str, Any]) -> tuple[Any, ...]:
    latencies = (_seconds(rate["latency_p50_ms"]), _seconds(rate["latency_max_ms"]))
    return (
        f"{rate['minutes']} min",
        rate["batches"],
        rate["alerts"],
        f"{rate['alerts_per_s']:.2f}",
        *latencies,
    )


def _batch(row: dict[str, Any]) -> tuple[Any, ...]:
    latency = row["latency_ms"] or {}
    stages = " ".join(f"{name} {ms:.0f}" for name, ms in row["stages_ms"].items())
    quantiles = (_seconds(latency.get("p50")), _seconds(latency.get("p99")))
    return row["batch"], row["state"], row["alerts"], row["offsets"], *quantiles, row["attempt"], stages


def _seconds(ms: float | None) -> str | None:
    return None if ms is None else f"{ms / 1e3:.2f} s"


def _grid(columns: tuple[str, ...], rows: Any) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    grid = Table(box=SIMPLE, pad_edge=False)
    for name in columns:
        grid.add_column(name, overflow="fold")
    for row in rows:
        grid.add_row(*("-" if cell is None else str(cell) for cell in row))
    return grid
