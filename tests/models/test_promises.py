"""The contract's promises, by the harness of `models.testing`, on both networks and on a double."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from models.contract import Model, open_model, shipped_version
from models.doubles import Double
from models.testing import (
    PROMISES,
    alerts,
    answers_in_shape,
    every_input_matters,
    ignores_neighbours,
    values,
)


@pytest.fixture(scope="module", params=["stamps", "lightcurve", "fusion"])
def network(request: pytest.FixtureRequest) -> Model:
    return open_model(shipped_version(request.param))


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_networks_keep_each_promise(network: Model, promise) -> None:
    promise(network, alerts(70))


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_the_double_keeps_each_promise_but_one(promise) -> None:
    """It says the same of every alert, whatever it reads."""
    if promise is every_input_matters:
        with pytest.raises(AssertionError, match="declared, but moves no score: flux"):
            promise(Double(), alerts(10))
    else:
        promise(Double(), alerts(10))


def test_the_double_counts_and_raises() -> None:
    double = Double(probabilities=(0.5, 0.5))
    assert values(double.score(alerts(3))).tolist() == [[0.5, 0.5]] * 3
    assert double.asked == [3]
    with pytest.raises(RuntimeError, match="as told"):
        Double(raises=RuntimeError("as told")).score(alerts(1))


class Batchy(Double):
    """Breaks a promise: an alert's score depends on how many came with it."""

    def score(self, table: pa.Table) -> pa.Table:
        part = 1 / (1 + len(table))
        return pa.table(
            {"yes": np.full(len(table), part, np.float32), "no": np.full(len(table), 1 - part, np.float32)}
        )


def test_the_harness_finds_a_model_that_breaks_its_promises() -> None:
    with pytest.raises(AssertionError, match=r"one alert at a time|two chunks"):
        ignores_neighbours(Batchy(), alerts(10))
    with pytest.raises(AssertionError, match="sum to one"):
        answers_in_shape(Double(probabilities=(0.5, 0.1)), alerts(10))
