"""Boosted trees for a network's member: grown by CatBoost (Prokhorenkova et al. 2018), kept as tensors."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from catboost import CatBoostClassifier

from models.trees import Trees

BORDERS = 64  # a column
ROWS = 0.8  # share of the rows that a tree is grown from
COLUMNS = 0.2  # share of the columns that a question is chosen from
REGULARISATION = 12
NEVER = torch.finfo(torch.float32).max
ABSENT = -10.0  # logit of a class that no row has


def grow(
    trees: Trees,
    member: int,
    values: np.ndarray,
    labels: np.ndarray,
    heavy: np.ndarray,
    rate: float,
    seed: int,
) -> None:
    """Fill one member of `trees` from columns (rows, columns), class indices and weights (rows,).

    On one thread: the same seed gives the same trees.
    """
    _, count, leaves, _ = trees.leaves.shape
    booster = CatBoostClassifier(
        iterations=count,
        depth=leaves.bit_length() - 1,
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
    booster.fit(values, labels, sample_weight=heavy)
    with tempfile.TemporaryDirectory() as room:
        path = Path(room, "trees.json")
        booster.save_model(str(path), format="json")
        grown = json.loads(path.read_text())
    called = torch.from_numpy(booster.classes_.astype(np.int64))
    trees.border[:, member] = NEVER  # of a tree with fewer questions the rest is answered by no
    trees.feature[:, member], trees.leaves[member] = 0, 0
    for i, tree in enumerate(grown["oblivious_trees"]):
        for level, question in enumerate(tree["splits"] or []):
            trees.feature[level, member, i] = question["float_feature_index"]
            trees.border[level, member, i] = question["border"]
        said = torch.tensor(tree["leaf_values"], dtype=torch.float32).view(-1, len(called))
        trees.leaves[member, i, : len(said), called] = said
    trees.base[member] = ABSENT
    trees.base[member, called] = torch.tensor(grown["scale_and_bias"][1], dtype=torch.float32)
