"""What is no light from the sky: each function spoils an exposure near its centre, in place.

The truth of a bogus alert names one of KINDS.
"""

from __future__ import annotations

import numpy as np

from training.simulation.sky import RADIUS, SATURATED, Exposure, Image, Sky

KINDS = ("cosmic_ray", "hot_pixel", "bad_column", "dipole", "bright_star", "noise_peak", "masked_edge")
# How often each is what a broker sees (before its real/bogus cut, roughly).
SHARES = (0.2, 0.25, 0.1, 0.15, 0.2, 0.05, 0.05)


def cosmic_ray(rng: np.random.Generator, exposure: Exposure) -> None:
    """A track through the silicon: sharper than any star, only in the science image."""
    length, angle = rng.uniform(0.5, 9.0), rng.uniform(0, np.pi)
    track = np.zeros_like(exposure.science)
    for s in np.linspace(-length / 2, length / 2, int(length * 4) + 2):
        x, y = exposure.half + round(s * np.cos(angle)), exposure.half + round(s * np.sin(angle))
        track[y, x] = rng.uniform(0.5, 1.5)
    track *= exposure.visit.ideal * rng.uniform(12, 90) / track.sum()
    exposure.science += track
    exposure.difference += track


def hot_pixel(rng: np.random.Generator, exposure: Exposure) -> None:
    """One pixel, or two neighbours, that count too much; sometimes too little."""
    size = exposure.visit.ideal * rng.uniform(8, 40) * (1 if rng.random() < 0.6 else -1)
    for image in (exposure.science, exposure.difference):
        image[exposure.half, exposure.half] += size
    if rng.random() < 0.4:
        for image in (exposure.science, exposure.difference):
            image[exposure.half + 1, exposure.half] += size * 0.5


def bad_column(rng: np.random.Generator, exposure: Exposure) -> None:
    """Some pixels of a column that count too much, or too little, and a fainter trail of them along it."""
    size = exposure.visit.noise * rng.uniform(8, 30) * rng.choice([-1, 1])
    streak = rng.normal(0.08, 0.02, len(exposure.science))
    streak[exposure.half - int(rng.integers(1, 4)) : exposure.half + int(rng.integers(2, 5))] = 1.0
    streak *= size * rng.normal(1, 0.15, len(exposure.science))
    exposure.science[:, exposure.half] += streak
    exposure.difference[:, exposure.half] += streak


def noise_peak(rng: np.random.Generator, exposure: Exposure) -> None:
    """A lump of correlated noise, after a bad match of the PSF."""
    lump = rng.standard_normal((7, 7))
    lump = lump + np.roll(lump, 1, 0) + np.roll(lump, 1, 1) + np.roll(lump, (1, 1), (0, 1))
    lump *= np.sign(lump[2:5, 2:5].sum()) or 1.0
    box = (slice(exposure.half - 3, exposure.half + 4),) * 2
    exposure.difference[box] += lump * exposure.visit.noise * rng.uniform(1.5, 2.5)
    exposure.difference[exposure.half, exposure.half] += exposure.visit.noise * rng.uniform(8, 20)


def near_star(rng: np.random.Generator, sky: Sky, kind: str) -> Sky:
    """For artefacts of stars: `sky` with a bright star where they arise, at or near the centre."""
    if kind == "dipole":
        # The alert is on one of the two lobes.
        red, turn, r = rng.uniform(13.5, 17.0), rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.4)
        return sky.with_point(r * np.cos(turn), r * np.sin(turn), (red + 0.6, red, red - 0.2), star=True)
    red, turn, r = rng.uniform(SATURATED + 0.1, 14.0), rng.uniform(0, 2 * np.pi), rng.uniform(1.5, 5.0)
    return sky.with_point(r * np.cos(turn), r * np.sin(turn), (red + 0.6, red, red - 0.2), star=True)


def spoil(rng: np.random.Generator, kind: str, exposure: Exposure) -> None:
    """Add the artefact `kind`; those of stars are already in the images (near_star, and more jitter)."""
    if kind == "cosmic_ray":
        cosmic_ray(rng, exposure)
    elif kind == "hot_pixel":
        hot_pixel(rng, exposure)
    elif kind == "bad_column":
        bad_column(rng, exposure)
    elif kind == "noise_peak":
        noise_peak(rng, exposure)
    elif kind == "masked_edge":
        # The subtraction goes wrong along the border of what is masked, two pixels from the centre.
        half = exposure.half
        column = half - 2 - int(rng.integers(0, 3))
        rim = exposure.visit.noise * rng.uniform(4, 12) * rng.normal(1, 1.0, (5, half + 2 - column))
        rim *= 1 if rng.random() < 0.6 else -1
        exposure.difference[half - 2 : half + 3, column : half + 2] += rim
        for image in exposure.images:
            image[:, :column] = np.nan


def mask(rng: np.random.Generator, sky: Sky, exposure: Exposure) -> None:
    """NaN where the survey has no valid pixels: squares on saturated stars, and beyond the chip's edge."""
    for i in np.flatnonzero(sky.mags[:, exposure.visit.fid - 1] < SATURATED):
        if np.hypot(sky.x[i], sky.y[i]) < 7 or np.hypot(sky.x[i], sky.y[i]) > RADIUS:
            continue  # the survey makes no alert on top of a mask
        half = int(4 + 2.2 * (SATURATED - sky.mags[i, exposure.visit.fid - 1]))
        x, y = exposure.half + round(sky.x[i]), exposure.half + round(sky.y[i])
        for image in exposure.images:
            image[max(y - half, 0) : max(y + half, 0), max(x - half, 0) : max(x + half, 0)] = np.nan
    if rng.random() < 0.04:
        width, turns = int(rng.integers(1, 24)), int(rng.integers(0, 4))
        for image in exposure.images:
            np.rot90(image, turns)[:width] = np.nan


def crop(image: Image, side: int, width: int) -> Image:
    """A stamp at the chip's edge is smaller: `width` rows or columns are missing on one of four sides."""
    return (image[width:], image[:-width], image[:, width:], image[:, :-width])[side]
