"""`rayfinch bench`: measure this installation on this machine."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from rayfinch.bench.kafka import Kafka
    from rayfinch.bench.sample import Sample
    from rayfinch.config import Settings

Measured = tuple[dict[str, Any], list[str]]

More = Annotated[list[Path] | None, typer.Argument(help="More paths for --packets.")]
Packets = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="PATH...", help="Packets of one survey: files, folders, tarballs. Default: simulated."
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(help="A configuration, whose places are replaced. Default: the survey's shipped one."),
]
Schemas = Annotated[
    Path | None,
    typer.Option(help="Folder of ID.avsc for LSST's wire packets. Default: `schemas` beside the packets."),
]
Data = Annotated[
    Path | None,
    typer.Option(help="Where archive, database and logs go, and stay. Default: a temporary folder."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the figures as one line of JSON.")]

app = typer.Typer(no_args_is_help=True, help="Measure a stream on this machine, and judge what it kept.")


@app.callback()
def bench() -> None:
    """Measure on this machine what Rayfinch promises."""


@app.command()
def stream(
    more: More = None,
    packets: Packets = None,
    alerts: Annotated[int, typer.Option(help="How many alerts, behind the warm-up.", min=1)] = 6000,
    rate: Annotated[
        str, typer.Option(help="Alerts a second; max: all are there when the clock starts.")
    ] = "max",
    burst: Annotated[
        int | None,
        typer.Option(help="So many alerts at one instant, and how long each waits; not with --rate.", min=1),
    ] = None,
    warm_up: Annotated[
        int | None,
        typer.Option(
            help="Alerts before those that count. Default: two batches, or half of a short run.",
            min=1,
        ),
    ] = None,
    bootstrap: Annotated[
        str | None, typer.Option(help="A Kafka that runs. Default: one is started, and ends with the run.")
    ] = None,
    config: Config = None,
    schemas: Schemas = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Run the stream of `rayfinch stream` on fresh alerts; measure rate, CPU, latency, memory; judge it.

    Exit status 1, and what is wrong on standard error, unless the `all` topics, the archive and the database
    hold exactly what was sent, each alert with every model's score. docs/benchmarks.md defines the figures.

    Examples:

      rayfinch bench stream

      rayfinch bench stream --packets ztf_public_20181128.tar.gz --alerts 20000 --rate max --json
    """
    from rayfinch.bench.stream import Asked, run

    if burst is not None and rate != "max":
        raise typer.BadParameter("give --rate or --burst, not both")
    asked = Asked(burst, "burst", warm_up) if burst else Asked(alerts, _rate(rate), warm_up)

    def measure(bench: Bench) -> Measured:
        return run(asked, bench.sample, bench.kafka, bench.config, bench.folder, _tell)

    def check(settings: Settings) -> None:
        asked.warm(settings)

    _measured(
        measure, check, [*(packets or []), *(more or [])], alerts, schemas, config, data, bootstrap, as_json
    )


@app.command()
def growth(
    more: More = None,
    packets: Packets = None,
    batches: Annotated[int, typer.Option(help="How many full batches, one after the other.", min=1)] = 500,
    config: Config = None,
    schemas: Schemas = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Run batch after batch into one archive and one database: whether rate, CPU or memory change.

    Compares the 20 batches from the tenth on with the last 20. The input is sent just ahead of the stream,
    and deleted behind it; the archive of 500 batches of 2,000 real packets takes 50 to 60 GB. Exit status as
    of `rayfinch bench stream`.

    Example: rayfinch bench growth --packets ztf_public_2023_2025.tar.gz --batches 500 --json
    """
    from rayfinch.bench.growth import enough, run

    def measure(bench: Bench) -> Measured:
        return run(batches, bench.sample, bench.kafka, bench.config, bench.folder, _tell)

    def check(settings: Settings) -> None:
        enough(batches)

    paths = [*(packets or []), *(more or [])]
    _measured(measure, check, paths, 1000, schemas, config, data, None, as_json)


@app.command()
def swap(
    more: More = None,
    packets: Packets = None,
    rate: Annotated[float, typer.Option(help="Alerts a second.", min=1)] = 200.0,
    every: Annotated[float, typer.Option(help="Seconds from one change to the next.", min=12)] = 15.0,
    config: Config = None,
    schemas: Schemas = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Promote, roll back and challenge while alerts flow: whether one goes without its score, or waits.

    Exit status 1 unless every alert has its champion's score, in the topics and in the archive.

    Example: rayfinch bench swap --rate 200 --json
    """
    from rayfinch.bench.swap import run

    def measure(bench: Bench) -> Measured:
        return run(rate, every, bench.sample, bench.kafka, bench.config, bench.folder, _tell)

    paths = [*(packets or []), *(more or [])]
    _measured(measure, lambda settings: None, paths, 1000, schemas, config, data, None, as_json)


@app.command()
def models(
    more: More = None,
    packets: Packets = None,
    config: Config = None,
    schemas: Schemas = None,
    as_json: Json = False,
) -> None:
    """Alerts a second that one core scores with each network, and with each of its forms.

    A form is a numerical format, or the members of an ensemble evaluated together, in passes of so many rows;
    `against_fp32` compares with plain fp32 at its own best size. The stream serves with the fastest form that
    agrees with plain fp32.

    Example: rayfinch bench models --packets ztf_public_20181128.tar.gz --json
    """
    from models.contract import open_model
    from rayfinch.bench.models import BLOCK, alerts, run
    from rayfinch.config import load, shipped
    from rayfinch.wiring import deployed

    sample = _gathered([*(packets or []), *(more or [])], schemas, BLOCK)
    served = deployed(load(config or shipped(sample.survey))).values()
    figures = run([open_model(m.folder / m.current()) for m in served], alerts(sample))
    if as_json:
        print(json.dumps(_rounded(figures)))
        return
    for model in _rounded(figures["models"]):
        print(f"{model['model']}@{model['version']}: {model['alerts_per_s']:.0f} alerts/s")
        for form in model.get("forms", []):
            mark = "*" if (form["form"], form["rows"]) == (model["serves"], model["rows"]) else " "
            odd = "" if form["agrees"] else "  (does not agree)"
            told = f"{form['rows_per_s']:>8.0f} rows/s  {form['against_fp32']:.2f} of fp32"
            print(f"{mark} {form['form']:>16} by {form['rows']:<4}{told}{odd}")


@dataclass(frozen=True)
class Bench:
    """What a benchmark runs on."""

    sample: Sample
    kafka: Kafka
    config: Path
    folder: Path


def _measured(
    measure: Callable[[Bench], Measured],
    check: Callable[[Settings], Any],
    paths: list[Path],
    most: int,
    schemas: Path | None,
    config: Path | None,
    data: Path | None,
    bootstrap: str | None,
    as_json: bool,
) -> None:
    """Gather packets, start a Kafka, measure, print; exit status 1 where what was kept is wrong."""
    from rayfinch.bench.kafka import opened
    from rayfinch.config import load, shipped

    sample = _gathered(paths, schemas, most)
    config = config or shipped(sample.survey)
    if (of := load(config).survey) != sample.survey:
        raise typer.BadParameter(f"{config} is a stream of {of}, the packets are of {sample.survey}")
    try:
        check(load(config))  # before a Kafka is started
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    folder = data or Path(tempfile.mkdtemp(prefix="rayfinch-bench-"))
    try:
        with opened(folder / "kafka", bootstrap) as kafka:
            _tell(f"Kafka: {kafka.what}")
            figures, wrong = measure(Bench(sample, kafka, config, folder))
    finally:
        if data is None:
            shutil.rmtree(folder, ignore_errors=True)
    for fault in wrong:
        _tell(f"WRONG: {fault}")
    _print(figures, exact=not wrong, as_json=as_json)
    if wrong:
        raise typer.Exit(1)


def _rate(text: str) -> float | Literal["max"]:
    if text == "max":
        return "max"
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 < rate < float("inf"):
        raise typer.BadParameter(f"--rate {text} is neither a number above 0 nor max")
    return rate


def _gathered(paths: list[Path], schemas: Path | None, most: int) -> Sample:
    from broker.packets.files import NoPackets
    from rayfinch.bench.sample import gathered

    try:
        found = gathered(paths, schemas, most)
    except NoPackets as error:
        raise typer.BadParameter(str(error), param_hint="--packets") from error
    left_out = f" ({found.left_out} are left out: undecodable, or twice there)" if found.left_out else ""
    _tell(f"{len(found.packets)} different packets of {found.survey}{left_out}")
    return found


def _print(figures: dict[str, Any], *, exact: bool, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**_rounded(figures), "exact": exact}))
        return
    for name, value in _rounded(figures).items():
        print(f"{name:>24}  {value}")
    print(f"{'exact':>24}  {'yes' if exact else 'NO'}")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return float(f"{value:.4g}") if isinstance(value, float) and abs(value) < 1e4 else value


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
