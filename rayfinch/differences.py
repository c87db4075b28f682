"""How two versions differ: in what their `model.json` say, and in their scores of the same alerts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from models.contract import Model
from models.manifest import Manifest
from training.answers import everything, probabilities

# What differs between any two versions, and says nothing about either.
_OWN = ("version", "created")


def manifests(old: Manifest, new: Manifest) -> dict[str, tuple[Any, Any]]:
    """Key path ("hyperparameters.hidden") -> (old, new) value, None where one lacks the key."""
    before, after = _flat(asdict(old)), _flat(asdict(new))
    paths = dict.fromkeys((*before, *after))
    return {
        path: (before.get(path), after.get(path))
        for path in paths
        if path not in _OWN and before.get(path) != after.get(path)
    }


def scores(old: Model, new: Model, table: pa.Table) -> dict[str, Any]:
    """Of the alerts in `table` that both score: how far apart the probabilities are, how often the top class
    is the same. Raises ModelError when one of the two fails."""
    classes = [name for name in old.classes if name in new.classes]
    before, after = (
        probabilities(model, classes, table, everything, lambda line: None) for model in (old, new)
    )
    both = np.isfinite(before).all(axis=1) & np.isfinite(after).all(axis=1)
    if not both.any() or not classes:
        return {"alerts": len(table), "scored_by_both": 0}
    gaps = np.abs(before - after)[both]
    same = before[both].argmax(axis=1) == after[both].argmax(axis=1)
    return {
        "alerts": len(table),
        "scored_by_both": int(both.sum()),
        "largest_difference": round(float(gaps.max()), 6),
        "mean_difference": round(float(gaps.mean()), 6),
        "same_top_class": round(float(same.mean()), 4),
    }


def _flat(value: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested keys joined by dots; lists stay whole."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            found |= _flat(inner, f"{path}{key}.")
        else:
            found[path + key] = list(inner) if isinstance(inner, tuple) else inner
    return found
