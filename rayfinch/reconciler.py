"""Keeps the models' folders as the registry's aliases say, beside a running stream.

A process of its own, which ends with the stream's driver: MLflow takes a second and 100 MB to import, and a
registry that does not answer for a while must hold nobody up.
"""

from __future__ import annotations

import json
import logging
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from models.contract import shipped
from models.folders import Source, sync
from models.manifest import ModelError
from rayfinch.config import Settings

log = logging.getLogger("rayfinch.models")

FIRST_S = 30.0  # how long a stream that starts waits for the registry; then what the folders hold serves
SYNCED = "synced"


def start(settings: Settings) -> subprocess.Popen[str] | None:
    """Start it where the configuration names a registry, and wait until it has looked once.

    Returns None where there is no registry.
    """
    folder = settings.models_folder
    if settings.registry is None or folder is None:
        return None
    if settings.models_dir is None:
        ship(folder, [model.name for model in settings.models])
    said = {
        "uri": settings.registry.uri,
        "folder": str(folder.absolute()),
        "names": [model.name for model in settings.models],
        "poll_s": settings.registry.poll_s,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "rayfinch.reconciler", json.dumps(said)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], FIRST_S)
    if not ready or process.stdout.readline().strip() != SYNCED:
        log.warning("the registry %s does not answer: the versions in %s serve", said["uri"], folder)
    return process


def ship(folder: Path, names: list[str]) -> None:
    """Put the versions that come with Rayfinch beside the registry's: they serve until it has a champion."""
    for name in names:
        for version in (shipped() / name).glob("*/model.json"):
            target = folder / name / version.parent.name
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=target.parent, prefix=".shipping-") as room:
                    os.replace(shutil.copytree(version.parent, Path(room, "version")), target)


def follow(
    registry: Callable[[], Source], names: list[str], folder: Path, poll_s: float, parent: int
) -> None:
    """Sync again and again, for as long as this process has that parent. Each new problem is told once."""
    told: set[str] = set()
    first = True
    while os.getppid() == parent:
        problems: set[str] = set()
        for name in names:
            try:
                [synced] = sync(registry(), [name], folder)
                problems |= set(synced.problems)
            except (ModelError, OSError) as error:
                problems.add(f"{name}: {error}")
            except Exception as error:  # MLflow's and its database's own
                problems.add(f"{name}: {type(error).__name__}: {error}")
        for problem in sorted(problems - told):
            log.warning("the registry: %s", problem)
        told = problems
        if first:
            print(SYNCED, flush=True)
            first = False
        time.sleep(poll_s)


def main() -> None:
    parent = os.getppid()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    said = json.loads(sys.argv[1])
    from models.registry import Registry

    registry = Registry(said["uri"])
    follow(lambda: registry, said["names"], Path(said["folder"]), said["poll_s"], parent)


if __name__ == "__main__":
    main()
