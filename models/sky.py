"""Latitudes of directions on the sky, in float64 and for whole columns at once."""

from __future__ import annotations

import numpy as np

# ICRS (deg): north galactic pole (Hipparcos, ESA 1997, vol. 1, sec. 1.5.3), north ecliptic pole at J2000.
GALACTIC_POLE = (192.85948, 27.12825)
ECLIPTIC_POLE = (270.0, 66.5607)


def sine_of_latitude(ra: np.ndarray, dec: np.ndarray, pole: tuple[float, float]) -> np.ndarray:
    """sin(latitude) of ICRS `ra`, `dec` (deg) in the system of that north pole; NaN for non-finite."""
    pole_ra, pole_dec = np.radians(pole)
    with np.errstate(invalid="ignore"):
        a, d = np.radians(ra) - pole_ra, np.radians(dec)
        return np.sin(d) * np.sin(pole_dec) + np.cos(d) * np.cos(pole_dec) * np.cos(a)
