"""Train the `fusion` network: what a history tells of its source, and how much the parts weigh."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from models import features, lightcurve, shapes, stamps
from models.fusion import ARCHITECTURE, CLASSES, KINDS, PAST, PASTS, SUPERNOVA, Fusion, Pool, nine
from models.manifest import Manifest, read_manifest
from models.points import MOST_POINTS, points
from models.trees import Trees
from models.weights import network as weights_of
from training import artefacts, baseline, conformal, evaluate, fitting
from training.cuts import Cuts
from training.evaluation import evaluation
from training.fitting import Progress, Trained
from training.histories import fused
from training.paired import paired
from training.parts import Parts, check_data, of_parts
from training.trees import grown, joined


@dataclass(frozen=True)
class Config:
    """configs/train-fusion.yaml documents each."""

    class_power: float = 0.5
    trees: int = 150
    depth: int = 4
    trees_rate: float = 0.08
    copies: int = 4


def train(
    data: Path,
    out: Path,
    version: str,
    config: Config,
    seed: int,
    command: str,
    progress: Progress,
    of_stamps: Path,
    of_lightcurve: Path,
) -> Trained:
    """Train on the alerts of `data`/stamps that have a history, with the two versions' networks.

    Raises ModelError where they learned from other data: nobody could tell which objects they never saw.
    """
    fitting.seeded(seed)
    revision = fitting.code_revision()
    found = fused(data)
    images, curves = read_manifest(of_stamps), read_manifest(of_lightcurve)
    for manifest, folder in ((images, of_stamps), (curves, of_lightcurve)):
        check_data(manifest, folder, found)
    form: dict[str, Any] = {
        "members": int(images.hyperparameters["members"]),
        "trees": config.trees,
        "depth": config.depth,
        "of_stamps": dict(images.hyperparameters),
        "of_lightcurve": dict(curves.hyperparameters),
    }
    network = Pool(**form)
    network.stamps = weights_of(lambda: stamps.Ensemble(**images.hyperparameters), of_stamps)
    network.types = weights_of(lambda: lightcurve.Ensemble(**curves.hyperparameters), of_lightcurve)
    progress("what both networks say of objects that they never saw")
    parts = of_parts(network, found, images, curves, data)
    labels = np.array([CLASSES.index(label) for label in found.labels])
    pasts = _pasts(network, found.table, parts, config, seed, progress)
    chances = _weighed(network, parts, pasts)
    numbers = np.concatenate([features.packet_features(found.table), parts.shape], axis=1)
    progress("gradient boosting on the same columns, shapes and folds")
    trees = baseline.boosted(numbers, labels, parts.fold, len(CLASSES), config.class_power, seed)
    manifest = Manifest(
        name="fusion",
        version=version,
        architecture=ARCHITECTURE,
        classes=CLASSES,
        inputs=Fusion.inputs,
        hyperparameters=form,
        normalisation={"features": list(features.NAMES), "shape": list(shapes.NAMES)},
        calibration={
            "weights": [round(float(each), 6) for each in network.weight],
            "fitted_on": "held-out objects of all folds",
            "conformal": {
                "coverage": conformal.COVERAGE,
                "least": round(conformal.threshold(labels, chances), 6),
            },
        },
        training=fitting.summary(vars(config), command, seed)
        | {"parts": [f"{each.name}@{each.version}" for each in (images, curves)]},
        data=found.summary(),
        metrics={
            "method": f"{form['members']}-fold cross-validation by object, with the parts' members that "
            "never saw it and the weights of the other folds",
            "validated_on": ["ztf"],
            "held_out": evaluate.report(labels, chances, CLASSES),
            "conformal": conformal.held_out(labels, chances, parts.fold),
            "real_bogus": artefacts.sifted(labels, chances, CLASSES),
            "baseline": baseline.against(labels, found.groups, trees, chances, CLASSES),
            "where_both_exist": _beside(parts, pasts, chances, labels, found.groups),
        },
        code_revision=revision,
        created=fitting.now(),
    )
    fitting.write_version(out, manifest, network)
    said: dict[str, Any] = {"model": f"{manifest.name}@{manifest.version}, held out"}
    said |= evaluation(labels, found.groups, chances, CLASSES)
    return Trained(manifest, said, labels, chances, [])


def _pasts(
    network: Pool, table: pa.Table, parts: Parts, config: Config, seed: int, progress: Progress
) -> np.ndarray:
    """Grow each member's trees of histories; their logits (rows, 4) of those that they never saw."""
    history = points(table, MOST_POINTS)
    labels = np.array(PAST)[parts.truth]
    found = np.empty((len(labels), len(PASTS)), np.float32)
    members: list[Trees] = []
    count = int(parts.fold.max()) + 1
    for k in range(count):
        progress(f"member {k + 1}/{count}, {config.trees} trees")
        draw = np.random.default_rng(seed + k)
        rows = np.flatnonzero(parts.known & (parts.fold != k))
        seen = history.take(rows)
        views = [seen, *(Cuts().made(seen, draw) for _ in range(config.copies))]
        members.append(
            grown(
                [shapes.shapes(curves) for curves in views],
                labels[rows],
                len(PASTS),
                trees=config.trees,
                depth=config.depth,
                rate=config.trees_rate,
                power=config.class_power,
                seed=seed + k,
            )
        )
        here = parts.fold == k
        found[here] = members[k](torch.from_numpy(parts.shape[here]))[0].numpy()
    network.past.load_state_dict(joined(members))
    return found


def _weighed(network: Pool, parts: Parts, pasts: np.ndarray) -> np.ndarray:
    """Fit temperature and weights; probabilities of CLASSES (rows, 9), each fold by those of the others."""
    chances = np.empty((len(pasts), len(CLASSES)), np.float32)
    for k in np.unique(parts.fold):
        here = parts.fold == k
        _weigh(network, parts, pasts, ~here)
        chances[here] = _answers(network, parts, pasts)[here]
    _weigh(network, parts, pasts, np.ones(len(pasts), bool))
    return chances


def _weigh(network: Pool, parts: Parts, pasts: np.ndarray, rows: np.ndarray) -> None:
    """Fit them on some rows, where there are both, by the log loss of what no part saw."""
    both = rows & parts.known
    network.past_temperature.fill_(evaluate.temperature(np.array(PAST)[parts.truth[both]], pasts[both]))
    chances = evaluate.softmax(pasts[both], float(network.past_temperature))
    network.usual_kinds.copy_(torch.from_numpy(parts.kinds[rows].mean(axis=0)))
    network.usual_pasts.copy_(torch.from_numpy(chances.mean(axis=0)))

    def loss(seen: float, past: float) -> float:
        network.weight.copy_(torch.tensor([seen, past]))
        return evaluate.log_loss(parts.truth[both], _pooled(network, parts, pasts)[both])

    seen = past = 1.0
    for _ in range(4):
        seen = evaluate.least(partial(loss, past=past))
        past = evaluate.least(partial(loss, seen))
    network.weight.copy_(torch.tensor([seen, past]))


def _pooled(network: Pool, parts: Parts, pasts: np.ndarray) -> np.ndarray:
    """Probabilities of the kinds (rows, 5)."""
    there = torch.ones(len(pasts), 1, dtype=torch.bool), torch.from_numpy(parts.known[:, None])
    chances = evaluate.softmax(pasts, float(network.past_temperature))
    kinds, past = (torch.from_numpy(np.asarray(each, np.float32)) for each in (parts.kinds, chances))
    return network.pooled(kinds, past, *there).numpy()


def _answers(network: Pool, parts: Parts, pasts: np.ndarray) -> np.ndarray:
    """Probabilities of CLASSES (rows, 9)."""
    kinds = torch.from_numpy(_pooled(network, parts, pasts))
    return nine(kinds, torch.from_numpy(np.asarray(parts.types, np.float32))).numpy()


def _beside(
    parts: Parts,
    pasts: np.ndarray,
    chances: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
) -> dict[str, Any]:
    """Fusion and its parts on the alerts that have both: of five kinds, of all classes; a history alone."""
    here, truth = parts.known, parts.truth
    kinds = np.stack(
        [chances[:, len(KINDS) - 1 :].sum(axis=1) if i == SUPERNOVA else chances[:, CLASSES.index(name)]
         for i, name in enumerate(KINDS)], axis=1,
    )  # fmt: skip
    nothing = np.zeros((len(labels), len(KINDS)), np.float32)
    nothing[:, SUPERNOVA] = 1
    types = nine(torch.from_numpy(nothing), torch.from_numpy(np.asarray(parts.types, np.float32))).numpy()
    past = np.array(PAST)[truth]
    return {
        "alerts": int(here.sum()),
        "objects": len(set(groups[here])),
        "kinds": _gain(truth[here], groups[here], parts.kinds[here], kinds[here], KINDS)
        | {
            f"{name}_without_agn": round(evaluate.macro_f1_without(truth[here], said[here], KINDS, "AGN"), 4)
            for name, said in (("part", parts.kinds), ("fusion", kinds))
        },
        "all_classes_against_lightcurve": _gain(
            labels[here], groups[here], types[here], chances[here], CLASSES
        ),
        "history_alone": round(evaluate.macro_f1(past[here], pasts[here].argmax(axis=1), PASTS), 4),
    }


def _gain(
    truth: np.ndarray, groups: np.ndarray, old: np.ndarray, new: np.ndarray, classes: tuple[str, ...]
) -> dict[str, Any]:
    found = paired(truth, groups, old, new)
    return {
        "part": round(evaluate.macro_f1(truth, old.argmax(axis=1), classes), 4),
        "fusion": round(evaluate.macro_f1(truth, new.argmax(axis=1), classes), 4),
        "gain": [round(float(each), 4) for each in (found.difference, found.lower, found.upper)],
    }
