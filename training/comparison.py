"""Champion and challenger on the same alerts, from what the archive kept of both; and how the nights drift.

Pure: functions of tables and arrays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models import columns

BINS = 10
FEWEST = 50  # values that a distribution is compared by
# The customary reading: below .1 nothing has changed, above .25 something has.
NOTICED = 0.1


@dataclass(frozen=True)
class Said:
    """What a version said: of which rows of a table, probabilities (rows, classes), and why not of others."""

    rows: np.ndarray
    version: str
    classes: tuple[str, ...]
    probabilities: np.ndarray
    failed: Mapping[str, int]  # reason -> alerts


def said(table: pa.Table, column: str, model: str) -> Said | None:
    """The scores of `model` in `column` (scores, shadow) by the version that scored last, if any did."""
    entries = columns.one(table[column])
    rows = np.asarray(entries.value_parent_indices())
    flat = entries.flatten()
    mine = np.asarray(pc.fill_null(pc.equal(flat.field("model"), model), False))
    if not mine.any():
        return None
    version = flat.field("version")[int(np.flatnonzero(mine)[-1])].as_py()
    mine &= np.asarray(pc.equal(flat.field("version"), version))
    flat, rows = flat.filter(pa.array(mine)), rows[mine]
    scored = np.asarray(flat.field("probabilities").is_valid())
    failed = Counter(
        reason or "no reason" for reason in flat.field("reason").filter(pa.array(~scored)).to_pylist()
    )
    flat, rows = flat.filter(pa.array(scored)), rows[scored]
    if not len(flat):
        return Said(rows, version, (), np.empty((0, 0)), failed)
    classes = tuple(flat.field("classes")[0].as_py())
    values = np.asarray(flat.field("probabilities").flatten(), float).reshape(len(flat), len(classes))
    return Said(rows, version, classes, values, failed)


def compared(champion: Said, challenger: Said, threshold: float) -> dict[str, Any]:
    """On the alerts that both have scored: agreement, confusion, and what would enter and leave each topic.

    threshold: from which probability of its top class on an alert goes to that class's topic.
    """
    if champion.classes and set(champion.classes) != set(challenger.classes):
        return {"alerts": 0, "reason": "they have other classes"}
    both, a, b = np.intersect1d(champion.rows, challenger.rows, return_indices=True)
    classes = champion.classes
    if not len(both):
        return {"alerts": 0, "reason": "no alert was scored by both"}
    old = champion.probabilities[a]
    new = challenger.probabilities[b][:, [challenger.classes.index(name) for name in classes]]
    tops = old.argmax(axis=1), new.argmax(axis=1)
    confusion = np.zeros((len(classes), len(classes)), int)
    np.add.at(confusion, tops, 1)
    changes = {}
    for k, name in enumerate(classes):
        was = (tops[0] == k) & (old[:, k] >= threshold)
        would = (tops[1] == k) & (new[:, k] >= threshold)
        changes[name] = {
            "now": int(was.sum()),
            "enter": int((would & ~was).sum()),
            "leave": int((was & ~would).sum()),
        }
    return {
        "alerts": len(both),
        "same_top_class": float((tops[0] == tops[1]).mean()),
        "mean_difference": float(np.abs(old - new).mean()),
        "largest_difference": float(np.abs(old - new).max()),
        "confusion": {
            name: dict(zip(classes, row.tolist(), strict=True))
            for name, row in zip(classes, confusion, strict=True)
        },
        "topics": changes,
    }


def psi(before: np.ndarray, after: np.ndarray, bins: int = BINS) -> float | None:
    """The population stability index, sum of (q - p) ln(q / p) over quantile bins of `before`.

    It is the symmetrised Kullback-Leibler divergence (N. Siddiqi, Credit Risk Scorecards, 2006). Missing
    values are a bin of their own. None where either has fewer than FEWEST values.
    """
    if len(before) < FEWEST or len(after) < FEWEST:
        return None
    known = before[np.isfinite(before)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1])) if len(known) else known
    p, q = (_shares(values, edges) for values in (before, after))
    return float(((q - p) * np.log(q / p)).sum())


def _shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The share of each bin, at least half a value's: an empty bin would be infinitely far."""
    known = np.isfinite(values)
    counts = np.bincount(np.searchsorted(edges, values[known], "right"), minlength=len(edges) + 1)
    counts = np.append(counts, (~known).sum()).astype(float)
    return np.maximum(counts, 0.5) / len(values)


def drift(table: pa.Table, scores: Said, inputs: Sequence[str]) -> dict[str, dict[str, float]]:
    """By night (floor of MJD + 0.25) the PSI of each numeric input and class against all nights before."""
    night = np.floor(table["mjd"].to_numpy() + 0.25).astype(int)
    watched = {path: columns.numbers(table, path) for path in inputs if _numeric(table, path)}
    found: dict[str, dict[str, float]] = {}
    for one in np.unique(night)[1:]:
        earlier, now = night < one, night == one
        index = {path: psi(values[earlier], values[now]) for path, values in watched.items()}
        for k, name in enumerate(scores.classes):
            column = scores.probabilities[:, k]
            index[f"score:{name}"] = psi(column[earlier[scores.rows]], column[now[scores.rows]])
        known = {name: value for name, value in index.items() if value is not None}
        if known:
            found[str(one)] = known
    return found


def _numeric(table: pa.Table, path: str) -> bool:
    name = path.partition(".")[0]
    if name not in table.column_names or name in ("history", "cutouts", "cutout_shape", "mjd", "band"):
        return False
    return bool(np.isfinite(columns.numbers(table, path)).any())
