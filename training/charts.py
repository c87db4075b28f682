"""Pictures of an evaluation: confusion, reliability, ROC curves, and macro-F1 against age."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.evaluation import area, roc


def draw(
    found: dict[str, Any], truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], png: Path
) -> None:
    """Draw an evaluation (see training.evaluation) and its ROC curves to a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 10), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2).ravel()
    _confusion(axes[0], found)
    _reliability(axes[1], found)
    _curves(axes[2], truth, probabilities, classes)
    if "days" in found:
        _ages(axes[3], found)
    else:
        _scores(axes[3], found)
    figure.suptitle(f"{found['model']} on {found['rows']} alerts of {found['objects']} objects")
    figure.savefig(png, dpi=110, format="png")


def _confusion(ax: Any, found: dict[str, Any]) -> None:
    names = list(found["confusion"])
    called = [name for name in found["confusion"][names[0]] if name != "unscored" or found["unscored"]]
    counts = np.array([[found["confusion"][name][c] for c in called] for name in names])
    ax.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(counts):
        ax.text(j, i, count, ha="center", va="center")
    ax.set(xticks=range(len(called)), yticks=range(len(names)), xlabel="called", ylabel="is")
    ax.set_xticklabels(called)
    ax.set_yticklabels(names)


def _reliability(ax: Any, found: dict[str, Any]) -> None:
    bins = found["reliability"]
    ax.plot([0, 1], [0, 1], color="0.8")
    ax.plot([b["chance"] for b in bins], [b["right"] for b in bins], "o-")
    ax.set(xlabel="probability of the top class", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    ax.set_title(f"calibration error {found['calibration_error'][0]:.3f}")


def _curves(ax: Any, truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> None:
    scored = np.isfinite(probabilities).all(axis=1)
    for i, name in enumerate(classes):
        right = truth[scored] == i
        if 0 < right.sum() < len(right):
            false, true = roc(right, probabilities[scored, i])
            ax.plot(false, true, label=f"{name} {area(false, true):.3f}")
    ax.set(xlabel="false positives", ylabel="true positives", xlim=(0, 1), ylim=(0, 1.02))
    ax.set_xscale("symlog", linthresh=0.01)
    ax.legend(title="area under the curve")


def _ages(ax: Any, found: dict[str, Any]) -> None:
    rows = [(float(days), row["macro_f1"]) for days, row in found["days"].items()]
    days, scores = [d for d, _ in rows], np.array([s for _, s in rows])
    ax.fill_between(days, scores[:, 1], scores[:, 2], alpha=0.2)
    ax.plot(days, scores[:, 0], "o-")
    ax.axhline(found["macro_f1"][0], color="0.6", ls="--", label="all points")
    ax.set(xlabel="days since the first detection", ylabel="macro-F1", ylim=(0, 1))
    ax.legend()


def _scores(ax: Any, found: dict[str, Any]) -> None:
    names = list(found["classes"])
    scores = np.array([found["classes"][name]["f1"] for name in names])
    ax.errorbar(scores[:, 0], range(len(names)), xerr=np.abs(scores[:, 1:].T - scores[:, 0]), fmt="o")
    ax.set(xlabel="F1", xlim=(0, 1), yticks=range(len(names)))
    ax.set_yticklabels(names)
