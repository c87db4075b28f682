"""`rayfinch chaos`: kill what a stream stands on, one thing after another, and judge what it has kept."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

PACKETS = 300  # different simulated ones


def chaos(
    kills: Annotated[int, typer.Option(help="How many, in equal shares of the targets.", min=1)] = 20,
    targets: Annotated[
        str, typer.Option(help="Which, separated by commas; list: say what there are. Default: all.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Of the order, the moments and the dice.")] = 1,
    rate: Annotated[float, typer.Option(help="Alerts a second that flow all the while.", min=0.1)] = 10.0,
    packets: Annotated[
        list[Path] | None,
        typer.Option(help="Packets of one survey: files, folders, tarballs. Default: simulated."),
    ] = None,
    schemas: Annotated[
        Path | None, typer.Option(help="Folder of ID.avsc for LSST's wire packets. Default: beside them.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="A configuration, whose places are replaced. Default: the survey's shipped one."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Where the evidence goes, and stays: logs, archive, database. Default: nowhere."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one line of JSON.")] = False,
) -> None:
    """Kill what a stream stands on while packets flow, start it again as an operator would, and judge it.

    Starts two Kafkas (Apache Kafka by the script of $RAYFINCH_KAFKA) and a Ray of its own, and touches no
    other. Exit status 1, and what is wrong on standard error, where an alert is lost or doubled, the topics
    do not equal the archive, or the stream did not recover. Ctrl-C ends the strikes, and judges.

    Examples:

      rayfinch chaos --kills 10

      rayfinch chaos --kills 100 --targets driver,failpoint,own --seed 7 --data evidence --json
    """
    from broker.packets.files import NoPackets
    from rayfinch.bench.kafka import KafkaScriptError, script
    from rayfinch.bench.sample import gathered
    from rayfinch.chaos.campaign import Asked, run
    from rayfinch.chaos.strikes import impossible
    from rayfinch.chaos.targets import TARGETS, chosen, schedule
    from rayfinch.config import load, shipped

    if targets == "list":
        _list({name: target.what for name, target in TARGETS.items()}, as_json=as_json)
        return
    try:
        wanted = chosen(targets)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--targets") from error
    skipped = {name: reason for name in wanted if (reason := impossible(name))}
    wanted = [name for name in wanted if name not in skipped]
    for name, reason in skipped.items():
        _tell(f"{name} is left out: {reason}")
    if not wanted:
        raise typer.BadParameter("none of these can be struck here", param_hint="--targets")
    if (kafka := script()) is None:
        raise KafkaScriptError(
            "chaos needs an Apache Kafka: name a script `start DIR PORT` in RAYFINCH_KAFKA, and install Java"
        )
    try:
        sample = gathered(packets or [], schemas, PACKETS)
    except NoPackets as error:
        raise typer.BadParameter(str(error), param_hint="--packets") from error
    path = config or shipped(sample.survey)
    load(path)  # before anything is started
    asked = Asked(schedule(kills, wanted, seed), rate, os.cpu_count() or 1, skipped)
    folder = data or Path(tempfile.mkdtemp(prefix="rayfinch-chaos-"))
    _enough_by_signals(asked.enough)
    try:
        figures, wrong, slow = run(asked, sample, kafka, path, folder, _tell)
    finally:
        if data is None:
            shutil.rmtree(folder, ignore_errors=True)
    for sentence in slow:
        _tell(f"slow: {sentence}")
    for sentence in wrong:
        _tell(f"WRONG: {sentence}")
    _print({"seed": seed, **figures, "exact": not wrong}, as_json=as_json)
    if wrong:
        raise typer.Exit(1)


def _enough_by_signals(enough: threading.Event) -> None:
    """SIGTERM and Ctrl-C end the strikes, and what there is is judged; a second one ends all at once."""

    def stop(signum: int, frame: object) -> None:
        _tell("no more strikes")
        enough.set()
        for s in (signal.SIGTERM, signal.SIGINT):
            signal.signal(s, signal.default_int_handler)

    for s in (signal.SIGTERM, signal.SIGINT):
        signal.signal(s, stop)


def _list(what: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(what))
        return
    for name, text in what.items():
        print(f"{name:>12}  {text}")


def _print(figures: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_rounded(figures)))
        return
    for name, value in _rounded(figures).items():
        if isinstance(value, dict):
            value = "  ".join(f"{k} {v}" for k, v in value.items()) or "none"
        print(f"{name:>22}  {value}")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return round(value, 1) if isinstance(value, float) else value


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
