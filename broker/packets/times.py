"""Time scales: Julian dates in UTC to modified Julian dates in TAI."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

MJD_OF_JD = 2400000.5
_SECONDS = 86400.0


def tai_mjd(jd_utc: np.ndarray, offset_s: float = 0.0) -> np.ndarray:
    """Modified Julian date, TAI, `offset_s` seconds after each Julian date in UTC. NaN stays NaN.

    TAI - UTC is the whole number of leap seconds since 1972 (earlier dates: that of 1972, 10 s).
    """
    mjd = np.asarray(jd_utc, np.float64) - MJD_OF_JD
    starts, seconds = leap_seconds()
    step = np.clip(np.searchsorted(starts, mjd, side="right") - 1, 0, None)
    return mjd + (seconds[step] + offset_s) / _SECONDS


@lru_cache(maxsize=1)
def leap_seconds() -> tuple[np.ndarray, np.ndarray]:
    """MJDs (UTC) from which on TAI - UTC has the given seconds, from astropy's own files: no network."""
    from astropy.utils import iers

    table = iers.LeapSeconds.from_iers_leap_seconds(iers.IERS_LEAP_SECOND_FILE)
    mjd, seconds = np.asarray(table["mjd"], np.float64), np.asarray(table["tai_utc"], np.float64)
    whole = seconds == np.round(seconds)
    return mjd[whole & (seconds >= 10)], seconds[whole & (seconds >= 10)]
