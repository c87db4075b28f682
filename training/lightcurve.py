"""Train the `lightcurve` network: a few members, each with another fold of the supernovae held out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models.encoding import Encoding
from models.lightcurve import ARCHITECTURE, CLASSES, Ensemble, LightCurve, youth
from models.manifest import Manifest
from models.perceptron import perceptron
from models.points import MOST_POINTS, Points, points
from models.shapes import NAMES, shapes
from models.trees import Trees
from training import baseline, conformal, evaluate, fitting, frozen
from training.cuts import Cuts, truncated, until
from training.dataset import Labelled
from training.epochs import DAYS, at_age
from training.evaluation import evaluation
from training.fitting import Batch, Curve, Progress, Schedule, Trained
from training.folds import Folds
from training.members import Workers, trained
from training.trees import grown, joined


@dataclass(frozen=True)
class Config:
    """configs/train-lightcurve.yaml documents each."""

    folds: int = 5
    times: int = 3
    epochs: int = 30
    batch: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 2e-2
    patience: int = 10
    validation: int = 20
    class_power: float = 0.5
    smoothing: float = 0.05
    truncate: float = Cuts.truncate
    month: float = Cuts.month
    force: float = Cuts.force
    noise: float = Cuts.noise
    thin: float = Cuts.thin
    bins: int = 8
    neurons: int = 128
    dropout: float = 0.4
    trees: int = 250
    depth: int = 5
    trees_rate: float = 0.12
    copies: int = 8
    young: float = 0.75
    workers: int = 2
    gpu: float = 0.0

    @property
    def cuts(self) -> Cuts:
        return Cuts(self.truncate, self.month, self.force, self.noise, self.thin)

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
    def of(cls, data: Labelled) -> Samples:
        labels = np.array([CLASSES.index(label) for label in data.labels])
        return cls(points(data.table, MOST_POINTS), labels, data.groups)

    def take(self, rows: np.ndarray) -> Samples:
        return Samples(self.curves.take(rows), self.labels[rows], self.groups[rows])


@dataclass(frozen=True)
class Learned:
    """One member and its trees, and what they say of supernovae that they never saw, at each age: logits."""

    network: nn.Module
    trees: Trees
    curve: Curve
    held_out: dict[str, np.ndarray]


def train(
    data: Path, out: Path, version: str, config: Config, seed: int, command: str, progress: Progress
) -> Trained:
    """Train on `data`, which training.frozen reads, write the version to `out`."""
    fitting.seeded(seed)
    revision = fitting.code_revision()
    found = frozen.read(data, CLASSES)
    samples = Samples.of(found)
    folds = Folds(samples.labels, samples.groups, config.folds, config.times, seed)
    form: dict[str, Any] = {
        name: getattr(config, name) for name in ("bins", "neurons", "dropout", "trees", "depth")
    }
    network = Ensemble(config.folds, **form)
    seen = {f"{days:g}": shapes(points(at_age(found.table, days), MOST_POINTS)) for days in DAYS}
    seen["full"] = shapes(samples.curves)
    network.encoding.fit(seen["full"])
    share = np.bincount(samples.labels, minlength=len(CLASSES)) / len(samples.labels)
    network.rarity.copy_(torch.from_numpy(-config.young * np.log(np.maximum(share, 1e-3))))

    def learned(k: int, device: str, progress: Progress) -> Learned:
        learn, test = folds.split(k)
        told = fitting.within(f"member {k + 1}/{folds.members}", progress)
        trees = _trees(samples.take(learn), config, seed + k, told)
        member, curve = _member(samples.take(learn), network.encoding, config, seed + k, told, device)
        said = {name: logits(member, trees, 0, network, values[test]) for name, values in seen.items()}
        return Learned(member, trees, curve, said)

    members = trained(folds.members, learned, Workers(config.workers, config.gpu), seed, progress)
    network.trees.load_state_dict(joined([one.trees for one in members[: config.folds]]))
    for kept, one in zip(network.members, members, strict=False):
        kept.load_state_dict(one.network.state_dict())
    held_out = {name: folds.pooled([one.held_out[name] for one in members]) for name in seen}
    young = {
        name: np.tile(youth(torch.from_numpy(values)).numpy(), (config.times, 1))
        for name, values in seen.items()
    }
    warm = evaluate.temperatures(*_all_ages(folds.truth, held_out, young))
    network.temperature.copy_(torch.tensor(warm))
    chances = {name: evaluate.tempered(held_out[name], warm, young[name]) for name in seen}
    calibrated = chances["full"]
    progress("gradient boosting on the same shapes and folds")
    trees = folds.boosted(seen["full"], samples.labels, len(CLASSES), config.class_power, seed)
    manifest = Manifest(
        name="lightcurve",
        version=version,
        architecture=ARCHITECTURE,
        classes=CLASSES,
        inputs=LightCurve.inputs,
        hyperparameters={"members": config.folds, **form},
        normalisation={"most_points": MOST_POINTS, "shape": list(NAMES)},
        calibration={
            "temperature": [round(each, 6) for each in warm],
            "fitted_on": "held-out objects of all folds, at all ages",
            "conformal": {
                "coverage": conformal.COVERAGE,
                "least": round(conformal.threshold(folds.truth, calibrated), 6),
            },
        },
        training=fitting.summary(vars(config), command, seed),
        data=found.summary(),
        metrics={
            **_metrics(folds, held_out, young),
            "conformal": conformal.held_out(folds.truth, calibrated, folds.part),
            "baseline": baseline.against(folds.truth, folds.groups, trees, calibrated, CLASSES),
        },
        code_revision=revision,
        created=fitting.now(),
    )
    fitting.write_version(out, manifest, network)
    said: dict[str, Any] = {"model": f"{manifest.name}@{version}, held out"}
    said |= evaluation(folds.truth, folds.groups, calibrated, CLASSES)
    said["days"] = {}
    for name, early in chances.items():
        if name != "full":
            of_all = evaluation(folds.truth, folds.groups, early, CLASSES)
            said["days"][name] = {k: of_all[k] for k in ("macro_f1", "accuracy", "calibration_error")}
    return Trained(manifest, said, folds.truth, calibrated, [one.curve for one in members])


def _all_ages(
    truth: np.ndarray, held_out: dict[str, np.ndarray], young: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classes, logits and youth of all ages."""
    every = [np.concatenate([values[name] for name in held_out]) for values in (held_out, young)]
    return np.tile(truth, len(held_out)), every[0], every[1]


def _metrics(folds: Folds, held_out: dict[str, np.ndarray], young: dict[str, np.ndarray]) -> dict[str, Any]:
    """Of each supernova by members that never saw it, at some ages (days) and at full length.

    Its temperatures are those of all other folds.
    """
    chances = {name: np.empty(values.shape) for name, values in held_out.items()}
    for k in range(folds.count):
        here = folds.part % folds.count == k
        others = [{name: part[~here] for name, part in of.items()} for of in (held_out, young)]
        warm = evaluate.temperatures(*_all_ages(folds.truth[~here], *others))
        for name, values in held_out.items():
            chances[name][here] = evaluate.tempered(values[here], warm, young[name][here])
    reports = {name: evaluate.report(folds.truth, each, CLASSES) for name, each in chances.items()}
    return {
        "method": folds.method,
        "validated_on": ["ztf"],
        "held_out": reports["full"],
        "macro_f1_of_times": folds.of_times(held_out["full"].argmax(axis=1), CLASSES),
        "at_days": {
            n: {k: row[k] for k in ("macro_f1", "accuracy", "calibration_error")}
            for n, row in reports.items()
        },
    }


def _trees(learn: Samples, config: Config, seed: int, progress: Progress) -> Trees:
    """One member's, from light curves as they are and `copies` of them, cut and noisy."""
    progress(f"{config.trees} trees")
    draw = np.random.default_rng(seed)
    views = [learn.curves, *(config.cuts.made(learn.curves, draw) for _ in range(config.copies))]
    return grown(
        [shapes(curves) for curves in views],
        learn.labels,
        len(CLASSES),
        trees=config.trees,
        depth=config.depth,
        rate=config.trees_rate,
        power=config.class_power,
        seed=seed,
    )


def _member(
    samples: Samples, encoding: Encoding, config: Config, seed: int, progress: Progress, device: str
) -> tuple[nn.Module, Curve]:
    """Train one perceptron; one part in `validation` of its objects only decides when to stop."""
    torch.manual_seed(seed)
    part = evaluate.folds(samples.groups, samples.labels, config.validation, seed)
    learn, check = samples.take(np.flatnonzero(part != 0)), samples.take(np.flatnonzero(part == 0))
    weights = fitting.class_weights(learn.labels, len(CLASSES), config.class_power)
    shorter = truncated(check.curves, until(check.curves, 6))
    whole = [shapes(curves) for curves in (check.curves, shorter)]
    heavy = weights[check.labels]

    def validate(network: nn.Module) -> float:
        with torch.inference_mode():
            found = [network(encoding(torch.from_numpy(values))).numpy() for values in whole]
        return float(np.mean([evaluate.tempered_loss(check.labels, each, heavy) for each in found]))

    draw = np.random.default_rng(seed)

    def batches(epoch: int) -> Iterator[Batch]:
        values = torch.from_numpy(shapes(config.cuts.made(learn.curves, draw)))
        for rows in np.array_split(draw.permutation(len(learn.labels)), steps):
            labels = learn.labels[rows]
            yield (encoding(values[rows]),), torch.from_numpy(labels), torch.from_numpy(weights[labels])

    steps = max(len(learn.labels) // config.batch, 1)
    network = perceptron(encoding.size, config.neurons, len(CLASSES), config.dropout)
    return fitting.fit(network, config.schedule, batches, steps, validate, config.smoothing, progress, device)


@torch.inference_mode()
def logits(member: nn.Module, trees: Trees, k: int, network: Ensemble, values: np.ndarray) -> np.ndarray:
    """float32 (rows, classes) of a perceptron and the `k`-th of `trees`, rare classes lifted while young."""
    shape = torch.from_numpy(values)
    read = member.eval()(network.encoding(shape))
    return (read + trees(shape)[k] + youth(shape) * network.rarity).numpy()
