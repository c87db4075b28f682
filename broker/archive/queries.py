"""What may be asked of the archive, as Lance's SQL predicates. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import hpgeom
import numpy as np

from broker.archive.errors import ArchiveError

_ORDER = 29
# hpgeom looks four times finer than the pixels for what a cone touches.
_FINEST = _ORDER - 2
_ARCSEC = 3600.0


def text(value: str) -> str:
    """A string literal."""
    return "'" + value.replace("'", "''") + "'"


def one_of(column: str, values: Iterable[int | str]) -> str:
    """Rows whose column has one of the values."""
    literals = [text(v) if isinstance(v, str) else str(int(v)) for v in values]
    if not literals:
        return "false"
    if len(literals) == 1:
        return f"{column} = {literals[0]}"
    return f"{column} IN ({', '.join(literals)})"


def cone(ra: float, dec: float, radius: float) -> str:
    """Rows in HEALPix pixels that cover a cone (degrees, degrees, arcsec): a few more than those inside it.

    Raises ArchiveError for a place that is not on the sky.
    """
    if not (0 <= ra <= 360 and -90 <= dec <= 90 and 0 < radius <= 180 * _ARCSEC):
        raise ArchiveError(
            f"no cone at ra {ra:g}, dec {dec:g} of {radius:g} arcsec: "
            "ra is 0 to 360 and dec -90 to 90 degrees, the radius above 0"
        )
    # Pixels about as large as the cone: then a dozen of them cover it, in a few ranges
    order = int(np.clip(np.floor(np.log2(58.6 * _ARCSEC / radius)), 0, _FINEST))
    ranges = hpgeom.query_circle(
        2**order, ra, dec, radius / _ARCSEC, inclusive=True, return_pixel_ranges=True
    ) << (2 * (_ORDER - order))
    return "(" + " OR ".join(f"(hpx29 >= {first} AND hpx29 < {end})" for first, end in ranges) + ")"


def separation(ra: np.ndarray, dec: np.ndarray, ra0: float, dec0: float) -> np.ndarray:
    """Great-circle distances, arcsec, of places from one place (degrees)."""
    ra, dec, ra0, dec0 = np.radians(ra), np.radians(dec), np.radians(ra0), np.radians(dec0)
    half = np.sin((dec - dec0) / 2) ** 2 + np.cos(dec) * np.cos(dec0) * np.sin((ra - ra0) / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(np.clip(half, 0, 1)))) * _ARCSEC


def both(*predicates: str | None) -> str | None:
    """All of the predicates that are there."""
    given = [f"({p})" for p in predicates if p]
    return " AND ".join(given) if given else None
