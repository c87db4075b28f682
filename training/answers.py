"""What versions say of a set of alerts, and how long they take: asked as a stream asks its replicas."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from models.contract import Model, ModelError
from models.golden import read_golden

CHUNK = 256
BLOCK, ROUNDS = 128, 5

# Row numbers of the alerts that fulfil a SQL predicate, as serve.scorer.eligible finds them.
Eligible = Callable[[pa.Table, str], np.ndarray]
Progress = Callable[[str], None]


def everything(table: pa.Table, precondition: str) -> np.ndarray:
    """Every row: for alerts that were chosen for the model."""
    return np.arange(len(table))


def probabilities(
    model: Model, classes: Sequence[str], table: pa.Table, eligible: Eligible, progress: Progress
) -> np.ndarray:
    """float64 (rows, classes), in the order of `classes`; NaN where the model says nothing or isn't asked.

    Raises ModelError when the model fails, whatever it raised.
    """
    found = np.full((len(table), len(classes)), np.nan)
    rows = _rows(model, table, eligible)
    for first in range(0, len(rows), CHUNK):
        part = rows[first : first + CHUNK]
        found[part] = _scored(model, table.take(part), classes)
        progress(f"{told(model)}: {min(first + CHUNK, len(rows))} of {len(rows)} alerts scored")
    return found


def seconds_per_alert(models: Sequence[Model], table: pa.Table, eligible: Eligible) -> list[float]:
    """The best of a few rounds of each model, taken in turns, on blocks of BLOCK alerts that it scores."""
    blocks = [table.take(np.resize(_rows(model, table, eligible), BLOCK)) for model in models]
    best = [np.inf] * len(models)
    for turn in range(ROUNDS + 1):  # the first one warms up
        for i, (model, block) in enumerate(zip(models, blocks, strict=True)):
            start = time.perf_counter()
            _scored(model, block, model.classes)
            if turn:
                best[i] = min(best[i], (time.perf_counter() - start) / BLOCK)
    return best


def golden_inputs(folder: Path) -> pa.Table | None:
    """The alerts of the version's golden scores; None where it has none. Raises ModelError."""
    golden = read_golden(folder)
    return golden[0] if golden else None


def told(model: Model) -> str:
    """A version's name in a sentence."""
    return f"{model.name}@{model.version}"


def _rows(model: Model, table: pa.Table, eligible: Eligible) -> np.ndarray:
    """The rows about which the model is asked. Raises ModelError when there are none."""
    try:
        rows = eligible(table, model.precondition)
    except Exception as error:  # Polars' own: a column that is not there, say
        reason = next(iter(str(error).splitlines()), "")
        raise ModelError(
            f"the precondition {model.precondition!r} of {told(model)} cannot be evaluated: {reason}"
        ) from error
    if not len(rows):
        raise ModelError(f"no alert fulfils the precondition {model.precondition!r} of {told(model)}")
    return rows


def _scored(model: Model, table: pa.Table, classes: Sequence[str]) -> np.ndarray:
    """float64 (rows, classes); NaN for null. Raises ModelError, whatever the model raised."""
    try:
        found = model.score(table).select(list(classes))
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ModelError(f"{told(model)} fails on a block of {len(table)} alerts: {reason}") from error
    if len(found) != len(table):
        raise ModelError(f"{told(model)} gave {len(found)} scores for {len(table)} alerts")
    return np.column_stack([c.to_numpy(zero_copy_only=False).astype(float) for c in found.columns])
