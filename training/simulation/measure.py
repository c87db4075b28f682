"""What the survey's pipeline measures on the difference image, in its own units (candidate columns)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.simulation.sky import HALF, SIZE, Exposure, Image, moffat
from training.simulation.visits import GAIN

_Y, _X = np.mgrid[:SIZE, :SIZE] - HALF


@dataclass(frozen=True)
class Measured:
    """`flux`, `error`: of the PSF fit, DN, signed. `columns`: candidate columns by name."""

    flux: float
    error: float
    scorr: float
    sumrat: float
    magdiff: float
    columns: dict[str, float | int | str]


def measure(rng: np.random.Generator, exposure: Exposure, at: tuple[float, float]) -> Measured:
    """PSF and aperture photometry at `at` (pixels from the centre), and the shape of what is there.

    Pixels without a value count as zero. `rng` gives what is not in the images: how far the pipeline's model
    of the PSF and its measure of the width are off.
    """
    visit = exposure.visit
    image = np.nan_to_num(exposure.difference)
    box = (slice(HALF - 6, HALF + 7),) * 2
    psf = moffat(*at, visit.fwhm, box)
    here = image[box]
    flux = float((psf * here).sum() / (psf * psf).sum())
    sign = 1.0 if flux >= 0 else -1.0
    light = np.maximum(np.nan_to_num(exposure.science)[box] - visit.sky, 0)
    variance = visit.noise**2 + GAIN * light
    ideal = float(np.sqrt((psf * psf * variance).sum()) / (psf * psf).sum())
    error = float(np.hypot(visit.error * ideal / max(visit.ideal, 1e-9), 0.03 * flux))
    chi = float(((here - flux * psf) ** 2 / variance).mean() * rng.lognormal(0.5, 0.4))

    r2 = (_X - at[0]) ** 2 + (_Y - at[1]) ** 2
    sky = float(np.median(image[(r2 > 81) & (r2 < 225)]))
    mag, sigma = _magnitude(abs(flux), error, visit.zero)
    magap, sigmagap = _aperture(sign * (image - sky), r2, 7.0, exposure)
    magbig, sigmabig = _aperture(sign * (image - sky), r2, 9.0, exposure)

    five = sign * image[HALF - 2 : HALF + 3, HALF - 2 : HALF + 3]
    width = _width(sign * image, visit.fwhm) * rng.lognormal(0.05, 0.22)
    rows, columns = five.sum(1).clip(0.1), five.sum(0).clip(0.1)
    long, short = sorted((_spread(rows), _spread(columns)), reverse=True)
    peak = float(sign * here.flat[np.abs(here).argmax()])
    sumrat = float(five.sum() / max(np.abs(five).sum(), 1e-9))
    scorr = abs(flux) / ideal * 0.8
    return Measured(
        flux,
        error,
        scorr,
        sumrat,
        magap - mag,
        {
            "isdiffpos": "t" if flux >= 0 else "f",
            "magpsf": mag,
            "sigmapsf": sigma,
            "chipsf": chi,
            "magap": magap,
            "sigmagap": sigmagap,
            "magapbig": magbig,
            "sigmagapbig": sigmabig,
            "magdiff": magap - mag,
            "magfromlim": visit.limit - magap,
            "sky": sky,
            "fwhm": width,
            "seeratio": min(visit.fwhm / width, 2.0),
            "aimage": 0.35 * width * (long / short) ** 0.15,
            "bimage": 0.35 * width * (short / long) ** 0.15,
            "aimagerat": 0.35 * (long / short) ** 0.15,
            "bimagerat": 0.35 * (short / long) ** 0.15,
            "elong": (long / short) ** 0.3,
            "nneg": int((five < 0).sum()),
            "nbad": int(np.isnan(exposure.difference[HALF - 2 : HALF + 3, HALF - 2 : HALF + 3]).sum()),
            "sumrat": sumrat,
            "dsnrms": 0.6 * peak / visit.noise,
            "ssnrms": abs(flux) / ideal,
            "dsdiff": 0.6 * peak / visit.noise - abs(flux) / ideal,
        },
    )


def _aperture(image: Image, r2: Image, radius: float, exposure: Exposure) -> tuple[float, float]:
    """Magnitude and error in a circle, corrected for the light of a point source beyond it."""
    inside = r2 < radius * radius
    scale = (exposure.visit.fwhm**2 + 0.35) * 1.3213
    caught = 1.0 - (1.0 + radius * radius / scale) ** -3
    noise = exposure.visit.noise * float(np.sqrt(inside.sum()))
    return _magnitude(image[inside].sum() / caught, noise / caught, exposure.visit.zero)


def _magnitude(counts: float, error: float, zero: float) -> tuple[float, float]:
    """Magnitude and its error; light below a quarter of its error is given that brightness."""
    counts = max(float(counts), 0.25 * float(error))
    return zero - 2.5 * float(np.log10(counts)), min(1.0857 * float(error) / counts, 9.9)


def _width(image: Image, fwhm: float) -> float:
    """Full width at half maximum, pixels, from the area that is above half of the peak."""
    middle = image[HALF - 4 : HALF + 5, HALF - 4 : HALF + 5]
    peak = middle[2:7, 2:7].max()
    if not peak > 0:
        return fwhm
    return float(np.clip(2 * np.sqrt((middle > peak / 2).sum() / np.pi), 1.1, 9.0))


def _spread(profile: Image) -> float:
    """Variance of a profile of five pixels."""
    x = np.arange(5.0)
    mean = (profile * x).sum() / profile.sum()
    return float(max((profile * (x - mean) ** 2).sum() / profile.sum(), 0.2))
