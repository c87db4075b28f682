"""Train the `stamps` network: a few members, each with another fold of the objects held out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models import columns, images
from models.features import COMMON, NAMES, Scaling, packet_features
from models.manifest import Manifest
from models.stamps import ARCHITECTURE, CLASSES, Ensemble, Member, Stamps
from training import dataset, evaluate, fitting
from training.fitting import Progress, Schedule


@dataclass(frozen=True)
class Config:
    """configs/train-stamps.yaml documents each."""

    folds: int = 5
    epochs: int = 50
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    patience: int = 25
    validation: int = 8
    class_power: float = 0.5
    smoothing: float = 0.05
    drop_source: float = 0.3
    drop_column: float = 0.1
    noise: float = 0.3
    shift: int = 1
    width: int = 16
    hidden: int = 64
    dropout: float = 0.3

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

    def take(self, rows: np.ndarray) -> Samples:
        return Samples(
            self.images[rows], self.valid[rows], self.features[rows], self.labels[rows], self.groups[rows]
        )


def train(
    data: Path, out: Path, version: str, config: Config, seed: int, command: str, progress: Progress
) -> Manifest:
    """Train on `data`/stamps, write the version to `out`, return its manifest (metrics inside)."""
    fitting.seeded(seed)
    revision = fitting.code_revision()
    found = dataset.stamps(data)
    samples = Samples.of(found)
    fold = evaluate.folds(samples.groups, samples.labels, config.folds, seed)
    scaling = Scaling.fit(samples.features)
    network = Ensemble(config.folds, config.width, config.hidden, config.dropout)
    held_out = np.empty((len(samples.labels), len(CLASSES)), np.float32)
    blind = np.empty_like(held_out)
    for k in range(config.folds):
        test = samples.take(np.flatnonzero(fold == k))
        member = _member(
            samples.take(np.flatnonzero(fold != k)),
            scaling,
            config,
            seed + k,
            fitting.within(f"fold {k + 1}/{config.folds}", progress),
        )
        network.members[k].load_state_dict(member.state_dict())
        held_out[fold == k] = _logits(member, test, scaling)
        blind[fold == k] = _logits(member, test, scaling, source=False)
    network.temperature.fill_(evaluate.temperature(samples.labels, held_out))
    manifest = Manifest(
        name="stamps",
        version=version,
        architecture=ARCHITECTURE,
        classes=CLASSES,
        inputs=Stamps.inputs,
        hyperparameters={
            "members": config.folds,
            "width": config.width,
            "hidden": config.hidden,
            "dropout": config.dropout,
        },
        normalisation={"features": list(NAMES), **scaling.written()},
        calibration={
            "temperature": round(float(network.temperature), 6),
            "fitted_on": "held-out objects of all folds",
        },
        training=fitting.summary(vars(config), command, seed),
        data={
            "files": found.files,
            "rows": len(found),
            "objects": len(set(found.groups)),
            "left_out": found.left_out,
        },
        metrics=_metrics(samples.labels, held_out, blind, fold, config.folds),
        code_revision=revision,
        created=fitting.now(),
    )
    fitting.write_version(out, manifest, network)
    return manifest


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


def _member(samples: Samples, scaling: Scaling, config: Config, seed: int, progress: Progress) -> nn.Module:
    """Train one member; one part in `validation` of its objects only decides when to stop."""
    torch.manual_seed(seed)
    part = evaluate.folds(samples.groups, samples.labels, config.validation, seed)
    learn, check = samples.take(np.flatnonzero(part != 0)), samples.take(np.flatnonzero(part == 0))
    weights = fitting.class_weights(learn.labels, len(CLASSES), config.class_power)
    heavy = weights[check.labels]

    def validate(network: nn.Module) -> float:
        chances = evaluate.softmax(_logits(network, check, scaling))
        loss = -np.log(np.clip(chances[np.arange(len(heavy)), check.labels], 1e-9, 1))
        return float((heavy * loss).sum() / heavy.sum())

    draw = np.random.default_rng(seed)

    def batches(epoch: int) -> Iterator[tuple[tuple[torch.Tensor, ...], torch.Tensor]]:
        order = draw.permutation(len(learn.labels))
        for rows in np.array_split(order, steps):
            seen, numbers = _augmented(learn.take(rows), scaling, config, draw)
            yield (seen, numbers), torch.from_numpy(learn.labels[rows])

    steps = max(len(learn.labels) // config.batch, 1)
    network = Member(len(NAMES), config.width, config.hidden, config.dropout)
    return fitting.fit(
        network, config.schedule, batches, steps, validate, weights, config.smoothing, progress
    )


def _augmented(
    samples: Samples, scaling: Scaling, config: Config, draw: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Views and scaled columns of a batch: turned, shifted, noisy; some columns, or all of ZTF's, missing."""
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
    return seen, torch.from_numpy(scaling.apply(features))


_SOURCE = np.arange(len(NAMES)) >= len(COMMON)


@torch.inference_mode()
def _logits(network: nn.Module, samples: Samples, scaling: Scaling, source: bool = True) -> np.ndarray:
    """float32 (rows, classes) of one member; without the survey's own columns if `source` is false."""
    features = samples.features if source else np.where(_SOURCE, np.nan, samples.features)
    numbers = torch.from_numpy(scaling.apply(features))
    return network.eval()(images.views(samples.images, samples.valid), numbers).numpy()
