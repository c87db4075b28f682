"""The sky around an alert, and its three images: science, template, and their difference.

Pixels are 1.012 arcsec; images 63 x 63 float64 [y, x], in DN; x and y count from the central pixel. Another
survey's may be larger: `half` is the number of pixels on either side of the central one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from training.simulation.visits import GAIN, PIXEL, READ, Visit

SIZE = 63
HALF = SIZE // 2
RADIUS = 46.0  # pixels around the alert in which sources are drawn: 46 arcsec, a little more than the corners
SATURATED = 12.6  # magnitude from which a star is masked

Image = NDArray[np.float64]


@lru_cache(maxsize=8)
def _grid(half: int) -> Image:
    """y and x of each pixel."""
    return np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)


@dataclass(frozen=True)
class Galaxy:
    """A Sersic profile; `radius` (half light) in pixels, `mags` g, r, i."""

    x: float
    y: float
    mags: tuple[float, float, float]
    radius: float
    index: float
    ratio: float
    angle: float

    @classmethod
    def draw(cls, rng: np.random.Generator, mag: float, x: float = 0.0, y: float = 0.0) -> Galaxy:
        colour = rng.normal(0.7, 0.15)
        mags = (mag + colour, mag, mag - 0.35)
        radius = 2.6 * 10 ** (-0.17 * (mag - 17.5)) * rng.lognormal(0, 0.3)
        index = 1.0 if rng.random() < 0.65 else 4.0
        ratio = rng.uniform(0.35, 1.0)
        return cls(x, y, mags, float(np.clip(radius, 0.7, 14)), index, ratio, rng.uniform(0, np.pi))

    def somewhere(self, rng: np.random.Generator) -> tuple[float, float]:
        """A place in it, drawn like its light (of an exponential disc)."""
        r, turn = rng.gamma(2.0, self.radius / 1.678), rng.uniform(0, 2 * np.pi)
        a, b = r * np.cos(turn), r * np.sin(turn) * self.ratio
        c, s = np.cos(self.angle), np.sin(self.angle)
        return self.x + a * c - b * s, self.y + a * s + b * c


@dataclass(frozen=True)
class Sky:
    """All that stands still: stars (and unresolved galaxies) as points, and at most one resolved galaxy.

    `mags` is (n, 4): g, r, i, z. `star` says which points are stars.
    """

    x: Image = field(default_factory=lambda: np.empty(0))
    y: Image = field(default_factory=lambda: np.empty(0))
    mags: Image = field(default_factory=lambda: np.empty((0, 4)))
    star: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, bool))
    galaxy: Galaxy | None = None

    @classmethod
    def draw(cls, rng: np.random.Generator, latitude: float) -> Sky:
        """Points to 23.3 mag, more of them near the Galactic plane; `latitude` in degrees."""
        density = 11.0 + 40.0 * np.exp(-abs(latitude) / 10.0)  # a square arcmin
        n = rng.poisson(density * np.pi * (RADIUS * PIXEL / 60) ** 2)
        r, turn = RADIUS * np.sqrt(rng.random(n)), rng.uniform(0, 2 * np.pi, n)
        # Counts grow by a factor 1.8 a magnitude.
        red = 23.3 + np.log10(rng.random(n)) / 0.25
        red = np.maximum(red, 10.5)
        star = rng.random(n) < np.clip(0.95 - 0.13 * (red - 18.0), 0.3, 0.98)
        colour = np.where(star, rng.normal(0.75, 0.35, n), rng.normal(0.9, 0.3, n))
        mags = np.stack([red + colour, red, red - 0.4 * colour, red - 0.55 * colour], axis=1)
        return cls(r * np.cos(turn), r * np.sin(turn), mags, star)

    def with_point(self, x: float, y: float, mags: tuple[float, ...], star: bool) -> Sky:
        """`mags`: g, r, i."""
        row = np.array([[*mags, mags[2] - 0.15]])
        return replace(
            self,
            x=np.append(self.x, x),
            y=np.append(self.y, y),
            mags=np.concatenate([self.mags, row]),
            star=np.append(self.star, star),
        )

    def catalogue(self) -> Sky:
        """The points as a catalogue lists them, the galaxy among them."""
        g = self.galaxy
        return self if g is None else self.with_point(g.x, g.y, g.mags, star=False)


_ALL = (slice(None), slice(None))


def moffat(x: float, y: float, fwhm: float, box: tuple[slice, slice] = _ALL, half: int = HALF) -> Image:
    """A Moffat profile of beta 4 with unit sum, seen by pixels: in quadrature, a pixel widens it by 0.6."""
    scale = (fwhm * fwhm + 0.35) * 1.3213  # alpha^2 = FWHM^2 / 4 / (2^(1/4) - 1)
    rows, columns = _grid(half)
    t = 1.0 / (1.0 + ((columns[box] - x) ** 2 + (rows[box] - y) ** 2) / scale)
    t *= t
    return (3.0 / (np.pi * scale)) * t * t


def render(
    sky: Sky, visit: Visit, fwhm: float, shift: tuple[float, float] = (0.0, 0.0), half: int = HALF
) -> Image:
    """What stands still, in DN of `visit`'s zero point, without sky or noise, by a PSF of `fwhm` pixels."""
    image = np.zeros((2 * half + 1, 2 * half + 1))
    counts = 10 ** (0.4 * (visit.zero - sky.mags[:, visit.fid - 1]))
    # Beyond so many pixels the profile is below a fifth of the noise.
    reaches = (fwhm * np.clip((counts / 2.0) ** 0.125, 2.5, 20)).astype(int).tolist()
    places = zip(
        (sky.x + shift[0]).tolist(), (sky.y + shift[1]).tolist(), counts.tolist(), reaches, strict=True
    )
    for x, y, light, reach in places:
        left, right = int(x) + half - reach, int(x) + half + reach + 1
        low, high = int(y) + half - reach, int(y) + half + reach + 1
        box = (slice(max(low, 0), max(high, 0)), slice(max(left, 0), max(right, 0)))
        image[box] += light * moffat(x, y, fwhm, box, half)
    if sky.galaxy is not None:
        image += _render_galaxy(sky.galaxy, visit, fwhm, shift, half)
    return image


# A galaxy is convolved on a larger square, so that what leaves it on one side does not enter on the other.
_PAD = 96
_PY, _PX = np.mgrid[-_PAD // 2 : _PAD // 2, -_PAD // 2 : _PAD // 2].astype(np.float64)
_PR2 = np.fft.ifftshift(_PX**2 + _PY**2)


def _render_galaxy(galaxy: Galaxy, visit: Visit, fwhm: float, shift: tuple[float, float], half: int) -> Image:
    x, y = _PX - galaxy.x - shift[0], _PY - galaxy.y - shift[1]
    c, s = np.cos(galaxy.angle), np.sin(galaxy.angle)
    along, across = x * c + y * s, (y * c - x * s) / galaxy.ratio
    # Softened by half a pixel, so that the cusp of n = 4 is not one pixel's.
    r = np.sqrt(along**2 + across**2 + 0.25) / galaxy.radius
    b = 2 * galaxy.index - 0.324
    light = np.exp(-b * (r ** (1 / galaxy.index) - 1))
    light *= 10 ** (0.4 * (visit.zero - galaxy.mags[visit.fid - 1])) / light.sum()
    scale = (fwhm * fwhm + 0.35) * 1.3213
    kernel = 1.0 / (1.0 + _PR2 / scale)
    kernel *= kernel
    kernel *= kernel
    kernel /= kernel.sum()
    out = np.fft.irfft2(np.fft.rfft2(light) * np.fft.rfft2(kernel), s=(_PAD, _PAD))
    middle = slice(_PAD // 2 - half, _PAD // 2 + half + 1)
    return out[middle, middle]


@dataclass
class Exposure:
    """The three images of a visit. `template` is scaled to the science image's zero point and sky."""

    visit: Visit
    science: Image
    template: Image
    difference: Image
    template_fwhm: float

    @property
    def half(self) -> int:
        return len(self.science) // 2

    @property
    def images(self) -> tuple[Image, Image, Image]:
        return self.science, self.template, self.difference


def expose(
    rng: np.random.Generator,
    sky: Sky,
    visit: Visit,
    flux: float,
    at: tuple[float, float],
    *,
    frames: int = 15,
    jitter: float = 0.04,
    mismatch: float = 0.012,
    scale: float = 0.0,
    trail: float = 0.0,
    template_fwhm: float = 2.0,
    half: int = HALF,
) -> Exposure:
    """Image `sky` with a source of `flux` DN (of either sign: it is what changed) at `at`.

    The template is the mean of `frames` dark visits. What stands still is subtracted as the template shows it
    after its PSF was matched: misplaced by `jitter` pixels and too wide by the fraction `mismatch` (standard
    deviations), and too bright by the fraction `scale`. `trail`: pixels that the source moves meanwhile.
    `template_fwhm`: the template's, on average.
    """
    static = render(sky, visit, visit.fwhm, half=half)
    template_fwhm *= rng.lognormal(0, 0.08)
    reference = render(sky, visit, template_fwhm, half=half)
    shift = tuple(rng.normal(0, jitter, 2))
    # Only bright things leave a residue that noise does not hide.
    faintest = visit.zero - 2.5 * np.log10(500.0)
    bright = sky.mags[:, visit.fid - 1] < faintest
    core = sky.galaxy if sky.galaxy and sky.galaxy.mags[visit.fid - 1] < faintest - 2 else None
    loud = Sky(sky.x[bright], sky.y[bright], sky.mags[bright], sky.star[bright], core)
    wrong = render(loud, visit, visit.fwhm * (1 + rng.normal(0, mismatch)), shift, half)
    residue = render(loud, visit, visit.fwhm, half=half) - (1 + scale) * wrong

    source = flux * _trailed(at, visit.fwhm, trail, rng, half)
    light = static + source
    noise = rng.standard_normal((2, *static.shape))
    science = light + noise[0] * np.sqrt(READ + GAIN * np.maximum(visit.sky + light, 0))
    deep = noise[1] * np.sqrt((READ + GAIN * (60.0 + np.maximum(reference, 0))) / frames)
    # Matching the PSF smooths the template's noise.
    difference = science - static + residue - 0.5 * (deep + np.roll(deep, 1, 0)) + rng.normal(0, 0.15)
    return Exposure(visit, science + visit.sky, reference + deep + visit.sky, difference, template_fwhm)


def _trailed(
    at: tuple[float, float], fwhm: float, trail: float, rng: np.random.Generator, half: int
) -> Image:
    if trail < 0.5:
        return moffat(*at, fwhm, half=half)
    angle = rng.uniform(0, np.pi)
    steps = np.linspace(-trail / 2, trail / 2, int(trail * 2) + 2)
    return np.mean(
        [moffat(at[0] + s * np.cos(angle), at[1] + s * np.sin(angle), fwhm, half=half) for s in steps], axis=0
    )
