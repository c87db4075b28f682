"""`rayfinch config`: whether a configuration is right, and what it comes to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Check or show a configuration.")

File = Annotated[Path, typer.Argument(help="The deployment's YAML file.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


@app.command()
def check(config: File, as_json: Json = False) -> None:
    """Say what is wrong with a configuration, and where. Touches no network.

    Example: rayfinch config check configs/ztf.yaml
    """
    from rayfinch.config import ConfigError, load
    from rayfinch.kafka import unknown_settings

    try:
        problems = unknown_settings(load(config))
    except ConfigError as error:
        problems = list(error.problems)
    if as_json:
        found = [vars(problem) for problem in problems]
        print(json.dumps({"config": str(config), "ok": not problems, "problems": found}))
    else:
        for problem in problems:
            print(f"{config}: {problem}")
        if not problems:
            print(f"{config}: ok")
    if problems:
        raise typer.Exit(2)


@app.command()
def show(config: File, as_json: Json = False) -> None:
    """Print the effective configuration (defaults, file, environment), secrets masked.

    Example: RAYFINCH_BATCH__MAX_ALERTS=500 rayfinch config show configs/ztf.yaml
    """
    import yaml

    from rayfinch.config import load
    from rayfinch.masking import masked

    effective = masked(load(config).model_dump(mode="json"))
    print(json.dumps(effective) if as_json else yaml.safe_dump(effective, sort_keys=False).rstrip())
