"""What a light curve looks like, in numbers that can be checked against made curves."""

from __future__ import annotations

import numpy as np
import pytest

from models.points import DETECTION, LIMIT, Points
from models.shapes import NAMES, shapes

G, R = 1, 2


def curve(mjd: np.ndarray, band: np.ndarray, level: np.ndarray, kind: np.ndarray | None = None) -> Points:
    """One light curve of decades of flux, at 1 per cent."""
    flux = 10.0 ** np.asarray(level, float)
    kind = np.full(len(mjd), DETECTION, np.int8) if kind is None else kind
    return Points(
        np.asarray(mjd, float), np.asarray(band, np.int8), flux, flux / 100, kind, np.array([0, len(mjd)])
    )


def joined(*curves: Points) -> Points:
    offsets = np.concatenate([[0], np.cumsum([len(one.mjd) for one in curves])])
    parts = (
        np.concatenate([getattr(c, n) for c in curves]) for n in ("mjd", "band", "flux", "flux_err", "kind")
    )
    return Points(*parts, offsets)


def told(points: Points) -> dict[str, float]:
    [found] = shapes(points)
    return dict(zip(NAMES, found.tolist(), strict=True))


@pytest.fixture
def supernova() -> Points:
    """Rises by 0.05 decades a day for 20 days in r, declines by 0.02; g peaks 4 days before, 0.1 brighter."""
    day = np.arange(0, 61, 2.0)
    red = 4 - np.where(day < 20, 0.05 * (20 - day), 0.02 * (day - 20))
    blue = 4.1 - np.where(day < 16, 0.05 * (16 - day), 0.02 * (day - 16))
    mjd = np.stack([day, day + 0.01]).T.ravel() + 60000
    return curve(mjd, np.tile([G, R], len(day)), np.stack([blue, red]).T.ravel())


def test_peak_rise_and_decline_are_those_of_the_curve(supernova: Points) -> None:
    found = told(supernova)
    assert found["red_peak"] == pytest.approx(4, abs=1e-4)
    assert found["blue_peak"] == pytest.approx(4.1, abs=1e-4)
    assert found["peak_colour"] == pytest.approx(0.1, abs=1e-4)
    assert found["peak_lag"] == pytest.approx(-4.01, abs=0.01)
    assert found["red_rise"] == pytest.approx(20, abs=0.02)
    assert found["red_decline"] == pytest.approx(40, abs=0.02)
    assert found["span"] == pytest.approx(np.log1p(60.01), abs=1e-3)


def test_slopes_and_colours_are_local(supernova: Points) -> None:
    found = told(supernova)
    assert found["red_slope_peak-10"] == pytest.approx(0.05, rel=0.2)
    assert found["red_slope_peak+20"] == pytest.approx(-0.02, rel=0.2)
    assert found["red_peak+20"] == pytest.approx(-0.4, abs=0.02)
    # In decline g is 4 days ahead: 0.1 brighter at its peak, and 0.08 fainter for the days.
    assert found["colour_peak+20"] == pytest.approx(0.02, abs=0.01)


def test_what_no_point_is_near_to_is_missing(supernova: Points) -> None:
    found = told(supernova)
    assert np.isnan(found["red_peak+100"])
    assert np.isnan(found["blue_gap"]), "there are no limits"


def test_limits_bound_the_explosion(supernova: Points) -> None:
    before = curve(
        np.array([59990.0, 59995.0]), np.array([R, R]), np.array([2.7, 2.4]), np.full(2, LIMIT, np.int8)
    )
    both = joined(before, supernova)
    found = told(Points(both.mjd, both.band, both.flux, both.flux_err, both.kind, both.offsets[[0, 2]]))
    depth = np.log10(5 * 10**2.4 / 100)
    assert found["red_gap"] == pytest.approx(np.log1p(5), abs=1e-3)
    assert found["red_gap_depth"] == pytest.approx(4 - depth, abs=1e-3)
    assert found["red_limits"] == pytest.approx(np.log(3), abs=1e-3)
    assert np.isnan(found["blue_gap"])


def test_one_point_is_enough_and_none_is_all_missing(supernova: Points) -> None:
    one = curve(np.array([60000.0]), np.array([R]), np.array([4.0]))
    found = told(one)
    assert found["peak"] == pytest.approx(4, abs=1e-4)
    assert found["span"] == 0
    empty = Points(*(np.empty(0, t) for t in (float, np.int8, float, float, np.int8)), np.array([0, 0]))
    [nothing] = shapes(empty)
    assert np.isnan(nothing[[NAMES.index(name) for name in ("peak", "span", "red_peak+20")]]).all()


def test_a_row_does_not_depend_on_its_neighbours(supernova: Points) -> None:
    faint = curve(np.array([1.0, 3.0]), np.array([G, R]), np.array([1.0, 1.5]))
    absurd = curve(np.array([0.0, 1e6]), np.array([-1, 5]), np.array([14.0, -5.0]))
    alone = shapes(supernova)
    for others in ((faint,), (absurd,), (absurd, faint)):
        np.testing.assert_array_equal(shapes(joined(*others, supernova))[-1:], alone)
