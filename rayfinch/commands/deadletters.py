"""`rayfinch deadletters`: packets that could not be decoded, and why; and having them tried again."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from rayfinch.commands.database import Config, Json, Url, opened

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Packets that could not be decoded.")

Stream = Annotated[str | None, typer.Option("--stream", help="Only of this stream.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Only for reasons like this (SQL's LIKE).")]


@app.command("list")
def list_(
    config: Config = None,
    database: Url = None,
    stream: Stream = None,
    reason: Reason = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that were recovered by a retry.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the oldest first.")] = 1000,
    as_json: Json = False,
) -> None:
    """List the packets that could not be decoded: number, state, place, size and reason.

    Example: rayfinch deadletters list --config configs/ztf.yaml --reason '%magic%'
    """
    from broker.database.deadletters import STATES, search

    engine, configured = opened(config, database)
    states = STATES if everything else STATES[:3]
    rows = search(engine, stream=stream or configured, states=states, reason=reason, limit=limit)
    if as_json:
        print(json.dumps([_json(row) for row in rows]))
        return
    for row in rows:
        print(f"{row['id']:>6}  {row['state']:<9}  {_place(row)}  {row['bytes']:>8} bytes  {row['reason']}")
    if not rows:
        print("no dead letters", file=sys.stderr)


@app.command()
def show(
    row: Annotated[int, typer.Argument(metavar="ID", help="The dead letter's number.")],
    config: Config = None,
    database: Url = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the packet to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Say why a packet could not be decoded and where it stood; with --out write its bytes to a file.

    Example: rayfinch deadletters show 17 --config configs/ztf.yaml --out packet.avro
    """
    from broker.database.deadletters import NoDeadLetter, read

    engine, _ = opened(config, database)
    try:
        letter, packet = read(engine, row)
    except NoDeadLetter as error:
        raise typer.BadParameter(str(error)) from None
    if out is not None:
        out.write_bytes(packet)
    if as_json:
        print(json.dumps({**_json(letter), "out": str(out) if out else None}))
        return
    print(f"dead letter {row} of the stream {letter['stream']}: {letter['state']}")
    print(f"reason   {letter['reason']}")
    print(f"place    {_place(letter)}")
    print(f"sent     {_time(letter['kafka_timestamp'], 1e3)}")
    print(f"found    {_time(letter['recorded_at'])}, in batch {letter['batch']}")
    print(f"packet   {letter['bytes']} bytes, {packet[:8].hex(' ')} ..." + (f", in {out}" if out else ""))


@app.command()
def retry(
    rows: Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Their numbers.")] = None,
    config: Config = None,
    database: Url = None,
    stream: Stream = None,
    everything: Annotated[bool, typer.Option("--all", help="Every one that is dead now.")] = False,
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Have packets tried again by the stream that found them, as after a decoder was mended.

    A running stream takes them with its next batch, another one when it starts.

    Example: rayfinch deadletters retry --reason '%schema%' --config configs/ztf.yaml
    """
    from broker.database import deadletters

    if sum((bool(rows), everything, reason is not None)) != 1:
        raise typer.BadParameter("say which ones: their numbers, --reason LIKE, or --all")
    engine, configured = opened(config, database)
    of = stream or configured
    wanted = rows or [r["id"] for r in deadletters.search(engine, stream=of, states=["dead"], reason=reason)]
    asked = deadletters.retry(engine, wanted, of)
    if as_json:
        print(json.dumps({"wanted": len(wanted), "asked": asked}))
    else:
        left = f"; {len(wanted) - asked} are not dead (any more)" if asked < len(wanted) else ""
        print(f"{asked} will be tried again{left}")
    if rows and not asked:
        raise typer.Exit(2)


def _place(row: dict[str, Any]) -> str:
    return f"{row['topic']}[{row['partition']}]@{row['offset']}"


def _time(since: float | None, per_second: float = 1.0) -> str:
    if since is None:
        return "-"
    return datetime.fromtimestamp(since / per_second, UTC).isoformat(sep=" ", timespec="seconds")


def _json(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its times as text."""
    times = {"recorded_at": _time(row["recorded_at"]), "kafka_timestamp": _time(row["kafka_timestamp"], 1e3)}
    return {**row, **times}
