"""Light curves as they would have been: younger, of a packet's days, noisier, with gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.points import DETECTION, FORCED, LIMIT, Points


@dataclass(frozen=True)
class Cuts:
    """Shares of light curves that are cut at a random detection, or to 30 days; and what happens to points.

    Of `thin`, at most, are left out; detections get `noise` more, in their own errors; of a share `force` the
    upper limits are shown as forced photometry of nothing.
    """

    truncate: float = 0.5
    month: float = 0.05
    force: float = 0.05
    noise: float = 0.5
    thin: float = 0.2

    def made(self, curves: Points, draw: np.random.Generator) -> Points:
        """Changed light curves, of the same rows.

        The detections that are kept are uniform in the logarithm of their number: a stream asks most about
        young ones.
        """
        rows = len(curves.offsets) - 1
        detected = np.bincount(curves.row[curves.kind == DETECTION], minlength=rows)
        kept = np.floor(np.exp(draw.uniform(0, np.log(detected + 1)))).astype(np.int64)
        kept = np.where(draw.random(rows) < self.truncate, np.clip(kept, 1, detected), detected)
        days = np.where(draw.random(rows) < self.month, 30.0, np.inf)
        curves = truncated(curves, until(curves, kept), days)
        row = curves.row
        lost = draw.random(len(row)) < (draw.uniform(0, self.thin, rows))[row]
        lost[curves.offsets[1:] - 1] = False
        curves = curves.where(~lost)
        row = curves.row
        forced = (draw.random(rows) < self.force)[row] & (curves.kind == LIMIT)
        noise = draw.normal(size=len(row)) * curves.flux_err
        flux = np.where(forced, noise, curves.flux + np.where(curves.kind == LIMIT, 0, self.noise * noise))
        kind = np.where(forced, FORCED, curves.kind).astype(np.int8)
        return Points(curves.mjd, curves.band, flux, curves.flux_err, kind, curves.offsets)


def until(curves: Points, count: int | np.ndarray) -> np.ndarray:
    """int64 (rows,): the point that is the `count`-th detection of each row (its last, if it has fewer)."""
    detected = curves.kind == DETECTION
    total = np.concatenate([[0], np.cumsum(detected)])
    wanted = np.minimum(total[curves.offsets[:-1]] + count, total[curves.offsets[1:]])
    return np.searchsorted(total, wanted, side="left") - 1


def truncated(curves: Points, last: np.ndarray, days: np.ndarray | None = None) -> Points:
    """The light curves when point `last` of each was the alert; of the last `days` (rows,), if given."""
    row = curves.row
    keep = np.arange(len(row)) <= last[row]
    if days is not None:
        keep &= curves.mjd >= (curves.mjd[last] - days)[row]
    return curves.where(keep)
