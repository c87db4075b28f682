"""From the history's lists to flat light curves, and to what the network reads of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from models.manifest import ModelError
from models.points import DETECTION, FORCED, LIMIT, points
from models.testing import POINT

LIMIT_POINT = {"mjd": 1.0, "band": "g", "flux": None, "flux_err": 20.0, "kind": "limit"}
FORCED_POINT = {"mjd": 2.0, "band": "r", "flux": -5.0, "flux_err": 10.0, "kind": "forced"}
BAD_POINT = {"mjd": 3.0, "band": "r", "flux": None, "flux_err": 10.0, "kind": "detection"}


def table(*histories: list[dict], flux: float | None = 100.0) -> pa.Table:
    rows = len(histories)
    return pa.table(
        {
            "history": pa.array(histories, pa.list_(POINT)),
            "mjd": pa.array([4.0] * rows),
            "band": pa.array(["g"] * rows),
            "flux": pa.array([flux] * rows, pa.float64()),
            "flux_err": pa.array([10.0] * rows),
        }
    )


def test_the_own_detection_comes_last_and_unusable_points_are_left_out() -> None:
    found = points(table([LIMIT_POINT, FORCED_POINT, BAD_POINT], []), 10)
    assert found.offsets.tolist() == [0, 3, 4]
    assert found.mjd.tolist() == [1, 2, 4, 4]
    assert found.flux.tolist() == [0, -5, 100, 100]
    assert found.kind.tolist() == [LIMIT, FORCED, DETECTION, DETECTION]
    assert found.band.tolist() == [1, 2, 1, 1]


def test_of_a_long_history_the_latest_points_count() -> None:
    history = [{**FORCED_POINT, "mjd": i / 100} for i in range(300)]
    assert points(table(history, []), 10).mjd.tolist() == [i / 100 for i in range(291, 300)] + [4.0, 4.0]


def test_an_alert_without_any_usable_point_has_none() -> None:
    assert points(table([], [LIMIT_POINT], flux=None), 10).offsets.tolist() == [0, 0, 1]


def test_sliced_chunked_and_null_histories_are_read_alike() -> None:
    whole = table([LIMIT_POINT], [FORCED_POINT, FORCED_POINT], [], [LIMIT_POINT])
    wanted = points(whole, 10).take(np.array([1, 2, 3]))
    chunked = pa.concat_tables([whole.slice(1, 1), whole.slice(2)])
    for part in (whole.slice(1), chunked):
        found = points(part, 10)
        assert found.mjd.tolist() == wanted.mjd.tolist()
        assert found.offsets.tolist() == wanted.offsets.tolist()
    null = whole.set_column(0, "history", pa.array([[LIMIT_POINT], None, [], None], pa.list_(POINT)))
    assert points(null, 10).offsets.tolist() == [0, 2, 3, 4, 5]


def test_a_history_that_is_no_list_of_points_is_an_error() -> None:
    with pytest.raises(ModelError, match="not a list of points"):
        points(table([]).set_column(0, "history", pa.array(["text"])), 10)
    with pytest.raises(ModelError, match="lacks the column 'flux'"):
        points(table([]).drop_columns("flux"), 10)
