"""`rayfinch doctor`: what is missing, and how to mend it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rayfinch.checks import Check


def doctor(
    config: Annotated[
        Path | None, typer.Argument(help="A deployment whose Kafkas, database … are looked at, too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Look at this machine and, with CONFIG, at what that deployment needs. Changes nothing.

    Exit status 1 when something fails. Example: rayfinch doctor configs/ztf.yaml
    """
    from dataclasses import asdict

    checks = []
    for check in _checks(config):
        checks.append(check)
        if not as_json:
            print(_line(check), flush=True)
    failed = sum(c.state == "failure" for c in checks)
    if as_json:
        print(json.dumps({"ok": not failed, "checks": [asdict(c) for c in checks]}))
    else:
        warned = sum(c.state == "warning" for c in checks)
        print(
            f"{len(checks)} checks: {failed} failed, {warned} to think about"
            if failed or warned
            else "all is well"
        )
    if failed:
        raise typer.Exit(1)


def _checks(config: Path | None) -> Iterator[Check]:
    from rayfinch import machine
    from rayfinch.checks import failure, ok
    from rayfinch.config import ConfigError, load

    yield from machine.examine()
    if config is None:
        return
    try:
        settings = load(config)
    except ConfigError as error:
        yield failure("config", str(error), "mend the file: rayfinch config check lists every problem")
        return
    yield ok("config", str(config))

    from rayfinch import deployment

    yield from deployment.examine(settings)


def _line(check: Check) -> str:
    mark = {"ok": "ok  ", "warning": "warn", "failure": "FAIL"}[check.state]
    line = f"{mark}  {check.name:<16}  {check.found}"
    return f"{line}\n{'':24}-> {check.mend}" if check.mend else line
