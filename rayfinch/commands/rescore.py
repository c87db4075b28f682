"""`rayfinch rescore`: one version's scores of what is in the archive already."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def rescore(
    model: Annotated[
        str, typer.Option(metavar="FOLDER|NAME@VERSION", help="The version: a folder, or a registered one.")
    ],
    config: Annotated[
        Path, typer.Option("--config", help="The deployment's YAML file: its archive is read.")
    ],
    where: Annotated[
        str, typer.Option(help="SQL over the archive: \"mjd > 60000 and band = 'g'\".")
    ] = "true",
    actors: Annotated[int, typer.Option(help="How many processes hold the version.", min=1)] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="The counts as one line of JSON.")] = False,
) -> None:
    """Score archived alerts with a version, beside the scores that they have. The stream may run meanwhile.

    What was scored is kept every few seconds: run it again after a crash, and it goes on from there.
    `rayfinch archive get ID --json` shows the scores.

    Example: rayfinch rescore --model stamps@2 --where "mjd > 61000" --config my.yaml
    """
    from broker.archive.archive import Archive
    from rayfinch.config import load
    from rayfinch.registered import folders, opened
    from rayfinch.wiring import start_ray
    from serve import rescoring

    settings = load(config)
    archive = Archive(settings.archive.uri, settings.survey, settings.archive.storage_options or None)

    def told(done: int, of: int) -> None:
        print(f"{done} of {of} alerts", file=sys.stderr, flush=True)

    registry, _ = opened(config if settings.registry else None, None)
    with folders(registry, model) as [folder]:
        start_ray(settings.ray)
        counts = rescoring.rescore(archive, folder, where, actors, told)
    if as_json:
        print(json.dumps(counts))
    else:
        print(
            f"{counts['scored']} alerts scored, {counts['before']} of {counts['alerts']} were before, "
            f"{counts['failed']} without a score"
        )
