"""Labelled alerts to train on or, frozen, to compare versions by that were not trained on them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from training import dataset, histories
from training.dataset import DatasetError, Labelled

LABEL = "label"
Reader = Callable[[Path, Mapping[str, str]], Labelled]


def read(path: Path, classes: Sequence[str], label: str = LABEL, complete: bool = True) -> Labelled:
    """The labelled alerts in `path` for a model of these classes; `complete`: there must be some of each.

    `path` is a folder in the layout of our data sets (`stamps/` or `lightcurves/`, or one of the two itself),
    or a Parquet or Arrow file of the alert table's columns and one of labels. Raises DatasetError.
    """
    if path.is_dir():
        reader, data, known = _folder(path, classes)
        found = reader(data, known)
    elif path.is_file():
        found = _file(path, label)
    else:
        raise DatasetError(f"{path} is neither a folder nor a file: give labelled alerts")
    if odd := sorted(set(found.labels.tolist()) - set(classes)):
        raise DatasetError(
            f"{path} has labels that are no class of the model: {', '.join(odd[:5])} "
            f"(its classes are {', '.join(classes)})"
        )
    if complete and (absent := [name for name in classes if name not in set(found.labels.tolist())]):
        raise DatasetError(f"{path} has no alert of class {', '.join(absent)}: there must be some of each")
    return found


def digest(found: Labelled) -> str:
    """sha256 (hex) over the digests of its files: the same set, the same digest."""
    lines = [f"{files['sha256']}  {name}\n" for name, files in sorted(found.files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def others(path: Path, classes: Sequence[str], found: Labelled) -> Labelled | None:
    """What `read` left out of a folder because it is of no class, under its labels there; None for a file.

    Not what was left out for another reason: alerts that were tampered with, objects of two types.
    """
    names = [name for name in found.left_out if name != dataset.ALTERED and "/" not in name]
    if not path.is_dir() or not names:
        return None
    reader, data, _ = _folder(path, classes)
    return reader(data, {name: name for name in names})


def _folder(path: Path, classes: Sequence[str]) -> tuple[Reader, Path, Mapping[str, str]]:
    """How to read the data set that has the classes, where it is, and the class of each of its labels.

    A folder with both data sets has alerts with both, for a network of both.
    """
    if (
        set(classes) >= set(dataset.LIGHT_CURVE_CLASSES.values())
        and all((path / files[0]).is_file() for files in (dataset.STAMPS, dataset.LIGHT_CURVES))
        and set(classes) & set(dataset.STAMP_CLASSES.values())
    ):
        return histories.fused, path, dataset.STAMP_CLASSES
    kinds: tuple[tuple[str, Mapping[str, str], Reader], ...] = (
        ("stamps", dataset.STAMP_CLASSES, dataset.stamps),
        ("lightcurves", dataset.LIGHT_CURVE_CLASSES, dataset.light_curves),
        ("lightcurves", dataset.ANOMALY_CLASSES, dataset.light_curves),
    )
    within = path.resolve().name in {name for name, *_ in kinds} and not (path / path.name).is_dir()
    data = path.parent if within else path
    for name, known, reader in kinds:
        if set(known.values()) & set(classes) and (data / name).is_dir() and path in (data, data / name):
            return reader, data, known
    raise DatasetError(
        f"{path} has no data set with the classes {', '.join(classes)}: give a folder with stamps/ or "
        "lightcurves/, or a Parquet file of alerts with a column of labels"
    )


def _file(path: Path, label: str) -> Labelled:
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".parquet":
            table = pq.read_table(path)
        else:
            with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
                table = reader.read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise DatasetError(
            f"{path} cannot be read as Parquet (.parquet) or an Arrow file: {error}"
        ) from error
    for name in (label, "object_id"):
        if name not in table.column_names:
            raise DatasetError(f"{path} has no column {name!r}; it has {', '.join(table.column_names)}")
        if table[name].null_count or not len(table):
            raise DatasetError(f"{path}: the column {name!r} has nulls, or there are no rows")
    labels = np.array([str(value) for value in table[label].to_pylist()])
    groups = np.array([str(value) for value in table["object_id"].to_pylist()])
    contents = path.read_bytes()
    files = {path.name: {"sha256": hashlib.sha256(contents).hexdigest(), "bytes": len(contents)}}
    return Labelled(table.drop_columns([label]), labels, groups, {}, files)
