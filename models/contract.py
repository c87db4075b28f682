"""What a model is: one class, one folder, one method that scores a block of alerts."""

from __future__ import annotations

import importlib
import inspect
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import pyarrow as pa

from models.golden import check_golden
from models.manifest import ModelError, read_manifest

__all__ = [
    "ENTRY_POINTS",
    "Model",
    "ModelError",
    "brought",
    "named",
    "open_model",
    "scores",
    "shipped",
    "shipped_version",
]

# A distribution that brings an architecture of its own names its class here: `name = "package.module:Class"`.
ENTRY_POINTS = "rayfinch.models"


@runtime_checkable
class Model(Protocol):
    """One version of one model, loaded and ready.

    `inputs` are the column paths of the alert table that `score` reads ("cutouts", "history", "flux",
    "source.magpsf"); a `source.*` column that a survey's schema does not have counts as missing values.
    `precondition` is a SQL predicate over the alert table: the caller asks only about rows that fulfil it.
    """

    name: str
    version: str
    classes: tuple[str, ...]
    inputs: tuple[str, ...]
    precondition: str

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        """Read `model.json` and `weights.safetensors`. Raises ModelError."""
        ...

    def score(self, table: pa.Table) -> pa.Table:
        """Calibrated probabilities: a float32 column per class, in the order of `classes`, a row per alert.

        Row order is kept; a row's result does not depend on its neighbours (to 1e-5). A row about which the
        model cannot say anything is null in every column. Raises ModelError when the table lacks a column.
        """
        ...


def open_model(folder: Path | str, device: str = "cpu") -> Model:
    """Open the version in `folder`: import its architecture, load its weights, ask for its golden scores.

    Raises ModelError.

    `model.json` is data, possibly somebody else's: it can name only a class in `models` or one that an
    installed distribution announces as an entry point, and nothing is imported before that is known.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    kind = _architecture(manifest.architecture, folder)
    if device.startswith("cuda"):
        _exact()
    model = kind.load(folder, device)
    if not isinstance(model, Model) or (model.name, model.version) != (manifest.name, manifest.version):
        raise ModelError(
            f"{folder}: {manifest.architecture} did not load as {manifest.name} {manifest.version}"
        )
    check_golden(model, folder)
    return model


def _exact() -> None:
    """fp32 is fp32 on a GPU, too: by default cuDNN's convolutions have ten bits for it (TF32)."""
    import torch

    torch.backends.cudnn.allow_tf32 = False


def named(path: str, folder: Path, ours: str = "models.") -> Any:
    """What model.json calls "module:name". Raises ModelError.

    Only what begins with `ours`, or what an installed distribution announces as an entry point.
    """
    announced = {entry.value for entry in entry_points(group=ENTRY_POINTS)}
    if not path.startswith(ours) and path not in announced:
        raise ModelError(
            f"{folder}: {path!r} is neither in Rayfinch's `{ours.rstrip('.:')}` nor an entry point of an "
            f"installed distribution (group {ENTRY_POINTS!r})"
        )
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ModelError(f"{folder}: {path!r} cannot be imported: {error}") from error


def brought(folder: Path) -> str:
    """The installed distributions whose code the version in `folder` runs, "name-version" each; "" for none.

    A process that has imported one keeps its code, whatever is installed later. Raises ModelError.
    """
    manifest = read_manifest(folder)
    feeds = manifest.hyperparameters.get("feeds")
    named = {manifest.architecture, *(map(str, feeds.values()) if isinstance(feeds, dict) else ())}
    announced = [entry for entry in entry_points(group=ENTRY_POINTS) if entry.value in named]
    return "+".join(sorted({f"{e.dist.name}-{e.dist.version}" for e in announced if e.dist is not None}))


def _architecture(path: str, folder: Path) -> type[Model]:
    kind = named(path, folder)
    if (
        not inspect.isclass(kind)
        or not callable(getattr(kind, "load", None))
        or not callable(getattr(kind, "score", None))
    ):
        raise ModelError(f"{folder}: architecture {path!r} is not a class with `load` and `score`")
    if getattr(kind, "_is_protocol", False):
        raise ModelError(f"{folder}: architecture {path!r} is the contract itself, not a network")
    return kind  # type: ignore[return-value]  # an instance is checked in open_model


def shipped() -> Path:
    """The folder of the versions that come with Rayfinch: <name>/<version>/{model.json, weights…}."""
    return Path(__file__).parent / "shipped"


def shipped_version(name: str) -> Path:
    """The folder of the version of network `name` that comes with Rayfinch: there is one of each."""
    [folder] = (shipped() / name).iterdir()
    return folder


def scores(classes: tuple[str, ...], probabilities, known) -> pa.Table:
    """The answer of `score`: `probabilities` (rows, classes) as columns, null where `known` (rows) is false.

    A row with a non-finite probability becomes null too: absurd inputs never leave as absurd scores.
    """
    import numpy as np

    values = np.asarray(probabilities, np.float32).reshape(-1, len(classes))
    absent = ~(np.asarray(known, bool) & np.isfinite(values).all(axis=1))
    columns = [pa.array(values[:, i], mask=absent) for i in range(len(classes))]
    return pa.table(columns, names=list(classes))
