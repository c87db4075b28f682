"""Real or bogus: what of the real sources is lost where nearly all artefacts are thrown away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

BOGUS = "bogus"
KEPT = 0.01


def border(truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> float:
    """The chance of being bogus from which alerts are thrown away, so that KEPT of the bogus are left."""
    chance = np.sort(probabilities[:, classes.index(BOGUS)][truth == classes.index(BOGUS)])
    return float(chance[int(KEPT * len(chance))])


def kept(probabilities: np.ndarray, classes: Sequence[str], least: float) -> np.ndarray:
    """bool (rows,): alerts that are not thrown away."""
    return probabilities[:, classes.index(BOGUS)] < least


def sifted(truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> dict[str, Any] | None:
    """JSON-ready; None without bogus alerts. `truth` (rows,), `probabilities` (rows, classes), NaN: no score.

    The shares that are missed of real sources, of all and by class, at the `border` of these very alerts.
    """
    scored = np.isfinite(probabilities).all(axis=1)
    truth, probabilities = truth[scored], probabilities[scored]
    if BOGUS not in classes or not (bogus := truth == classes.index(BOGUS)).any() or bogus.all():
        return None
    least = border(truth, probabilities, classes)
    missed = ~kept(probabilities, classes, least)
    return {
        "least": round(least, 6),
        "bogus_kept": round(float(1 - missed[bogus].mean()), 4),
        "real_missed": round(float(missed[~bogus].mean()), 4),
        "missed": {
            name: round(float(missed[truth == i].mean()), 4)
            for i, name in enumerate(classes)
            if name != BOGUS and (truth == i).any()
        },
    }
