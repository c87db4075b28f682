"""`rayfinch archive`: look into the archive, and keep it small and quick."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pyarrow as pa

    from broker.archive.archive import Archive

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Look into the archive, and look after it."
)

Config = Annotated[Path | None, typer.Option(help="The deployment's YAML file: says where the archive is.")]
Uri = Annotated[str | None, typer.Option("--archive", help="Where the archive is, instead of --config.")]
Survey = Annotated[str | None, typer.Option(help="The survey, with --archive: ztf, lsst, …")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output; 64-bit ids are strings.")]

SUMMARY = ("alert_id", "object_id", "mjd", "ra", "dec", "band", "flux", "flux_err", "rights", "packet_schema")


@app.command()
def get(
    alert_id: Annotated[list[int] | None, typer.Argument(metavar="ID", help="Alerts' ids.")] = None,
    object_id: Annotated[str | None, typer.Option("--object", help="All alerts of an object.")] = None,
    cone: Annotated[
        tuple[float, float, float] | None,
        typer.Option(metavar="RA DEC ARCSEC", help="All alerts around a place (degrees, degrees, arcsec)."),
    ] = None,
    where: Annotated[
        str | None, typer.Option(help='SQL over the columns: "mjd > 58450 and source.magpsf < 18".')
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many alerts.", min=1)] = 1000,
    config: Config = None,
    uri: Uri = None,
    survey: Survey = None,
    as_json: Json = False,
) -> None:
    """Print alerts: one a line, or with --json whole (stamps and packet by their lengths).

    Example: rayfinch archive get --object ZTF18acsovsw --config configs/ztf.yaml --json
    """
    if not alert_id and object_id is None and cone is None and where is None:
        raise typer.BadParameter("say which alerts: ID, --object, --cone or --where")
    archive = _archive(config, uri, survey)
    rows = archive.get(
        alert_ids=alert_id or None,
        object_id=object_id,
        cone=cone,
        where=where,
        columns=None if as_json else SUMMARY,
        limit=limit,
    ).sort_by("mjd")
    if as_json:
        print(json.dumps(_with_rescored(archive, rows)))
        return
    for row in rows.to_pylist():
        flux = "" if row["flux"] is None else f"{row['flux']:12.1f} ± {row['flux_err'] or 0:.1f} nJy"
        place = f"{row['ra']:10.6f} {row['dec']:+10.6f}"
        print(f"{row['alert_id']:20d} {row['object_id']:20s} {row['mjd']:12.5f} {place} {row['band']} {flux}")
    if not len(rows):
        typer.echo("no such alert", err=True)


@app.command()
def show(
    alert_id: Annotated[int, typer.Argument(metavar="ID", help="An alert's id.")],
    png: Annotated[Path, typer.Option(help="The picture to write.")],
    config: Config = None,
    uri: Uri = None,
    survey: Survey = None,
    as_json: Json = False,
) -> None:
    """Draw an alert's three cutouts and its light curve to a PNG.

    Example: rayfinch archive show 697251920415010000 --png alert.png --config configs/ztf.yaml
    """
    from rayfinch.drawing import draw

    rows = _archive(config, uri, survey).get(alert_ids=[alert_id], limit=1)
    if not len(rows):
        raise typer.BadParameter(f"the archive has no alert {alert_id}")
    draw(rows, png)
    row = _rows(rows.select(["alert_id", "object_id"]))[0]
    if as_json:
        print(json.dumps({**row, "png": str(png)}))
    else:
        print(f"alert {alert_id} of {row['object_id']}: {png}")


@app.command()
def stats(config: Config = None, uri: Uri = None, survey: Survey = None, as_json: Json = False) -> None:
    """Tell what the archive holds and how much room that takes.

    Example: rayfinch archive stats --config configs/ztf.yaml
    """
    found = _archive(config, uri, survey).stats()
    if as_json:
        print(json.dumps(found))
        return
    nights, indices = found["nights"], found["indices"]
    print(f"{found['alerts']} alerts of {nights['number']} nights, {found['bytes'] / 1e6:.1f} MB")
    if found["ratio"] is not None:
        packets = (
            f"{found['ratio']:.3f} of the {found['datum_bytes_per_alert']:.0f} bytes that their data had"
        )
        print(f"{found['bytes_per_alert']:.0f} bytes an alert, {packets}")
    print(f"{found['fragments']} fragments, {found['versions']} versions")
    print("indexed: " + (", ".join(f"{n} {rows}" for n, rows in indices.items()) or "nothing yet"))


@app.command()
def compact(config: Config = None, uri: Uri = None, survey: Survey = None, as_json: Json = False) -> None:
    """Join small fragments, bring the indices up to date and drop old versions; beside a stream, too.

    Example: rayfinch archive compact --config configs/ztf.yaml
    """
    done = _archive(config, uri, survey).compact()
    if as_json:
        print(json.dumps(done))
    else:
        became = f"{done['fragments_before']} fragments became {done['fragments']}"
        print(f"{became}; {done['versions']} versions are kept")


def plain(value: Any, kind: pa.DataType) -> Any:
    """A value as JSON has it: 64-bit integers as strings, whatever their size; bytes by their length."""
    import pyarrow as pa

    if value is None:
        return None
    if pa.types.is_struct(kind):
        return {field.name: plain(value[field.name], field.type) for field in kind}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [plain(inner, kind.value_type) for inner in value]
    if pa.types.is_int64(kind):
        return str(value)
    if isinstance(value, bytes):
        return {"bytes": len(value)}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if hasattr(value, "isoformat") else value


def _with_rescored(archive: Archive, alerts: pa.Table) -> list[dict[str, Any]]:
    """The alerts as JSON, with what other versions said of them later (`rayfinch rescore`)."""
    from broker.archive.rescored import Rescored

    later: dict[str, list[dict[str, Any]]] = {}
    kept = Rescored(archive.uri, archive.survey, archive.storage_options)
    for row in _rows(kept.get(alerts["alert_id"].to_pylist())) if len(alerts) else []:
        later.setdefault(row.pop("alert_id"), []).append(row)
    return [{**row, "rescored": later.get(row["alert_id"], [])} for row in _rows(alerts)]


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    return [{f.name: plain(row[f.name], f.type) for f in table.schema} for row in table.to_pylist()]


def _archive(config: Path | None, uri: str | None, survey: str | None) -> Archive:
    from broker.archive.archive import Archive

    if config is not None:
        if uri is not None or survey is not None:
            raise typer.BadParameter("give --config, or --archive and --survey, not both")
        from rayfinch.config import load

        settings = load(config)
        return Archive(settings.archive.uri, settings.survey, settings.archive.storage_options or None)
    if uri is None or survey is None:
        raise typer.BadParameter("say where the archive is: --config CONFIG, or --archive URI --survey NAME")
    return Archive(uri, survey)
