"""`rayfinch fuzz`: hostile packets of both surveys through the whole stream, each accounted for."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rayfinch.fuzz.packet import Base
    from rayfinch.fuzz.result import Result

SURVEYS = ("ztf", "lsst")
_MADE = 40
_MOST_BASES = 200
_TELL_S = 15.0


def fuzz(
    more: Annotated[list[Path] | None, typer.Argument(help="More paths for --packets-from.")] = None,
    packets: Annotated[
        int, typer.Option(help="How many mutated packets, of all surveys together.", min=1)
    ] = 1000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same packets.")] = 1,
    packets_from: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH...",
            help="Healthy packets to mutate: files, folders, tarballs; those of LSST with `schemas` beside "
            "them. Default, for a survey of which there are none: simulated ones.",
        ),
    ] = None,
    survey: Annotated[
        list[str] | None, typer.Option(help="Only this survey: ztf, lsst; may be repeated.")
    ] = None,
    bootstrap: Annotated[
        str | None, typer.Option(help="A Kafka that runs. Default: one is started, and ends with the run.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Keep everything here. Default: a temporary folder, which stays where something is wrong."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")] = False,
) -> None:
    """Send mutated packets, healthy ones among them, through the stream as it is: from Kafka to Kafka.

    Bits, lengths, branches, counts, truncations, huge arrays, zip bombs, foreign schemas, headers, wire ids.
    Exit status 0: the stream neither crashed nor hung, no healthy packet was harmed, and every message became
    an alert or a dead letter with its reason. Otherwise 1, and files of the packets to look at are named.

    Examples:

      rayfinch fuzz --packets 1000 --seed 7

      rayfinch fuzz --packets 100000 --packets-from ztf_public_20181128.tar.gz lsst/wire.tar.gz --json
    """
    surveys = survey or list(SURVEYS)
    if unknown := [s for s in surveys if s not in SURVEYS]:
        raise typer.BadParameter(f"{', '.join(unknown)}: the surveys are ztf and lsst", param_hint="--survey")
    paths = [*(packets_from or []), *(more or [])]
    folder = (data or Path(tempfile.mkdtemp(prefix="rayfinch-fuzz-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    good = False
    try:
        results, kafka = _campaigns(surveys, packets, seed, paths, folder, bootstrap)
        _print(results, seed, kafka, as_json)
        good = all(result.good for result in results)
    finally:
        if data is None and good:
            shutil.rmtree(folder, ignore_errors=True)
    if not good:
        _tell(f"everything is kept in {folder}")
        raise typer.Exit(1)


def _campaigns(
    surveys: list[str], packets: int, seed: int, paths: list[Path], folder: Path, bootstrap: str | None
) -> tuple[list[Result], str]:
    from rayfinch.bench.kafka import opened
    from rayfinch.fuzz import campaign
    from rayfinch.fuzz.messages import Messages

    results = []
    with opened(folder / "kafka", bootstrap) as kafka:
        _tell(f"Kafka: {kafka.what}")
        for i, name in enumerate(surveys):
            if share := packets // len(surveys) + (i < packets % len(surveys)):
                bases, schemas = _bases(name, paths, seed, folder)
                sent = Messages(bases, share, seed)
                _tell(f"{name}: {share} mutated packets and {sent.healthy} healthy ones")
                with _progress(name, len(sent)) as show:
                    result = campaign.run(name, sent, folder / name, kafka, schemas, show)
                for fault in result.faults:
                    _tell(f"WRONG: {name}: {fault}")
                for evidence in result.evidence:
                    _tell(f"{name}: packets to look at are in {evidence}")
                results.append(result)
        return results, kafka.what


def _bases(name: str, paths: list[Path], seed: int, folder: Path) -> tuple[list[Base], Path | None]:
    """Healthy packets of a survey, taken apart; and the folder of the schemas that they name by id."""
    from broker.packets.files import read_packets
    from broker.packets.registry import Folder
    from rayfinch.demo import by_survey, schemas_beside
    from rayfinch.fuzz import lsst
    from rayfinch.fuzz.packet import base

    if paths:
        schemas = schemas_beside(paths)
        source = Folder(schemas) if schemas else None
        if found := by_survey(read_packets(paths), schemas).get(name):
            step = -(-len(found) // _MOST_BASES)
            return [base(packet, source) for _, packet in found[::step]], schemas
    if name == "ztf":
        from training.simulation import packets

        return [base(simulated.packet, None) for simulated in packets(_MADE, seed)], None
    schemas = folder / "schemas"
    schemas.mkdir(exist_ok=True)
    (schemas / f"{lsst.SCHEMA_ID}.avsc").write_text(lsst.schema_json())
    return [base(packet, Folder(schemas)) for packet in lsst.packets(_MADE, seed)], schemas


@contextmanager
def _progress(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; elsewhere a line now and then."""
    from rayfinch.progress import progress_bar

    begin = told = time.monotonic()
    with progress_bar(f"{name}: messages done with", total) as bar:

        def show(done: int) -> None:
            nonlocal told
            bar(done)
            now = time.monotonic()
            if not sys.stderr.isatty() and now - told > _TELL_S:
                told = now
                _tell(f"{name}: {done} of {total} messages done with after {now - begin:.0f} s")

        yield show


def _print(results: list[Result], seed: int, kafka: str, as_json: bool) -> None:
    from rayfinch.fuzz.result import added

    if as_json:
        print(json.dumps({**added(results), "seed": seed, "kafka": kafka}))
        return
    for r in results:
        print(
            f"{r.survey}: {r.packets} mutated packets and {r.healthy} healthy ones in {r.seconds:.0f} s: "
            f"{r.decoded} decoded, {r.dead_letters} dead letters, {r.resent} resent"
        )
        print(
            f"  crashes {r.crashes}, hangs {r.hangs}, neighbours harmed {r.neighbours_harmed}, "
            f"{'every message is accounted for' if r.accounted else 'NOT ALL ARE ACCOUNTED FOR'}"
        )


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
