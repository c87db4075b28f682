"""`rayfinch packets`: look at packets in files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Look at alert packets in files.", no_args_is_help=True)


@app.callback()
def _packets() -> None:
    """Look at alert packets in files."""


@app.command()
def check(
    paths: Annotated[
        list[Path], typer.Argument(help="Packets: .avro and .wire files, folders of them, tarballs.")
    ],
    schemas: Annotated[
        Path | None, typer.Option(help="Folder of ID.avsc, for packets in Confluent's wire format.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Decode each packet by the fast path and by the reference, and compare the two field by field.

    Exit code 0: all decoded, none mismatched. 1: some were not. 2: no packets, or no folder of schemas.

    Example:

      rayfinch packets check ztf_public_20181128.tar.gz wire/ --schemas lsst/schemas --json
    """
    from broker.packets.check import Report
    from broker.packets.check import check as check_packets
    from broker.packets.files import NoPackets, read_packets
    from broker.packets.registry import Folder
    from broker.packets.survey import SchemasUnavailable
    from rayfinch.progress import progress_bar

    report = Report()
    try:
        source = Folder(schemas) if schemas else None
        with progress_bar("packets", None) as show:
            for report in check_packets(read_packets(paths), source):
                show(report.packets)
    except (NoPackets, SchemasUnavailable) as error:
        typer.echo(f"rayfinch packets check: {error}", err=True)
        raise typer.Exit(2) from None
    found = report.as_dict()
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        for key in ("packets", "decoded", "mismatched", "unreadable"):
            typer.echo(f"{key:>12}  {found[key]:,}")
        for title in ("surveys", "schemas", "counts", "mismatches", "reasons"):
            for name, what in found[title].items():
                typer.echo(f"{title:>12}  {name}  {what}")
    if not report.ok:
        raise typer.Exit(1)
