"""Train the `stamps` network: a few members, each with another fold of the objects held out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models import columns, images
from models.features import COMMON, NAMES, packet_features
from models.manifest import Manifest
from models.stamps import ARCHITECTURE, CLASSES, EARLY, Ensemble, Member, Stamps
from training import artefacts, baseline, conformal, dataset, evaluate, fitting, simulated
from training.evaluation import evaluation
from training.fitting import Batch, Curve, Progress, Schedule, Trained


@dataclass(frozen=True)
class Config:
    """configs/train-stamps.yaml documents each."""

    folds: int = 5
    epochs: int = 50
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 5e-2
    patience: int = 25
    validation: int = 12
    class_power: float = 0.6
    smoothing: float = 0.05
    drop_source: float = 0.15
    drop_late: float = 0.2
    drop_column: float = 0.1
    noise: float = 0.5
    shift: int = 1
    bins: int = 8
    width: int = 8
    looked: int = 32
    neurons: int = 96
    dropout: float = 0.4
    simulated: int = 30000
    simulated_epochs: int = 10
    simulated_rate: float = 2e-3

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.epochs, self.batch, self.learning_rate, self.weight_decay, self.patience)


@dataclass(frozen=True)
class Samples:
    """What the network sees of N alerts: normalised images, masks, raw packet features; class indices."""

    images: torch.Tensor
    valid: torch.Tensor
    features: np.ndarray
    labels: np.ndarray
    groups: np.ndarray

    @classmethod
    def of(cls, data: dataset.Labelled) -> Samples:
        scaled, valid = images.normalised(columns.cutouts(data.table))
        labels = np.array([CLASSES.index(label) for label in data.labels])
        features = packet_features(data.table)
        return cls(torch.from_numpy(scaled), torch.from_numpy(valid), features, labels, data.groups)

    @classmethod
    def joined(cls, parts: Sequence[Samples]) -> Samples:
        return cls(
            torch.cat([part.images for part in parts]),
            torch.cat([part.valid for part in parts]),
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.groups for part in parts]),
        )

    def take(self, rows: np.ndarray) -> Samples:
        return Samples(
            self.images[rows], self.valid[rows], self.features[rows], self.labels[rows], self.groups[rows]
        )


def train(
    data: Path, out: Path, version: str, config: Config, seed: int, command: str, progress: Progress
) -> Trained:
    """Train on `data`/stamps, write the version to `out`."""
    fitting.seeded(seed)
    revision = fitting.code_revision()
    found = dataset.stamps(data)
    samples = Samples.of(found)
    fold = evaluate.folds(samples.groups, samples.labels, config.folds, seed)
    form: dict[str, Any] = {
        "bins": config.bins,
        "width": config.width,
        "looked": config.looked,
        "neurons": config.neurons,
        "dropout": config.dropout,
    }
    network = Ensemble(config.folds, **form)
    network.early.fit(samples.features[:, :EARLY])
    network.late.fit(samples.features[:, EARLY:])
    held_out = np.empty((len(samples.labels), len(CLASSES)), np.float32)
    blind = np.empty_like(held_out)
    curves: list[Curve] = []
    begin = _prepared(network, config, seed, progress) if config.simulated else None
    for k in range(config.folds):
        test = samples.take(np.flatnonzero(fold == k))
        member, curve = _member(
            samples.take(np.flatnonzero(fold != k)),
            network,
            config,
            seed + k,
            fitting.within(f"fold {k + 1}/{config.folds}", progress),
            begin,
        )
        curves.append(curve)
        network.members[k].load_state_dict(member.state_dict())
        held_out[fold == k] = _logits(member, network, test)
        blind[fold == k] = _logits(member, network, test, source=False)
    network.temperature.fill_(evaluate.temperature(samples.labels, held_out))
    calibrated = evaluate.softmax(held_out, float(network.temperature))
    progress("gradient boosting on the same columns and folds")
    trees = baseline.boosted(samples.features, samples.labels, fold, len(CLASSES), config.class_power, seed)
    real = artefacts.sifted(samples.labels, calibrated, CLASSES)
    if real is not None and config.simulated:
        real |= _injected(network.eval(), real["least"], seed + 1)
    manifest = Manifest(
        name="stamps",
        version=version,
        architecture=ARCHITECTURE,
        classes=CLASSES,
        inputs=Stamps.inputs,
        hyperparameters={"members": config.folds, **form},
        normalisation={"features": list(NAMES)},
        calibration={
            "temperature": round(float(network.temperature), 6),
            "fitted_on": "held-out objects of all folds",
            "conformal": {
                "coverage": conformal.COVERAGE,
                "least": round(conformal.threshold(samples.labels, calibrated), 6),
            },
        },
        training=fitting.summary(vars(config), command, seed),
        data=found.summary(),
        metrics={
            **_metrics(samples.labels, held_out, blind, fold, config.folds),
            "conformal": conformal.held_out(samples.labels, calibrated, fold),
            "real_bogus": real,
            "baseline": baseline.against(samples.labels, samples.groups, trees, calibrated, CLASSES),
        },
        code_revision=revision,
        created=fitting.now(),
    )
    fitting.write_version(out, manifest, network)
    said: dict[str, Any] = {"model": f"{manifest.name}@{version}, held out"}
    said |= evaluation(samples.labels, samples.groups, calibrated, CLASSES)
    return Trained(manifest, said, samples.labels, calibrated, curves)


def _metrics(
    truth: np.ndarray, logits: np.ndarray, blind: np.ndarray, fold: np.ndarray, count: int
) -> dict[str, Any]:
    """Of each alert by the one member that never saw its object; the mean of all cannot be judged here."""
    warm = evaluate.held_out_temperatures(truth, logits, fold)[:, None]
    per_fold = [
        round(evaluate.macro_f1(truth[fold == k], logits[fold == k].argmax(axis=1), CLASSES), 4)
        for k in range(count)
    ]
    return {
        "method": f"{count}-fold cross-validation by object, each by the member that never saw it",
        "validated_on": ["ztf"],
        "held_out": evaluate.report(truth, evaluate.softmax(logits / warm), CLASSES),
        "macro_f1_of_folds": per_fold,
        "held_out_without_source_columns": evaluate.report(truth, evaluate.softmax(blind / warm), CLASSES),
    }


def _prepared(ensemble: Ensemble, config: Config, seed: int, progress: Progress) -> Member:
    """A member that has learned from simulated alerts what images look like.

    Half of them are shown without columns, which are less like the survey's than the images are.
    """
    parts = []
    for part in simulated.simulated(config.simulated, seed):
        parts.append(Samples.of(part))
        progress(f"{sum(len(each.labels) for each in parts)}/{config.simulated} alerts simulated")
    first = replace(
        config, epochs=config.simulated_epochs, learning_rate=config.simulated_rate, drop_source=0.5
    )
    told = fitting.within("on simulated alerts", progress)
    member, _ = _member(Samples.joined(parts), ensemble, first, seed, told)
    return member


@torch.inference_mode()
def _injected(network: Ensemble, least: float, seed: int) -> dict[str, Any]:
    """What is kept of artefacts that were simulated for this alone, and missed of the real ones there."""
    found = Samples.joined([Samples.of(part) for part in simulated.simulated(INJECTED, seed)])
    chances = network(images.views(found.images, found.valid), torch.from_numpy(found.features)).numpy()
    kept = artefacts.kept(chances, CLASSES, least)
    bogus = found.labels == CLASSES.index(artefacts.BOGUS)
    return {
        "injected": int(bogus.sum()),
        "injected_seed": seed,
        "injected_kept": round(float(kept[bogus].mean()), 4),
        "injected_real_missed": round(float(1 - kept[~bogus].mean()), 4),
    }


def _member(
    samples: Samples,
    ensemble: Ensemble,
    config: Config,
    seed: int,
    progress: Progress,
    begin: Member | None = None,
) -> tuple[Member, Curve]:
    """Train one member, which sees as `begin` does at first.

    One part in `validation` of its objects only decides when to stop.
    """
    torch.manual_seed(seed)
    part = evaluate.folds(samples.groups, samples.labels, config.validation, seed)
    learn, check = samples.take(np.flatnonzero(part != 0)), samples.take(np.flatnonzero(part == 0))
    weights = fitting.class_weights(learn.labels, len(CLASSES), config.class_power)
    heavy = weights[check.labels]

    def validate(network: nn.Module) -> float:
        return evaluate.tempered_loss(check.labels, _logits(network, ensemble, check), heavy)

    draw = np.random.default_rng(seed)

    def batches(epoch: int) -> Iterator[Batch]:
        order = draw.permutation(len(learn.labels))
        for rows in np.array_split(order, steps):
            seen, features = _augmented(learn.take(rows), config, draw)
            labels = learn.labels[rows]
            yield (
                (seen, *ensemble.encoded(features)),
                torch.from_numpy(labels),
                torch.from_numpy(weights[labels]),
            )

    steps = max(len(learn.labels) // config.batch, 1)
    network = Member(
        ensemble.early.size, ensemble.late.size, config.width, config.looked, config.neurons, config.dropout
    )
    if begin is not None:
        network.look.load_state_dict(begin.look.state_dict())
        network.see.load_state_dict(begin.see.state_dict())
    return fitting.fit(network, config.schedule, batches, steps, validate, config.smoothing, progress)


def _augmented(
    samples: Samples, config: Config, draw: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Views and columns of a batch: turned, shifted, noisy; some columns, or all of ZTF's, missing."""
    shown, valid = samples.images, samples.valid
    rows = len(shown)
    shift = tuple(draw.integers(-config.shift, config.shift + 1, 2))
    shown, valid = (torch.roll(t, shift, (2, 3)) for t in (shown, valid))
    turns = torch.from_numpy(draw.integers(0, 8, rows))
    seen = images.views(shown + config.noise * torch.randn(shown.shape) * valid, valid)
    for quarter in range(8):
        chosen = turns == quarter
        turned = torch.rot90(seen[chosen], quarter % 4, (2, 3))
        seen[chosen] = turned.flip(3) if quarter >= 4 else turned
    features = samples.features.copy()
    features[draw.random(features.shape) < config.drop_column] = np.nan
    features[np.ix_(draw.random(rows) < config.drop_source, _SOURCE)] = np.nan
    features[draw.random(rows) < config.drop_late, EARLY:] = np.nan
    return seen, torch.from_numpy(features)


CHUNK = 512
INJECTED = 2000
_SOURCE = np.arange(len(NAMES)) >= len(COMMON)


@torch.inference_mode()
def _logits(network: nn.Module, ensemble: Ensemble, samples: Samples, source: bool = True) -> np.ndarray:
    """float32 (rows, classes) of one member; without the survey's own columns if `source` is false."""
    features = samples.features if source else np.where(_SOURCE, np.float32(np.nan), samples.features)
    read = ensemble.encoded(torch.from_numpy(features))
    found = np.empty((len(features), len(CLASSES)), np.float32)
    for first in range(0, len(found), CHUNK):
        part = slice(first, first + CHUNK)
        seen = images.views(samples.images[part], samples.valid[part])
        found[part] = network.eval()(seen, *(each[part] for each in read))[-1].numpy()
    return found
