"""`rayfinch fuzz`: hostile packets of both surveys through the whole stream, each accounted for."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rayfinch.fuzz.packet import Base


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
        str | None, typer.Option(help="A Kafka that runs already. Default: one is started ($RAYFINCH_KAFKA).")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Keep everything here. Default: a temporary folder, removed afterwards."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")] = False,
) -> None:
    """Send mutated packets, healthy ones among them, through the stream as it is: from Kafka to Kafka.

    Bits, lengths, branches, counts, truncations, huge arrays, zip bombs, foreign schemas, headers, wire ids:
    see rayfinch/fuzz/mutations.py. The exit status is 0 when the stream neither crashed nor hung, no healthy
    packet was harmed, and every message became an alert or a dead letter with its reason.

    Examples:

      rayfinch fuzz --packets 1000 --seed 7

      rayfinch fuzz --packets 100000 --packets-from ztf_public_20181128.tar.gz lsst/wire.tar.gz --json
    """
    from rayfinch.bench.kafka import opened
    from rayfinch.fuzz import campaign
    from rayfinch.progress import progress_bar

    paths = [*(packets_from or []), *(more or [])]
    surveys = survey or ["ztf", "lsst"]
    if unknown := [s for s in surveys if s not in ("ztf", "lsst")]:
        raise typer.BadParameter(f"{', '.join(unknown)}: the surveys are ztf and lsst", param_hint="--survey")
    with tempfile.TemporaryDirectory(prefix="rayfinch-fuzz-") as temporary:
        folder = (data or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        results = []
        with opened(folder / "kafka", bootstrap) as kafka:
            for i, name in enumerate(surveys):
                share = packets // len(surveys) + (i < packets % len(surveys))
                if not share:
                    continue
                bases, schemas = _bases(name, paths, seed, folder)
                with progress_bar(
                    f"{name}: {share} mutated packets", share + share // campaign.NEIGHBOURS
                ) as show:
                    results.append(
                        campaign.run(name, bases, share, seed, folder / name, kafka, schemas, progress=show)
                    )
            what = kafka.what
    _tell(results, seed, what, as_json)
    if not all(result.good for result in results):
        raise typer.Exit(1)


def _bases(name: str, paths: list[Path], seed: int, folder: Path) -> tuple[list[Base], Path | None]:
    """Healthy packets of a survey, taken apart; and the folder of the schemas that they name by id."""
    from broker.packets.files import read_packets
    from broker.packets.registry import Folder
    from rayfinch.demo import by_survey, schemas_beside
    from rayfinch.fuzz import lsst
    from rayfinch.fuzz.packet import base

    schemas = schemas_beside(paths)
    if paths:
        found = by_survey(read_packets(paths), schemas).get(name)
        if found:
            step = -(-len(found) // _MOST_BASES)
            source = Folder(schemas) if schemas else None
            return [base(packet, source) for _, packet in found[::step]], schemas
    if name == "ztf":
        from training.simulation import packets

        return [base(simulated.packet, None) for simulated in packets(_MADE, seed)], None
    schemas = folder / "schemas"
    schemas.mkdir(exist_ok=True)
    (schemas / f"{lsst.SCHEMA_ID}.avsc").write_text(lsst.schema_json())
    return [base(packet, Folder(schemas)) for packet in lsst.packets(_MADE, seed)], schemas


_MADE = 40
_MOST_BASES = 200


def _tell(results: list, seed: int, kafka: str, as_json: bool) -> None:
    names = (
        "packets",
        "healthy",
        "decoded",
        "resent",
        "dead_letters",
        "crashes",
        "hangs",
        "neighbours_harmed",
    )
    total = {name: sum(getattr(r, name) for r in results) for name in names}
    if as_json:
        line = {
            **total,
            "accounted": all(r.accounted for r in results),
            "second_attempts": sum(r.second_attempts for r in results),
            "decoder_killed": sum(r.decoder_killed for r in results),
            "seed": seed,
            "kafka": kafka,
            "surveys": {r.survey: r.as_json() for r in results},
        }
        print(json.dumps(line))
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
        for fault in r.faults:
            print(f"  WRONG: {fault}", file=sys.stderr)
