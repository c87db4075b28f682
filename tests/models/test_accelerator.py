"""Networks on a GPU: they say what they say on a CPU, and each pass is one launch."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pytest
import torch

from models import accelerator
from models.contract import Model, open_model, shipped_version
from models.testing import alerts
from models.variants import AGREEMENT

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def matrix(answer: pa.Table) -> np.ndarray:
    return np.stack([column.to_numpy() for column in answer.columns], axis=1)


def served(name: str, device: str) -> Model:
    return open_model(shipped_version(name), device)


def test_a_pass_is_filled_with_its_first_row() -> None:
    given = torch.tensor([[1.0], [2.0]])
    assert accelerator.filled(given, 4).tolist() == [[1.0], [2.0], [1.0], [1.0]]
    assert accelerator.filled(given, 2) is given


@pytest.mark.parametrize(("length", "room"), [(1, 16), (16, 16), (17, 32), (100, 128), (256, 256)])
def test_a_few_lengths_stand_for_all(length: int, room: int) -> None:
    assert accelerator.rounded(length) == room


def test_answers_of_passes_come_back_as_one() -> None:
    answers = [torch.ones(2, 5), torch.zeros(1, 5, dtype=torch.bfloat16)]
    assert accelerator.received(answers).sum(axis=1).tolist() == [5, 5, 0]


@gpu
@pytest.mark.parametrize("name", ["stamps", "lightcurve", "fusion"])
def test_the_scores_are_those_of_the_cpu(name: str) -> None:
    table = alerts(700)
    on_gpu, on_cpu = (matrix(served(name, device).score(table)) for device in ("cuda", "cpu"))
    assert np.array_equal(np.isnan(on_gpu), np.isnan(on_cpu))
    assert np.nanmax(np.abs(on_gpu - on_cpu)) <= AGREEMENT


@gpu
def test_a_recorded_call_says_the_same_for_every_input_and_shape() -> None:
    layer = torch.nn.Linear(8, 3).eval().to("cuda")
    recorded = accelerator.Recorded(layer)
    with torch.inference_mode():
        for rows in (4, 9, 4, 9):
            given = torch.randn(rows, 8, device="cuda")
            assert torch.equal(recorded(given), layer(given))


@gpu
def test_more_shapes_than_are_kept_are_computed_all_the_same() -> None:
    layer = torch.nn.Linear(8, 3).eval().to("cuda")
    recorded = accelerator.Recorded(layer)
    with torch.inference_mode():
        for rows in range(1, recorded.MOST + 5):
            given = torch.randn(rows, 8, device="cuda")
            assert torch.allclose(recorded(given), layer(given), atol=1e-6)


@gpu
def test_blocks_that_are_scored_at_once_do_not_mix() -> None:
    model = served("stamps", "cuda")
    blocks = [alerts(300).slice(first, 100) for first in (0, 100, 200)] * 4
    wanted = [matrix(model.score(block)) for block in blocks]
    found: dict[int, np.ndarray] = {}

    def score(i: int) -> None:
        found[i] = matrix(model.score(blocks[i]))

    threads = [threading.Thread(target=score, args=(i,)) for i in range(len(blocks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, scores in enumerate(wanted):
        assert np.allclose(found[i], scores, atol=1e-5, equal_nan=True)
