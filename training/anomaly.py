"""Train `anomaly`: an isolation forest of light curves' shapes that has asked which of its finds matter.

Active anomaly discovery (Das et al. 2017, arXiv:1708.09441) by coniferest (Kornilov et al. 2025): the forest
shows its strangest object, is told whether that is an anomaly, and weighs its leaves anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models import onnx, points, prepare
from models.contract import open_model
from models.golden import write_golden
from models.importing import GOLDEN
from models.manifest import Manifest
from models.shapes import NAMES
from models.testing import alerts
from training import dataset, evaluate, fitting
from training.evaluation import area, evaluation, roc
from training.fitting import Progress, Trained
from training.forest import as_onnx

CLASSES = ("anomaly", "ordinary")
HUNDRED = 100
FEED, OUTPUT = "shape", "probability"


@dataclass(frozen=True)
class Config:
    """configs/train-anomaly.yaml documents each."""

    folds: int = 5
    trees: int = 200
    subsample: int = 256
    questions: int = 100
    at_once: int = 1


@dataclass(frozen=True)
class Asked:
    """A forest; `worth` (questions,): whether each object that it asked about was an anomaly."""

    forest: Any
    worth: np.ndarray

    def strangeness(self, shape: np.ndarray) -> np.ndarray:
        """float64 (rows,): the greater, the stranger."""
        return -self.forest.score_samples(shape)


def train(
    data: Path, out: Path, version: str, config: Config, seed: int, command: str, progress: Progress
) -> Trained:
    """Train on `data`/lightcurves, whose types answer the questions; write the version to `out`."""
    revision = fitting.code_revision()
    found = dataset.light_curves(data, dataset.ANOMALY_CLASSES)
    truth = np.array([CLASSES.index(label) for label in found.labels])
    odd = truth == 0
    raw = prepare.shape(found.table, points.INPUTS)
    medians = np.nanmedian(np.where(raw == prepare.MISSING, np.nan, raw), axis=0)
    shape = filled(raw, medians)
    fold = evaluate.folds(found.groups, truth, config.folds, seed)
    strange = np.empty(len(odd))
    unasked = np.empty(len(odd))
    for k in range(config.folds):
        learn, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        told = fitting.within(f"fold {k + 1}/{config.folds}", progress)
        strange[test] = _asking(shape[learn], odd[learn], config, seed + k, told).strangeness(shape[test])
        unasked[test] = -_forest(config, seed + k).fit(shape[learn]).score_samples(shape[test])
    whole = _asking(shape, odd, config, seed, fitting.within("all objects", progress))
    slope, offset = logistic(strange, odd)
    chances = 1 / (1 + np.exp(-(slope * strange + offset)))
    probabilities = np.column_stack([chances, 1 - chances])
    manifest = Manifest(
        name="anomaly",
        version=version,
        architecture=onnx.ARCHITECTURE,
        classes=CLASSES,
        inputs=points.INPUTS,
        hyperparameters={"feeds": {FEED: "models.prepare:shape"}, "output": OUTPUT},
        normalisation={"shape": list(NAMES)},
        calibration={"slope": slope, "offset": offset, "fitted_on": "held-out objects of all folds"},
        training=fitting.summary(vars(config), command, seed),
        data=found.summary(),
        metrics={
            "method": f"{config.folds}-fold cross-validation by object, each by the forest that never saw it",
            "validated_on": ["ztf"],
            "held_out": evaluate.report(truth, probabilities, CLASSES),
            "roc_auc": round(area(*roc(odd, strange)), 4),
            "roc_auc_without_questions": round(area(*roc(odd, unasked)), 4),
            "questions": config.questions,
            "anomalies_in_the_held_out_hundred": int(odd[np.argsort(strange)[::-1][:HUNDRED]].sum()),
            "anomalies_in_the_held_out_hundred_without_questions": int(
                odd[np.argsort(unasked)[::-1][:HUNDRED]].sum()
            ),
            "anomalies_asked_about": int(whole.worth.sum()),
            "share_of_anomalies": round(float(odd.mean()), 4),
        },
        code_revision=revision,
        created=fitting.now(),
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / onnx.FILE).write_bytes(as_onnx(whole.forest, medians, slope, offset, FEED, OUTPUT))
    manifest.write(out)
    write_golden(open_model(out), alerts(GOLDEN), out)
    said: dict[str, Any] = {"model": f"anomaly@{version}, held out"} | evaluation(
        truth, found.groups, probabilities, CLASSES
    )
    return Trained(manifest, said, truth, probabilities, [])


def filled(shape: np.ndarray, medians: np.ndarray) -> np.ndarray:
    """float32 (rows, shapes), with the medians where a light curve does not tell."""
    known = np.isfinite(shape) & (shape != prepare.MISSING)
    return np.ascontiguousarray(np.where(known, shape, medians), np.float32)


def logistic(score: np.ndarray, odd: np.ndarray) -> tuple[float, float]:
    """(slope, offset) of the probability that a score is an anomaly's (Platt 1999)."""
    from sklearn.linear_model import LogisticRegression

    width = float(score.std()) or 1.0
    fit = LogisticRegression().fit((score / width)[:, None], odd)
    return float(fit.coef_[0, 0]) / width, float(fit.intercept_[0])


def _forest(config: Config, seed: int) -> Any:
    from coniferest.isoforest import IsolationForest

    return IsolationForest(n_trees=config.trees, n_subsamples=config.subsample, n_jobs=1, random_seed=seed)


def _asking(shape: np.ndarray, odd: np.ndarray, config: Config, seed: int, progress: Progress) -> Asked:
    """A forest that has asked about `questions` of the objects (rows, shapes), a few at once."""
    from coniferest.aadforest import AADForest
    from coniferest.label import Label

    forest = AADForest(n_trees=config.trees, n_subsamples=config.subsample, n_jobs=1, random_seed=seed)
    forest.fit(shape)
    known: list[int] = []
    for count in _portions(min(config.questions, len(shape)), config.at_once):
        scores = forest.score_samples(shape)
        scores[known] = np.inf
        known += np.argsort(scores)[:count].tolist()
        answers = np.where(odd[known], Label.ANOMALY, Label.REGULAR)
        forest.fit_known(shape, shape[known], answers)
        progress(f"{len(known)} of {config.questions} asked: {int(odd[known].sum())} anomalies")
    return Asked(forest, odd[known])


def _portions(whole: int, part: int) -> Iterator[int]:
    for begun in range(0, whole, part):
        yield min(part, whole - begun)
