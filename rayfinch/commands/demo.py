"""`rayfinch demo`: everything at once, on this machine, with nothing else installed."""

from __future__ import annotations

import json
import logging
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from rayfinch.demo import Packets, Show


def demo(
    more: Annotated[list[Path] | None, typer.Argument(help="More paths for --packets.")] = None,
    packets: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH...", help="Real packets: files, folders, tarballs. Default: simulated ones."
        ),
    ] = None,
    alerts: Annotated[int, typer.Option(help="How many packets to simulate.", min=1)] = 600,
    rate: Annotated[
        float, typer.Option(help="Packets a second and survey; 0: as fast as can be.", min=0)
    ] = 100,
    schemas: Annotated[
        Path | None,
        typer.Option(
            help="Folder of ID.avsc for LSST's wire packets. Default: `schemas` beside the packets."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the simulated sky.")] = 1,
    data: Annotated[
        Path | None, typer.Option(help="Where archive and database go. Default: rayfinch-data/demo-TIME.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Start an embedded Kafka and Ray, replay packets, and run the stream on them.

    Shows what comes in and goes out; at the end classes, latencies, topics and where to look next.
    The exit status is 0 when every packet is archived and published, or accounted for.

    Examples:

      rayfinch demo

      rayfinch demo --packets ztf_public_20181128.tar.gz ztf_public_20200101.tar.gz
    """
    from rich.console import Console

    from rayfinch.demo import by_survey, prepare, published, replay_all, run_all, schemas_beside
    from rayfinch.embedded import EmbeddedKafka

    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("ray").setLevel(logging.ERROR)
    paths = [*(packets or []), *(more or [])]
    folder = data or Path("rayfinch-data") / datetime.now().strftime("demo-%Y%m%d-%H%M%S")
    schemas = schemas or schemas_beside(paths)
    out = Console(stderr=True)
    stop = threading.Event()

    with out.status("reading packets" if paths else f"simulating {alerts} packets"):
        found = by_survey(_packets(paths, alerts, seed), schemas)
    with out.status("starting the embedded Kafka"):
        kafka = EmbeddedKafka().start()
    try:
        shows = prepare(found, folder, kafka.bootstrap, schemas)
        with _live(out, shows) as tick:
            try:
                run_all(
                    shows,
                    stop,
                    lambda: replay_all(shows, kafka.bootstrap, rate or None, schemas),
                    tick,
                )
            except KeyboardInterrupt:
                stop.set()
        topics = {show.settings.survey: published(show) for show in shows}
    finally:
        kafka.stop()
    _tell(out, folder, shows, topics, as_json)
    if not all(show.failure is None and show.finished for show in shows):
        raise typer.Exit(1)


def _packets(paths: list[Path], alerts: int, seed: int) -> Packets:
    if paths:
        from broker.packets.files import read_packets

        return list(read_packets(paths))
    from training.simulation import packets

    return [(str(i), simulated.packet) for i, simulated in enumerate(packets(alerts, seed))]


def _live(out: Console, shows: list[Show]) -> Any:
    """A table that is drawn anew at each tick; nothing where standard error is no terminal."""
    from contextlib import contextmanager

    from rich.live import Live

    @contextmanager
    def live() -> Any:
        if not out.is_terminal:
            out.print("starting Ray and the models, then the stream (about 20 s) ...")
            yield lambda: None
            return
        with Live(_table(shows), console=out, refresh_per_second=4) as drawn:
            yield lambda: drawn.update(_table(shows))

    return live()


def _table(shows: list[Show]) -> Table:
    from rich.table import Table

    table = Table(
        "survey", "sent", "classified", "resent", "dead letters", "batches", "latency p50", "classes"
    )
    for show in shows:
        report = show.report
        p50 = report.latency_p50_ms
        tops = [f"{name} {n}" for c in report.classes.values() for name, n in c.most_common(3)]
        table.add_row(
            show.settings.survey,
            f"{show.sent}/{len(show.packets)}",
            *(str(report.counts[name]) for name in ("alerts", "resent", "dead_letters")),
            str(report.batches),
            "starting" if p50 is None else f"{p50 / 1e3:.2f} s",
            ", ".join(tops),
        )
    return table


def _tell(
    out: Console, folder: Path, shows: list[Show], topics: dict[str, dict[str, int]], as_json: bool
) -> None:
    """What came of it, and where to look next."""
    if as_json:
        result = {
            show.settings.survey: {
                "sent": show.sent,
                **show.report.as_json(),
                "topics": topics[show.settings.survey],
                "config": str(show.config),
                "failure": show.failure,
            }
            for show in shows
        }
        print(json.dumps(result))
        return
    for show in shows:
        report, survey = show.report, show.settings.survey
        print(
            f"\n{survey}: {show.sent} packets sent, {report.counts['alerts']} alerts classified and published"
        )
        for name in ("resent", "dead_letters", "gap_offsets", "restricted"):
            if report.counts[name]:
                print(f"  {name.replace('_', ' ')}: {report.counts[name]}")
        for model, tops in report.classes.items():
            print(f"  {model}: " + ", ".join(f"{name} {n}" for name, n in tops.most_common()))
        total = report.as_json()
        if total["latency_p50_ms"] is not None:
            print(
                f"  latency, Kafka to Kafka: median {total['latency_p50_ms'] / 1e3:.2f} s, "
                f"largest {total['latency_max_ms'] / 1e3:.2f} s"
            )
        print("  topics: " + ", ".join(f"{topic} {n}" for topic, n in topics[survey].items()))
        if show.failure:
            print(f"  FAILED: {show.failure}")
        print("\n  look next:")
        print(f"    rayfinch status {show.config}")
        print(f"    rayfinch archive stats --config {show.config}")
    print(f"\nEverything is kept in {folder}")
