"""Visits: when the survey looked at a place, in which band, and how well it saw.

Numbers are of ZTF (Bellm et al. 2019, PASP 131, 018002; Masci et al. 2019, PASP 131, 018003) and of the
stamps it publishes: 1.01 arcsec a pixel; in DN: sky 60 to 300, noise 5 to 8 a pixel, zero points near 26.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PIXEL = 1.012  # arcsec
GAIN = 0.18  # variance a pixel, per DN of light
READ = 10.0  # variance a pixel without light, DN^2
DAYS = 30.0  # of history in a packet
# The survey's errors and limits are this much above those of an ideal fit of the PSF (from 540 packets).
INFLATION = 2.2
PUBLIC = 1
DAY_ZERO = 2457754.5  # JD of the survey's night 0


@dataclass(frozen=True)
class Visit:
    """One exposure of 30 s. `jd`: its start, UTC; `fwhm`: pixels; `sky`: DN; `zero`: magnitude of 1 DN."""

    jd: float
    fid: int
    programid: int
    fwhm: float
    sky: float
    zero: float
    field: int
    rcid: int

    @property
    def noise(self) -> float:
        """Standard deviation of a pixel of sky, DN."""
        return float(np.sqrt(READ + GAIN * self.sky))

    @property
    def ideal(self) -> float:
        """1 sigma of the flux of a faint point source, fitted with the PSF, DN."""
        return self.noise * 1.8 * self.fwhm  # a Moffat profile of beta 4 has the noise of 3.23 FWHM^2 pixels

    @property
    def error(self) -> float:
        """What the survey quotes for it, DN."""
        return self.ideal * INFLATION

    @property
    def limit(self) -> float:
        """The 5 sigma limit, magnitudes."""
        return self.zero - 2.5 * float(np.log10(5 * self.error))

    @property
    def night(self) -> int:
        return int(self.jd - DAY_ZERO)

    @property
    def pid(self) -> int:
        return int((self.jd - DAY_ZERO) * 1e5) * 10_000 + self.rcid * 100 + 15

    def counts(self, flux: float) -> float:
        """DN of a flux in nJy."""
        return flux / 3631e9 * 10 ** (0.4 * self.zero)


def visit(
    rng: np.random.Generator, jd: float, fid: int, programid: int, field: int, rcid: int, moon: float
) -> Visit:
    """One exposure; `moon` from 0 (new) to 1 (full) brightens the sky, most in g."""
    dark = {1: 62.0, 2: 105.0, 3: 150.0}[fid] * rng.lognormal(0, 0.12)
    sky = dark * (1 + {1: 2.4, 2: 1.2, 3: 0.6}[fid] * moon**2)
    fwhm = {1: 2.15, 2: 2.0, 3: 1.95}[fid] * rng.lognormal(0, 0.14)
    zero = {1: 26.2, 2: 26.28, 3: 25.7}[fid] - 0.25 * rng.random() ** 3
    return Visit(round(jd, 7), fid, programid, fwhm, sky, zero, field, rcid)


def cadence(rng: np.random.Generator, last: float) -> list[Visit]:
    """The visits of the 30 days up to `last` (JD), which is the last of them; sorted by time.

    Every two or three nights one in g and one in r half an hour apart, some nights clouded out, and for one
    field in eight further visits of a partnership (programid 2, 3), in i too.
    """
    field, rcid = int(rng.integers(245, 880)), int(rng.integers(0, 64))
    moon_age = rng.random() * 29.53
    step = rng.choice([2, 3])
    partner = rng.random() < 0.125
    bands = [1, 2] if rng.random() < 0.5 else [2, 1]
    times = [(last, bands[0], PUBLIC)]
    night = last - rng.uniform(0.02, 0.06)
    if rng.random() < 0.4:
        times.append((night, bands[1], PUBLIC))
    for back in np.arange(step, DAYS, step):
        if rng.random() < 0.25:
            continue
        start = last - back + rng.normal(0, 0.03)
        times += [(start, bands[0], PUBLIC), (start - rng.uniform(0.02, 0.08), bands[1], PUBLIC)]
    if partner:
        for back in np.arange(1, DAYS):
            if rng.random() < 0.6:
                times.append(
                    (last - back + rng.normal(0, 0.05), int(rng.integers(1, 4)), int(rng.integers(2, 4)))
                )
        if rng.random() < 0.5:
            times[0] = (last, times[0][1], int(rng.integers(2, 4)))
    out = []
    for jd, fid, programid in sorted(t for t in times if last - DAYS < t[0] <= last):
        moon = 0.5 - 0.5 * np.cos(2 * np.pi * (jd - last + moon_age) / 29.53)
        out.append(visit(rng, jd, fid, programid, field, rcid, float(moon)))
    return out
