"""Light curves: difference flux (nJy: what is there now minus what the template has) by time and band.

Every class draws its parameters from a random generator and is then a function of times (days, any zero
point) and bands (ZTF's fid: 1 g, 2 r, 3 i). A random walk is drawn when it is asked: ask once for all times
of an object.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

AB_NJY = 3631e9


def flux_of(mag: Any) -> Any:
    """nJy of an AB magnitude."""
    return AB_NJY * 10.0 ** (-0.4 * np.asarray(mag))


class LightCurve(Protocol):
    def __call__(self, days: Floats, fid: Ints, rng: np.random.Generator) -> Floats: ...


# Shapes of supernovae after Villar et al. 2019 (ApJ 884, 83), eq. 1: rise time, length and slope of the
# plateau, decline time (days) in r; how much faster g declines; colour g - r at the peak. Typical, rounded.
SUPERNOVAE: dict[str, tuple[float, float, float, float, float, float]] = {
    "Ia": (4.0, 12.0, 0.008, 22.0, 1.6, 0.05),
    "II": (2.0, 85.0, 0.002, 12.0, 1.2, 0.2),
    "Ibc": (4.0, 8.0, 0.010, 16.0, 1.6, 0.5),
    "IIn": (8.0, 40.0, 0.006, 50.0, 1.2, 0.1),
    "SLSN-I": (15.0, 30.0, 0.005, 45.0, 1.4, -0.1),
}


@dataclass(frozen=True)
class Supernova:
    """`begin` is when the rise is half done; `peak` the r magnitude of the maximum."""

    kind: str
    begin: float
    peak: float
    rise: float
    plateau: float
    slope: float
    decline: float
    faster: float
    colour: float

    @classmethod
    def draw(cls, rng: np.random.Generator, kind: str, begin: float, peak: float) -> Supernova:
        rise, plateau, slope, decline, faster, colour = SUPERNOVAE[kind]
        rise, plateau, slope, decline = np.array([rise, plateau, slope, decline]) * rng.lognormal(0, 0.2, 4)
        slope = min(slope, 0.7 / plateau)
        return cls(kind, begin, peak, rise, plateau, slope, decline, faster, colour + rng.normal(0, 0.1))

    def __call__(self, days: Floats, fid: Ints, rng: np.random.Generator) -> Floats:
        grid = np.linspace(0, self.plateau + 5 * self.rise, 200)
        out = np.empty(len(days))
        for band in (1, 2, 3):
            here = fid == band
            if here.any():
                top = self._shape(grid, band).max()
                peak = self.peak + {1: self.colour, 2: 0.0, 3: 0.1 - self.colour / 2}[band]
                out[here] = flux_of(peak) * self._shape(days[here] - self.begin, band) / top
        return out

    def _shape(self, t: Floats, band: int) -> Floats:
        faster = self.faster if band == 1 else 1.0
        slope = self.slope * faster
        sigmoid = 1.0 / (1.0 + np.exp(np.clip(-t / self.rise, -50, 50)))
        early = 1.0 - slope * np.minimum(t, self.plateau)
        late = np.exp(-np.maximum(t - self.plateau, 0.0) * faster / self.decline)
        return np.maximum(early, 0.05) * late * sigmoid


@dataclass(frozen=True)
class Pulsator:
    """A pulsating star: a sawtooth of a few harmonics (RR Lyrae, Cepheids) or a sine (long periods)."""

    kind: str
    mags: tuple[float, float, float]  # mean g, r, i
    period: float
    amplitude: float  # peak to peak in r, magnitudes
    phase: float
    harmonics: int
    template: float  # mean flux of the template over the mean flux of the star

    @classmethod
    def draw(cls, rng: np.random.Generator, mags: tuple[float, float, float]) -> Pulsator:
        kind = str(rng.choice(["RRL", "CEP", "LPV"], p=[0.5, 0.15, 0.35]))
        low, high = {"RRL": (0.35, 0.75), "CEP": (2.0, 30.0), "LPV": (80.0, 400.0)}[kind]
        smallest, largest = {"RRL": (0.3, 1.0), "CEP": (0.3, 0.9), "LPV": (0.4, 2.5)}[kind]
        period = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        template = rng.normal(1.0, 0.15 if kind == "LPV" else 0.03)
        harmonics = 1 if kind == "LPV" else 4
        return cls(
            kind, mags, period, rng.uniform(smallest, largest), rng.random(), harmonics, float(template)
        )

    def __call__(self, days: Floats, fid: Ints, rng: np.random.Generator) -> Floats:
        turn = days / self.period + self.phase
        wave = sum(np.sin(2 * np.pi * k * turn) / k**1.2 for k in range(1, self.harmonics + 1))
        mean = flux_of(np.array(self.mags)[fid - 1])
        size = self.amplitude * np.array([1.35, 1.0, 0.8])[fid - 1]
        return mean * (10.0 ** (-0.4 * size * wave / 2.2) - self.template)


@dataclass(frozen=True)
class Eclipsing:
    """An eclipsing binary: mostly constant, with a deep and a shallower dip each period."""

    mags: tuple[float, float, float]
    period: float
    depth: float  # fraction of the light that the deeper eclipse takes
    shallow: float
    width: float  # of the eclipses, in periods
    phase: float
    kind: str = "EB"

    @classmethod
    def draw(cls, rng: np.random.Generator, mags: tuple[float, float, float]) -> Eclipsing:
        period, depth = float(np.exp(rng.uniform(np.log(0.25), np.log(6.0)))), rng.uniform(0.15, 0.75)
        return cls(mags, period, depth, depth * rng.uniform(0.3, 0.9), rng.uniform(0.03, 0.09), rng.random())

    def __call__(self, days: Floats, fid: Ints, rng: np.random.Generator) -> Floats:
        turn = (days / self.period + self.phase) % 1.0
        first, second = np.minimum(turn, 1 - turn), np.abs(turn - 0.5)
        light = -self.depth * np.exp(-0.5 * (first / self.width) ** 2)
        light -= self.shallow * np.exp(-0.5 * (second / self.width) ** 2)
        # The template is the mean of some twenty nights, eclipses among them.
        mean = (self.depth + self.shallow) * self.width * np.sqrt(2 * np.pi)
        return flux_of(np.array(self.mags)[fid - 1]) * (light + mean)


@dataclass(frozen=True)
class RandomWalk:
    """An active nucleus: a damped random walk in magnitudes (MacLeod et al. 2010, ApJ 721, 1014)."""

    mags: tuple[float, float, float]
    tau: float  # days
    sigma: float  # long-term scatter, magnitudes
    now: float | None = None  # magnitudes from the mean at the last of the times; drawn when None
    kind: str = "AGN"

    @classmethod
    def draw(cls, rng: np.random.Generator, mags: tuple[float, float, float]) -> RandomWalk:
        sigma = rng.uniform(0.08, 0.3)
        # An alert means that it is not at its mean.
        now = sigma * rng.uniform(0.7, 2.0) * rng.choice([-1, 1])
        return cls(mags, float(np.exp(rng.uniform(np.log(80), np.log(600)))), sigma, float(now))

    def __call__(self, days: Floats, fid: Ints, rng: np.random.Generator) -> Floats:
        order = np.argsort(-days)
        walk = np.empty(len(days))
        value = rng.normal(0, self.sigma) if self.now is None else self.now
        before = days[order[0]] if len(days) else 0.0
        for i in order:  # the walk looks the same backwards
            keep = np.exp(-(before - days[i]) / self.tau)
            value = value * keep + self.sigma * np.sqrt(1 - keep**2) * rng.normal()
            walk[i], before = value, days[i]
        size = np.array([1.1, 1.0, 0.9])[fid - 1]
        return flux_of(np.array(self.mags)[fid - 1]) * (10.0 ** (-0.4 * size * walk) - 1.0)


@dataclass(frozen=True)
class Passing:
    """A minor planet: at this place once, at the last of the times."""

    mag: float
    kind: str = "asteroid"

    def __call__(self, days: Floats, fid: Ints, rng: np.random.Generator) -> Floats:
        colour = np.array([0.25, -0.25, -0.4])[fid - 1]
        return np.where(days == days.max(initial=-np.inf), flux_of(self.mag + colour), 0.0)


@dataclass(frozen=True)
class Nothing:
    """No light at all: what the survey saw is an artefact."""

    kind: str = "bogus"
    mags: tuple[float, ...] = field(default=())

    def __call__(self, days: Floats, fid: Ints, rng: np.random.Generator) -> Floats:
        return np.zeros(len(days))
