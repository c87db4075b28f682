"""A distribution of somebody else's, installed as pip would."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path


def install(site: Path, name: str, version: str, source: str, models: Mapping[str, str]) -> None:
    """Put a module `name` and its metadata into `site`, in place of the release that was there.

    models: what it announces as `rayfinch.models`.
    """
    for left in site.glob(f"{name}-*.dist-info"):
        shutil.rmtree(left)
    shutil.rmtree(
        site / "__pycache__", ignore_errors=True
    )  # of sources of one second, one may count as another
    (site / f"{name}.py").write_text(source)
    about = site / f"{name}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{key} = {value}\n" for key, value in models.items()]
    (about / "entry_points.txt").write_text("[rayfinch.models]\n" + "".join(lines))
