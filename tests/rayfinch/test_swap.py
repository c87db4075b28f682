"""The benchmark of changing versions: its versions, and its figures from the waits of alerts."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from models.contract import ModelError, open_model
from models.folders import read_aliases
from models.testing import alerts
from rayfinch.bench.swap import CHANGES, MODEL, NEXT, SHIPPED, SLOW_S, latencies, versions


def test_of_the_versions_one_is_broken_one_raises_and_one_is_slow(tmp_path: Path) -> None:
    folder = versions(tmp_path)
    assert read_aliases(folder / MODEL) == {"champion": SHIPPED}
    assert open_model(folder / MODEL / NEXT).version == NEXT
    with pytest.raises(ModelError, match=r"declares .* bytes and has"):
        open_model(folder / MODEL / "broken")
    raising, table = open_model(folder / MODEL / "raising"), alerts(3)
    answers = [raising.score(table) for _ in range(9)]
    assert all(len(answer) == 3 for answer in answers)
    with pytest.raises(RuntimeError, match="this is call 10"):
        raising.score(table)
    begin = time.monotonic()
    assert open_model(folder / MODEL / "slow").score(table).num_rows == 3
    assert time.monotonic() - begin >= 3 * SLOW_S


def test_the_excess_is_the_longest_wait_around_a_change_over_the_p99_before() -> None:
    sent = np.arange(0.0, 100.0, 0.1)
    waits = np.full(len(sent), 0.5)
    made = [20.0 + 15 * k for k in range(len(CHANGES))]
    waits[np.abs(sent - 36.0) < 0.01] = 0.9
    found = latencies(sent, waits, 0.0, made)
    assert found["latency_p99_before_s"] == 0.5
    assert found["latency_max_s"]["rollback"] == 0.9
    assert found["latency_max_s"]["promotion"] == 0.5
    assert found["excess_s"] == pytest.approx(0.4)
