"""Train the `stamps` network: a few members, each with another fold of the objects held out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models import images
from models.features import NAMES
from models.manifest import Manifest
from models.stamps import ARCHITECTURE, CLASSES, EARLY, Ensemble, Member, Stamps
from models.trees import Trees
from training import artefacts, baseline, conformal, evaluate, fitting, frozen, simulated
from training.evaluation import evaluation
from training.fitting import Batch, Curve, Progress, Schedule, Trained
from training.folds import Folds
from training.members import Workers, trained
from training.samples import SOURCE, Gaps, Samples, turned
from training.trees import grown, joined


@dataclass(frozen=True)
class Config:
    """configs/train-stamps.yaml documents each."""

    folds: int = 5
    times: int = 3
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
    trees: int = 200
    depth: int = 4
    trees_rate: float = 0.1
    copies: int = 8
    simulated: int = 30000
    simulated_epochs: int = 10
    simulated_rate: float = 2e-3
    workers: int = 2
    gpu: float = 0.0

    @property
    def gaps(self) -> Gaps:
        return Gaps(self.drop_source, self.drop_late, self.drop_column)

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.epochs, self.batch, self.learning_rate, self.weight_decay, self.patience)


@dataclass(frozen=True)
class Learned:
    """One member and its trees, and what it says of objects that it never saw: logits (rows, classes).

    `blind`: without the survey's own columns.
    """

    network: Member
    trees: Trees
    curve: Curve
    held_out: np.ndarray
    blind: np.ndarray


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
        name: getattr(config, name)
        for name in ("bins", "width", "looked", "neurons", "dropout", "trees", "depth")
    }
    network = Ensemble(config.folds, **form)
    network.early.fit(samples.features[:, :EARLY])
    network.late.fit(samples.features[:, EARLY:])
    begin = _prepared(network, config, seed, progress) if config.simulated else None

    def learned(k: int, device: str, progress: Progress) -> Learned:
        learn, test = (samples.take(rows) for rows in folds.split(k))
        told = fitting.within(f"member {k + 1}/{folds.members}", progress)
        trees = _trees(learn, config, seed + k)
        member, curve = _member(learn, network, config, seed + k, told, begin, device)
        said = [
            logits(member, network, test, source) + votes(trees, test, source)[0] for source in (True, False)
        ]
        return Learned(member, trees, curve, *said)

    members = trained(folds.members, learned, Workers(config.workers, config.gpu), seed, progress)
    network.trees.load_state_dict(joined([one.trees for one in members[: config.folds]]))
    for kept, one in zip(network.members, members, strict=False):
        kept.load_state_dict(one.network.state_dict())
    held_out = folds.pooled([one.held_out for one in members])
    blind = folds.pooled([one.blind for one in members])
    network.temperature.fill_(evaluate.temperature(folds.truth, held_out))
    calibrated = evaluate.softmax(held_out, float(network.temperature))
    progress("gradient boosting on the same columns and folds")
    trees = folds.boosted(samples.features, samples.labels, len(CLASSES), config.class_power, seed)
    real = artefacts.sifted(folds.truth, calibrated, CLASSES)
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
                "least": round(conformal.threshold(folds.truth, calibrated), 6),
            },
        },
        training=fitting.summary(vars(config), command, seed),
        data=found.summary(),
        metrics={
            **_metrics(folds, held_out, blind),
            "conformal": conformal.held_out(folds.truth, calibrated, folds.part),
            "real_bogus": real,
            "baseline": baseline.against(folds.truth, folds.groups, trees, calibrated, CLASSES),
        },
        code_revision=revision,
        created=fitting.now(),
    )
    fitting.write_version(out, manifest, network)
    said: dict[str, Any] = {"model": f"{manifest.name}@{version}, held out"}
    said |= evaluation(folds.truth, folds.groups, calibrated, CLASSES)
    return Trained(manifest, said, folds.truth, calibrated, [one.curve for one in members])


def _metrics(folds: Folds, logits: np.ndarray, blind: np.ndarray) -> dict[str, Any]:
    """Of each alert by members that never saw its object; the mean of all cannot be judged here."""
    warm = evaluate.held_out_temperatures(folds.truth, logits, folds.part)[:, None]
    chances = evaluate.softmax(logits / warm)
    return {
        "method": folds.method,
        "validated_on": ["ztf"],
        "held_out": evaluate.report(folds.truth, chances, CLASSES),
        "macro_f1_of_times": folds.of_times(logits.argmax(axis=1), CLASSES),
        "macro_f1_without_agn": round(evaluate.macro_f1_without(folds.truth, chances, CLASSES, "AGN"), 4),
        "held_out_without_source_columns": evaluate.report(
            folds.truth, evaluate.softmax(blind / warm), CLASSES
        ),
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


def _trees(samples: Samples, config: Config, seed: int) -> Trees:
    """One member's, from the alerts as they are and `copies` of them with gaps; not of the late columns."""
    draw = np.random.default_rng(seed)
    views = [samples.features, *(config.gaps.made(samples.features, draw) for _ in range(config.copies))]
    return grown(
        [features[:, :EARLY] for features in views],
        samples.labels,
        len(CLASSES),
        trees=config.trees,
        depth=config.depth,
        rate=config.trees_rate,
        power=config.class_power,
        seed=seed,
    )


def _member(
    samples: Samples,
    ensemble: Ensemble,
    config: Config,
    seed: int,
    progress: Progress,
    begin: Member | None = None,
    device: str = "cpu",
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
        return evaluate.tempered_loss(check.labels, logits(network, ensemble, check), heavy)

    draw = np.random.default_rng(seed)

    def batches(epoch: int) -> Iterator[Batch]:
        order = draw.permutation(len(learn.labels))
        for rows in np.array_split(order, steps):
            some, labels = learn.take(rows), learn.labels[rows]
            seen = turned(some, config.shift, config.noise, draw)
            features = torch.from_numpy(config.gaps.made(some.features, draw))
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
    return fitting.fit(network, config.schedule, batches, steps, validate, config.smoothing, progress, device)


CHUNK = 512
INJECTED = 2000


@torch.inference_mode()
def logits(network: nn.Module, ensemble: Ensemble, samples: Samples, source: bool = True) -> np.ndarray:
    """float32 (rows, classes) of one member but its trees; if not `source`, without the survey's columns."""
    read = ensemble.encoded(torch.from_numpy(_columns(samples, source)))
    found = np.empty((len(samples.labels), len(CLASSES)), np.float32)
    for first in range(0, len(found), CHUNK):
        part = slice(first, first + CHUNK)
        seen = images.views(samples.images[part], samples.valid[part])
        found[part] = network.eval()(seen, *(each[part] for each in read))[-1].numpy()
    return found


def votes(trees: Trees, samples: Samples, source: bool = True) -> np.ndarray:
    """float32 (members, rows, classes): what the trees add to the logits."""
    return trees(torch.from_numpy(_columns(samples, source))[:, :EARLY]).numpy()


def _columns(samples: Samples, source: bool) -> np.ndarray:
    return samples.features if source else np.where(SOURCE, np.float32(np.nan), samples.features)
