"""Golden scores: what a version said of a few alerts when it was made, asked again wherever it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from models.manifest import ModelError

if TYPE_CHECKING:
    from models.contract import Model

FILE = "golden.arrow"
MAX_BYTES = 16 << 20
# A version may serve in another numerical format than it was made in: see models.variants.
AGREEMENT = 0.01
_SCORE = "score:"


def write_golden(model: Model, alerts: pa.Table, folder: Path) -> None:
    """Write `folder`/golden.arrow: the declared inputs of `alerts` and the model's scores of them.

    Raises ModelError where the model says nothing of any of them, for that would check nothing.
    """
    names = dict.fromkeys(path.partition(".")[0] for path in model.inputs)
    table = alerts.select([name for name in names if name in alerts.column_names])
    scored = model.score(table)
    if not len(scored) or scored.column(0).null_count == len(scored):
        raise ModelError(f"{folder}: {model.name} {model.version} has no score for any of the golden alerts")
    for name in scored.column_names:
        table = table.append_column(_SCORE + name, scored[name])
    with pa.ipc.new_file(folder / FILE, table.schema, options=_COMPRESSED) as writer:
        writer.write_table(table)


def read_golden(folder: Path) -> tuple[pa.Table, pa.Table] | None:
    """The golden alerts and their scores (a column a class); None where there are none. Raises ModelError."""
    path = folder / FILE
    if not path.exists():
        return None
    if path.resolve().parent != folder.resolve() or not path.is_file():
        raise ModelError(f"{path} is no file of its folder: copy the golden scores into it")
    if path.stat().st_size > MAX_BYTES:
        raise ModelError(f"{path} is larger than {MAX_BYTES} bytes: a few alerts are enough")
    try:
        with pa.ipc.open_file(path) as reader:
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise ModelError(f"{path} cannot be read as an Arrow file: {error}") from error
    scored = [name for name in table.column_names if name.startswith(_SCORE)]
    if not scored or not len(table):
        raise ModelError(f"{path} holds no scores")
    scores = table.select(scored).rename_columns([name.removeprefix(_SCORE) for name in scored])
    return table.drop_columns(scored), scores


def check_golden(model: Model, folder: Path, agreement: float = AGREEMENT) -> float | None:
    """Score the golden alerts again; the largest difference of a probability, None where there are none.

    Raises ModelError where it is more than `agreement`, or other alerts have no score.
    """
    golden = read_golden(folder)
    if golden is None:
        return None
    alerts, scores = golden
    if scores.column_names != list(model.classes):
        raise ModelError(
            f"{folder / FILE} has scores of {', '.join(scores.column_names)}, not of the model's classes "
            f"{', '.join(model.classes)}"
        )
    wanted, found = _matrix(scores), _matrix(model.score(alerts))
    if (np.isnan(wanted) != np.isnan(found)).any():
        raise ModelError(f"{folder}: other golden alerts have no score here than when the version was made")
    gap = float(np.nanmax(np.abs(wanted - found), initial=0.0))
    if not gap <= agreement:
        raise ModelError(
            f"{folder}: a golden score differs by {gap:.2g}, more than {agreement:g}: its weights are not "
            "those that it was made with, or they run differently here"
        )
    return gap


_COMPRESSED = pa.ipc.IpcWriteOptions(compression="zstd")


def _matrix(scores: pa.Table) -> np.ndarray:
    """float64 (rows, classes): NaN for null."""
    return np.column_stack([c.to_numpy(zero_copy_only=False).astype(float) for c in scores.columns])
