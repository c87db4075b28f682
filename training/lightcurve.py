"""Train the `lightcurve` network: a few members, each with another fold of the supernovae held out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models.lightcurve import ARCHITECTURE, CLASSES, MOST_POINTS, Ensemble, LightCurve, Member
from models.manifest import Manifest
from models.points import DETECTION, FORCED, LIMIT, Points, points
from models.sequences import padded, sequences
from training import dataset, evaluate, fitting
from training.fitting import Progress, Schedule

# Detections after which the network is judged, beside the full length.
LENGTHS = (1, 3, 5, 10, 20)
# From the depth of ZTF to that of LSST, and a little more.
DECADES = 2.5


@dataclass(frozen=True)
class Config:
    """configs/train-lightcurve.yaml documents each."""

    folds: int = 3
    epochs: int = 30
    batch: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    patience: int = 10
    validation: int = 10
    class_power: float = 0.65
    smoothing: float = 0.05
    truncate: float = 0.6
    month: float = 0.3
    force: float = 0.3
    noise: float = 0.3
    fainter: float = 0.25
    hidden: int = 64
    dropout: float = 0.3

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.epochs, self.batch, self.learning_rate, self.weight_decay, self.patience)


@dataclass(frozen=True)
class Samples:
    """Light curves at full length, class indices and object ids of N supernovae."""

    curves: Points
    labels: np.ndarray
    groups: np.ndarray

    @classmethod
    def of(cls, data: dataset.Labelled) -> Samples:
        labels = np.array([CLASSES.index(label) for label in data.labels])
        return cls(points(data.table, MOST_POINTS), labels, data.groups)

    def take(self, rows: np.ndarray) -> Samples:
        return Samples(self.curves.take(rows), self.labels[rows], self.groups[rows])


def train(
    data: Path, out: Path, version: str, config: Config, seed: int, command: str, progress: Progress
) -> Manifest:
    """Train on `data`/lightcurves, write the version to `out`, return its manifest (metrics inside)."""
    fitting.seeded(seed)
    revision = fitting.code_revision()
    found = dataset.light_curves(data)
    samples = Samples.of(found)
    fold = evaluate.folds(samples.groups, samples.labels, config.folds, seed)
    network = Ensemble(config.folds, config.hidden, config.dropout)
    lengths: dict[str, Points] = {
        str(n): truncated(samples.curves, _until(samples.curves, n)) for n in LENGTHS
    }
    lengths["full"] = samples.curves
    held_out = {name: np.empty((len(samples.labels), len(CLASSES)), np.float32) for name in lengths}
    for k in range(config.folds):
        learn = samples.take(np.flatnonzero(fold != k))
        member = _member(learn, config, seed + k, fitting.within(f"fold {k + 1}/{config.folds}", progress))
        network.members[k].load_state_dict(member.state_dict())
        test = np.flatnonzero(fold == k)
        for name, curves in lengths.items():
            held_out[name][test] = logits(member, curves.take(test))
    everything = np.concatenate(list(held_out.values()))
    network.temperature.fill_(evaluate.temperature(np.tile(samples.labels, len(lengths)), everything))
    manifest = Manifest(
        name="lightcurve",
        version=version,
        architecture=ARCHITECTURE,
        classes=CLASSES,
        inputs=LightCurve.inputs,
        hyperparameters={"members": config.folds, "hidden": config.hidden, "dropout": config.dropout},
        normalisation={"most_points": MOST_POINTS},
        calibration={
            "temperature": round(float(network.temperature), 6),
            "fitted_on": "held-out objects of all folds, all lengths",
        },
        training=fitting.summary(vars(config), command, seed),
        data={
            "files": found.files,
            "rows": len(found),
            "objects": len(set(found.groups)),
            "left_out": found.left_out,
        },
        metrics=_metrics(samples.labels, held_out, fold, config.folds),
        code_revision=revision,
        created=fitting.now(),
    )
    fitting.write_version(out, manifest, network)
    return manifest


def _metrics(
    truth: np.ndarray, held_out: dict[str, np.ndarray], fold: np.ndarray, count: int
) -> dict[str, Any]:
    """Of each supernova by the one member that never saw it, after so many detections and at full length."""
    names = list(held_out)
    warm = evaluate.held_out_temperatures(
        np.tile(truth, len(names)), np.concatenate([held_out[n] for n in names]), np.tile(fold, len(names))
    )[: len(truth), None]
    reports = {n: evaluate.report(truth, evaluate.softmax(held_out[n] / warm), CLASSES) for n in names}
    full = held_out["full"].argmax(axis=1)
    return {
        "method": f"{count}-fold cross-validation by object, each by the member that never saw it",
        "validated_on": ["ztf"],
        "held_out": reports["full"],
        "macro_f1_of_folds": [
            round(evaluate.macro_f1(truth[fold == k], full[fold == k], CLASSES), 4) for k in range(count)
        ],
        "after_detections": {
            n: {k: reports[n][k] for k in ("macro_f1", "accuracy", "calibration_error")} for n in names
        },
    }


def _member(samples: Samples, config: Config, seed: int, progress: Progress) -> nn.Module:
    """Train one member; one part in `validation` of its objects only decides when to stop."""
    torch.manual_seed(seed)
    part = evaluate.folds(samples.groups, samples.labels, config.validation, seed)
    learn, check = samples.take(np.flatnonzero(part != 0)), samples.take(np.flatnonzero(part == 0))
    weights = fitting.class_weights(learn.labels, len(CLASSES), config.class_power)
    shorter = truncated(check.curves, _until(check.curves, 6))
    heavy = weights[check.labels]

    def validate(network: nn.Module) -> float:
        losses = []
        for curves in (check.curves, shorter):
            chances = evaluate.softmax(logits(network, curves))
            losses.append(-np.log(np.clip(chances[np.arange(len(heavy)), check.labels], 1e-9, 1)))
        return float((heavy * sum(losses)).sum() / heavy.sum() / len(losses))

    draw = np.random.default_rng(seed)

    def batches(epoch: int) -> Iterator[tuple[tuple[torch.Tensor, ...], torch.Tensor]]:
        curves = augmented(learn.curves, config, draw)
        flat = sequences(curves)
        # Light curves of like length together, within a little disorder, so that little is padding.
        order = np.argsort(curves.lengths * draw.uniform(0.8, 1.25, len(learn.labels)), kind="stable")
        groups = np.array_split(order, steps)
        for i in draw.permutation(steps):
            yield padded(flat, curves.offsets, groups[i]), torch.from_numpy(learn.labels[groups[i]])

    steps = max(len(learn.labels) // config.batch, 1)
    network = Member(config.hidden, config.dropout)
    return fitting.fit(
        network, config.schedule, batches, steps, validate, weights, config.smoothing, progress
    )


def _until(curves: Points, count: int | np.ndarray) -> np.ndarray:
    """int64 (rows,): the point that is the `count`-th detection of each row (its last, if it has fewer)."""
    detected = curves.kind == DETECTION
    total = np.concatenate([[0], np.cumsum(detected)])
    wanted = np.minimum(total[curves.offsets[:-1]] + count, total[curves.offsets[1:]])
    return np.searchsorted(total, wanted, side="left") - 1


def truncated(curves: Points, last: np.ndarray, days: np.ndarray | None = None) -> Points:
    """The light curves when point `last` of each was the alert; of the last `days` (rows,), if given."""
    row = curves.row
    keep = np.arange(len(row)) <= last[row]
    if days is not None:
        keep &= curves.mjd >= (curves.mjd[last] - days)[row]
    return curves.where(keep)


def augmented(curves: Points, config: Config, draw: np.random.Generator) -> Points:
    """Cut at a random detection; some to the 30 days of a packet; limits as forced photometry; noise.

    The number of detections that are kept is uniform in its logarithm: a stream asks most about young ones.
    """
    rows = len(curves.offsets) - 1
    detected = np.bincount(curves.row[curves.kind == DETECTION], minlength=rows)
    kept = np.floor(np.exp(draw.uniform(0, np.log(detected + 1)))).astype(np.int64)
    kept = np.where(draw.random(rows) < config.truncate, np.clip(kept, 1, detected), detected)
    days = np.where(draw.random(rows) < config.month, 30.0, np.inf)
    curves = truncated(curves, _until(curves, kept), days)
    row = curves.row
    forced = (draw.random(rows) < config.force)[row] & (curves.kind == LIMIT)
    noise = draw.normal(size=len(row)) * curves.flux_err
    flux = np.where(forced, noise, curves.flux + np.where(curves.kind == LIMIT, 0, config.noise * noise))
    kind = np.where(forced, FORCED, curves.kind).astype(np.int8)
    fainter = np.where(draw.random(rows) < config.fainter, draw.uniform(0, DECADES, rows), 0)
    scale = (10**-fainter)[row]
    return Points(curves.mjd, curves.band, flux * scale, curves.flux_err * scale, kind, curves.offsets)


@torch.inference_mode()
def logits(network: nn.Module, curves: Points, chunk: int = 256) -> np.ndarray:
    """float32 (rows, classes) of one member."""
    network.eval()
    flat, order = sequences(curves), np.argsort(curves.lengths, kind="stable")
    found = np.empty((len(order), len(CLASSES)), np.float32)
    for first in range(0, len(order), chunk):
        rows = order[first : first + chunk]
        found[rows] = network(*padded(flat, curves.offsets, rows)).numpy()
    return found
