"""Boosted trees for a network's member: grown by CatBoost (Prokhorenkova et al. 2018), kept as tensors."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from catboost import CatBoostClassifier

from models.trees import Trees
from training.fitting import class_weights

BORDERS = 64  # a column
ROWS = 0.8  # share of the rows that a tree is grown from
COLUMNS = 0.2  # share of the columns that a question is chosen from
REGULARISATION = 12
NEVER = torch.finfo(torch.float32).max
ABSENT = -10.0  # logit of a class that no row has


def grown(
    views: Sequence[np.ndarray],
    labels: np.ndarray,
    classes: int,
    *,
    trees: int,
    depth: int,
    rate: float,
    power: float,
    seed: int,
) -> Trees:
    """The trees of one member, from views (rows, columns) of the same rows, and class indices (rows,).

    `power` weighs rare classes. On one thread: the same seed gives the same trees.
    """
    heavy = np.tile(class_weights(labels, classes, power)[labels], len(views))
    booster = CatBoostClassifier(
        iterations=trees,
        depth=depth,
        learning_rate=rate,
        l2_leaf_reg=REGULARISATION,
        rsm=COLUMNS,
        bootstrap_type="Bernoulli",
        subsample=ROWS,
        border_count=BORDERS,
        loss_function="MultiClass",
        random_seed=seed,
        thread_count=1,
        allow_writing_files=False,
        verbose=False,
    )
    booster.fit(np.concatenate(views), np.tile(labels, len(views)), sample_weight=heavy)
    with tempfile.TemporaryDirectory() as room:
        path = Path(room, "trees.json")
        booster.save_model(str(path), format="json")
        written = json.loads(path.read_text())
    called = torch.from_numpy(booster.classes_.astype(np.int64))
    found = Trees(1, trees, depth, classes)
    found.border.fill_(NEVER)  # of a tree with fewer questions the rest is answered by no
    for i, tree in enumerate(written["oblivious_trees"]):
        for level, question in enumerate(tree["splits"] or []):
            found.feature[level, 0, i] = question["float_feature_index"]
            found.border[level, 0, i] = question["border"]
        said = torch.tensor(tree["leaf_values"], dtype=torch.float32).view(-1, len(called))
        found.leaves[0, i, : len(said), called] = said
    found.base.fill_(ABSENT)
    found.base[0, called] = torch.tensor(written["scale_and_bias"][1], dtype=torch.float32)
    return found


def joined(members: Sequence[Trees]) -> dict[str, torch.Tensor]:
    """The state of Trees that have these members."""
    return {
        name: torch.cat(
            [getattr(one, name) for one in members], dim=1 if name in ("feature", "border") else 0
        )
        for name in ("feature", "border", "leaves", "base")
    }
