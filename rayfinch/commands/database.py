"""`rayfinch database`: the tables' version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sqlalchemy import Engine

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look after the database's tables.")

Config = Annotated[Path | None, typer.Option("--config", help="The deployment's YAML file.")]
Url = Annotated[str | None, typer.Option("--database", help="The database's URL, instead of a --config.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


@app.callback()
def database() -> None:
    """Look after the database's tables."""


@app.command()
def upgrade(config: Config = None, database: Url = None, as_json: Json = False) -> None:
    """Make the tables, or bring them up to date. Every command that needs them does it by itself.

    Example: rayfinch database upgrade --config configs/ztf.yaml
    """
    from broker.database.engine import connect, reading, revision
    from broker.database.engine import upgrade as migrate

    url, _ = located(config, database)
    engine = connect(url, migrate=False)
    changed = migrate(engine)
    with reading(engine) as db:
        at = revision(db)
    if as_json:
        print(json.dumps({"revision": at, "changed": changed}))
    else:
        print(f"at revision {at}" + ("" if changed else ": nothing to do"))


def located(config: Path | None, url: str | None) -> tuple[str, str | None]:
    """The database's URL and, where a configuration names it, the stream. One of the two is needed."""
    if (config is None) == (url is None):
        raise typer.BadParameter("name the database: either --config CONFIG or --database URL")
    if url is not None:
        return url, None
    from rayfinch.config import load

    assert config is not None
    settings = load(config)
    return settings.database.url, settings.stream


def opened(config: Path | None, url: str | None) -> tuple[Engine, str | None]:
    """The database that is there already, and the configuration's stream."""
    from broker.database.engine import DatabaseError, connect

    found, stream = located(config, url)
    file = found.removeprefix("sqlite:///").partition("?")[0]
    if file != found and not Path(file).exists():
        raise DatabaseError(f"there is no database {file}: the first `rayfinch stream` makes it")
    return connect(found), stream
