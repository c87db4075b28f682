"""Columns as a network reads them: their place among quantiles, and whether they are there."""

from __future__ import annotations

import numpy as np
import torch

from models.encoding import Encoding


def fitted(values: np.ndarray, bins: int = 4) -> Encoding:
    encoding = Encoding(values.shape[1], bins)
    encoding.fit(values)
    return encoding


def encoded(encoding: Encoding, *values: float) -> list[list[float]]:
    return encoding(torch.tensor(values, dtype=torch.float32)[:, None]).numpy().round(2).tolist()


def test_a_value_fills_the_bins_below_it_and_part_of_its_own() -> None:
    encoding = fitted(np.linspace(0, 4, 401)[:, None])
    assert encoded(encoding, 0.0, 1.5, 4.0) == [[0, 0, 0, 0, 1], [1, 0.5, 0, 0, 1], [1, 1, 1, 1, 1]]


def test_what_is_missing_is_zero_everywhere_and_what_is_absurd_ends_at_the_edge() -> None:
    encoding = fitted(np.linspace(0, 4, 401)[:, None])
    assert encoded(encoding, np.nan, np.inf, 1e30, -1e30) == [[0] * 5, [0] * 5, [1] * 5, [0, 0, 0, 0, 1]]


def test_a_column_of_one_value_or_of_none_divides_by_nothing() -> None:
    values = np.column_stack([np.full(50, 7.0), np.full(50, np.nan)]).astype(np.float32)
    found = fitted(values)(torch.from_numpy(values))
    assert torch.isfinite(found).all()
    assert found[:, -2:].tolist() == [[1, 0]] * 50


def test_missing_values_do_not_move_the_quantiles() -> None:
    whole = np.random.default_rng(0).normal(size=(2000, 1)).astype(np.float32)
    holes = np.where(np.arange(4000)[:, None] % 2, np.nan, whole.repeat(2, axis=0)).astype(np.float32)
    assert torch.allclose(fitted(whole).edges, fitted(holes).edges)
