"""Light curves: rise, decline, colour and repetition as their classes have them."""

from __future__ import annotations

import numpy as np
import pytest

from training.simulation.lightcurves import (
    SUPERNOVAE,
    Eclipsing,
    Passing,
    Pulsator,
    RandomWalk,
    Supernova,
    flux_of,
)

DAYS = np.linspace(-60, 200, 2601)
G, R = np.full(len(DAYS), 1), np.full(len(DAYS), 2)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize("kind", SUPERNOVAE)
def test_a_supernova_rises_to_its_peak_and_declines_later_in_r(rng, kind):
    star = Supernova.draw(rng, kind, 0.0, 18.0)
    g, r = star(DAYS, G, rng), star(DAYS, R, rng)
    assert r.max() == pytest.approx(flux_of(18.0), rel=0.02)
    assert r[0] < 0.05 * r.max()
    assert r[-1] < 0.5 * r.max()
    assert (r >= 0).all()
    late = DAYS[r.argmax()] + 30 < DAYS
    assert (g[late] / g.max() <= r[late] / r.max() + 1e-9).all(), "it gets redder"


def test_a_type_ii_has_a_plateau_and_a_type_ia_has_none(rng):
    def width(kind: str) -> float:
        light = Supernova.draw(rng, kind, 0.0, 18.0)(DAYS, R, rng)
        return float((light > 0.7 * light.max()).mean())

    assert np.mean([width("II") for _ in range(20)]) > 1.5 * np.mean([width("Ia") for _ in range(20)])


def test_pulsators_and_eclipses_repeat_and_change_sign_against_the_template(rng):
    mags = (16.5, 16.0, 15.8)
    for star in (Pulsator.draw(rng, mags), Eclipsing.draw(rng, mags)):
        light = star(DAYS, R, rng)
        assert np.allclose(star(DAYS + 7 * star.period, R, rng), light, atol=1e-6 * np.abs(light).max())
        assert light.min() < 0 < light.max()


def test_a_random_walk_has_its_scatter_and_its_time_scale(rng):
    walk = RandomWalk((18.0, 17.5, 17.3), tau=20.0, sigma=0.2)
    days = np.arange(20_000.0)
    light = walk(days, np.full(len(days), 2), rng)
    magnitudes = -2.5 * np.log10(1 + light / flux_of(17.5))
    assert magnitudes.std() == pytest.approx(0.2, rel=0.1)
    centred = magnitudes - magnitudes.mean()
    assert (centred[20:] * centred[:-20]).mean() / centred.var() == pytest.approx(np.exp(-1), abs=0.1)


def test_an_asteroid_passes_once(rng):
    days = np.array([1.0, 2.0, 3.0])
    assert Passing(18.0)(days, np.array([2, 2, 2]), rng)[:2].tolist() == [0.0, 0.0]
