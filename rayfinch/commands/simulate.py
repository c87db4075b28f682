"""`rayfinch simulate`: packets of a made-up sky, with the truth in a side file."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from training.simulation import Simulated


def simulate(
    out: Annotated[Path | None, typer.Option(help="A new folder, or a .tar.gz or .parquet file.")] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA", help="Write nothing: tell how unlike the real alerts of a folder they are."
        ),
    ] = None,
    alerts: Annotated[int, typer.Option(help="How many alerts.", min=1)] = 500,
    seed: Annotated[int, typer.Option(help="The same seed gives the same packets.", min=0)] = 0,
    survey: Annotated[str, typer.Option(help="Whose alerts: ztf, lsst.")] = "ztf",
    schemas: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="For lsst: its published schemas, as ID.avsc files.")
    ] = None,
    schema_id: Annotated[
        int | None, typer.Option(help="For lsst: which of them. Default: the greatest id.", min=0)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make packets of a made-up sky: asteroids, supernovae, active nuclei, variable stars and artefacts.

    Cutouts, light curves and columns agree with one another, and look like the survey's. What is really there
    is told in truth.jsonl in the folder, or in NAME.truth.jsonl beside NAME.tar.gz: one line
    an alert.

    A .parquet file holds the alerts decoded, with their class as `label`: what `rayfinch train` and `rayfinch
    evaluate` read.

    They are ZTF's, or with --survey lsst LSST's, as they travel on Kafka: the same targets, further away.

    With --check a classifier tries to tell them from real ones (DATA has stamps/, as for `rayfinch train`):
    an area of .5 under its ROC curve says that it cannot, 1 that it always can.

    Examples:

    rayfinch simulate --alerts 1000 --seed 7 --out simulated.tar.gz

    rayfinch simulate --alerts 20000 --out sky.parquet

    rayfinch simulate --survey lsst --schemas ../shared/data/lsst/schemas --schema-id 900 --out night

    rayfinch simulate --check ../shared/data --alerts 2000
    """
    if (out is None) == (check is None):
        raise typer.BadParameter("give either --out, to write packets, or --check, to judge them")
    if survey not in ("ztf", "lsst"):
        raise typer.BadParameter(f"{survey}: the surveys are ztf and lsst", param_hint="--survey")
    if survey == "ztf" and (schemas is not None or schema_id is not None):
        raise typer.BadParameter("--schemas and --schema-id are for --survey lsst; ZTF's schema is known")
    if survey == "lsst" and check is not None:
        raise typer.BadParameter("--check compares with real ZTF alerts; leave out --survey")
    if check is not None:
        _check(check, alerts, seed, as_json)
        return
    assert out is not None
    from rayfinch.progress import progress_bar
    from training.simulation import packets

    made = packets(alerts, seed) if survey == "ztf" else _lsst(alerts, seed, schemas, schema_id)
    ending = next((end for end in (".tar.gz", ".parquet") if out.name.endswith(end)), "")
    if out.is_file() if ending else out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise typer.BadParameter(f"{out} is there already; name a new folder or file", param_hint="--out")
    truth = out.with_name(out.name.removesuffix(ending) + ".truth.jsonl") if ending else out / "truth.jsonl"
    try:
        (out.parent if ending else out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"cannot make {out}: {error.strerror}", param_hint="--out") from error
    classes: Counter[str] = Counter()
    begin, size = time.perf_counter(), 0
    with (
        _kept(out, ending, survey, schemas) as keep,
        truth.open("w") as lines,
        progress_bar("simulated", alerts) as show,
    ):
        for done, one in enumerate(made, 1):
            keep(one)
            lines.write(json.dumps(one.truth) + "\n")
            classes[one.truth["class"]] += 1
            size += len(one.packet)
            show(done)
    result: dict[str, Any] = {"alerts": alerts, "seed": seed, "bytes": size, "classes": dict(classes)}
    result |= {"out": str(out), "truth": str(truth), "seconds": round(time.perf_counter() - begin, 2)}
    if as_json:
        typer.echo(json.dumps(result))
    else:
        told = ", ".join(f"{count} {name}" for name, count in classes.most_common())
        typer.echo(f"{alerts} packets ({size / 1e6:.1f} MB) in {out}: {told}\nthe truth is in {truth}")


def _kept(
    out: Path, ending: str, survey: str, schemas: Path | None
) -> AbstractContextManager[Callable[[Simulated], None]]:
    from broker.packets.registry import Folder
    from rayfinch import sinks

    if ending == ".parquet":
        return sinks.table(out, survey, Folder(schemas) if schemas else None)
    return (sinks.tarball if ending else sinks.folder)(out)


def _lsst(alerts: int, seed: int, folder: Path | None, schema_id: int | None) -> Iterator[Simulated]:
    from broker.packets.registry import Folder
    from broker.packets.survey import PacketError, SchemasUnavailable
    from training.simulation.lsst import packets
    from training.simulation.wire import WireSchema

    if folder is None:
        raise typer.BadParameter(
            "LSST alerts need the survey's published schemas: give the folder of their ID.avsc files",
            param_hint="--schemas",
        )
    try:
        source = Folder(folder)
        if schema_id is None:
            ids = [int(file.stem) for file in folder.glob("*.avsc") if file.stem.isdecimal()]
            if not ids:
                raise typer.BadParameter(f"{folder} has no ID.avsc file", param_hint="--schemas")
            schema_id = max(ids)
        return packets(alerts, seed, WireSchema.parsed(schema_id, source.schema(schema_id)))
    except (SchemasUnavailable, PacketError, ValueError) as error:
        raise typer.BadParameter(str(error), param_hint="--schemas") from None


def _check(data: Path, alerts: int, seed: int, as_json: bool) -> None:
    from rayfinch.config import RaySettings
    from rayfinch.progress import progress_bar
    from rayfinch.wiring import start_ray
    from training import dataset
    from training.simulated import simulated
    from training.simulation.check import Told, compared

    try:
        real = Told.of(dataset.stamps(data))
    except dataset.DatasetError as error:
        print(f"rayfinch: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    start_ray(RaySettings())
    parts: list[Told] = []
    with progress_bar("simulated", alerts) as show:
        for part in simulated(alerts, seed):
            parts.append(Told.of(part))
            show(sum(len(each.labels) for each in parts))
    found = {"data": str(data), "alerts": alerts, "seed": seed}
    found |= compared(real, Told.joined(parts), seed)
    typer.echo(json.dumps(found) if as_json else "\n".join(_lines(found)))


def _lines(found: dict[str, Any]) -> list[str]:
    """For people."""

    def told(area: list[float]) -> str:
        return "{:.3f} ({:.3f} to {:.3f})".format(*area)

    lines = [f"{'told apart by':28} area under the ROC curve (.5: not at all; 95 %)"]
    if "area" not in found:
        lines = [
            f"no class has enough objects among {found['alerts']} simulated alerts: ask for more of them"
        ]
    for name in ("area", "area_of_columns", "area_of_images"):
        if name in found:
            what = {"area": "everything", "area_of_columns": "columns", "area_of_images": "images"}[name]
            lines.append(f"{what:28} {told(found[name])}")
    for name, row in found["classes"].items():
        area = told(row["area"]) if "area" in row else "too few objects"
        lines.append(f"{name:28} {area}, {row['alerts']} alerts each")
    if "telling" in found:
        lines += ["", f"{'one number by itself':28} area  simulated ones are"]
        lines += [f"{row['name']:28} {row['area']:.3f} {row['simulated']}" for row in found["telling"]]
    return lines
