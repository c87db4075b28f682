"""What a light curve looks like, in numbers: brightness, slope and colour around its peak, start and end.

Each band's logarithm of flux is smoothed at fixed times by local linear regression (Cleveland 1979): a
straight line through the points nearby, weighted by a Gaussian in time and by their errors. What no point is
near to is missing (NaN). It is what people read from a plot: rise, width, decline, change of colour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.points import LIMIT, Points

# Days after the reference time, and the smoothing there (days, one sigma).
AROUND_PEAK = np.array([-20.0, -10, 0, 10, 20, 30, 45, 65, 100])
SINCE_FIRST = np.array([0.0, 2, 4, 7, 10, 14, 18, 23, 30, 40, 55, 75, 100])
BEFORE_LAST = np.array([0.0, -4, -9])
GRIDS = (
    ("peak", AROUND_PEAK, 2.5 + 0.1 * np.abs(AROUND_PEAK)),
    ("first", SINCE_FIRST, 1.2 + 0.12 * SINCE_FIRST),
    ("last", BEFORE_LAST, np.array([1.5, 2.5, 4.0])),
)
# Bands: those up to g, and those from r on, so that a survey with more of them has both colours.
SIDES = ("blue", "red")
FLOOR = 0.03  # decades of flux that a point may be off beyond its error
SOFTNESS = 0.15  # of a smoothing length: keeps the slope finite where all points are of one time
NEAR = 0.3  # weight (one point exactly there: 1) from which a value counts as known
SIGNIFICANT = 3.0  # sigmas of a detection
BEFORE = 15.0  # days before the first detection in which the deepest limit is looked for
AFTER = 5.0  # days after the peak from which limits tell of the decline

_SCALARS = ("span", "detections", "peak", "rise", "decline", "first", "last", "jump", "first_is_blue")
_PER_SIDE = (
    "detections",
    "peak",
    "peak_time",
    "rise",
    "decline",
    "significance",
    "gap",
    "gap_depth",
    "limit_before",
    "limit_after",
    "limits",
)
NAMES = (
    *_SCALARS,
    *(f"{side}_{name}" for side in SIDES for name in _PER_SIDE),
    "peak_colour",
    "peak_lag",
    *(
        f"{what}_{grid}{day:+g}"
        for grid, days, _ in GRIDS
        for what in ("blue", "red", "blue_slope", "red_slope", "colour")
        for day in days
    ),
    *(f"{what}_{grid}" for grid in ("peak", "first") for what in ("mean_colour", "colour_range")),
)


@dataclass(frozen=True)
class _Rows:
    """Points by row: reductions over each row, NaN where it has none of those chosen."""

    row: np.ndarray
    count: int

    def least(self, values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        found = np.full(self.count, np.inf)
        np.minimum.at(found, self.row[chosen], values[chosen])
        return np.where(np.isfinite(found), found, np.nan)

    def most(self, values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        return -self.least(-values, chosen)

    def number(self, chosen: np.ndarray) -> np.ndarray:
        return np.log1p(np.bincount(self.row[chosen], minlength=self.count))

    def at(self, values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """The value of the chosen point of each row (of the last, if there are several)."""
        found = np.full(self.count, np.nan)
        found[self.row[chosen]] = values[chosen]
        return found


def shapes(points: Points) -> np.ndarray:
    """float32 (rows, len(NAMES)): decades of flux (nJy) and days; NaN where a light curve does not tell."""
    with np.errstate(all="ignore"):
        found = np.stack(_columns(points), axis=1).astype(np.float32)
    found[~np.isfinite(found)] = np.nan
    return found


def _columns(points: Points) -> list[np.ndarray]:
    mjd, row = points.mjd, points.row
    rows = _Rows(row, len(points.offsets) - 1)
    flux = np.maximum(points.flux, points.flux_err)
    level = np.log10(flux)
    error = np.clip(points.flux_err / flux / np.log(10), 0, 0.5)
    depth = np.log10(5 * points.flux_err)
    limit = points.kind == LIMIT
    detected = ~limit & (points.flux > SIGNIFICANT * points.flux_err)
    sides = (detected & (points.band >= 0) & (points.band <= 1), detected & (points.band >= 2))
    of_side = ((points.band >= 0) & (points.band <= 1), points.band >= 2)

    first, last = rows.least(mjd, detected), rows.most(mjd, detected)
    tops = [rows.most(level, side) for side in (*sides, detected)]
    times = [
        rows.least(mjd, side & (level >= top[row]))
        for side, top in zip((*sides, detected), tops, strict=True)
    ]
    # The redder band's peak is the reference, where there is one: it is the better sampled and the later one.
    peak, peak_time = (np.where(np.isfinite(red), red, all_) for (_, red, all_) in (tops, times))
    before = limit & (mjd < first[row])
    start = detected & (mjd == first[row])
    at_start, at_end = rows.at(level, start), rows.at(level, detected & (mjd == last[row]))
    nearest = before & (mjd == rows.most(mjd, before)[row])

    found = [
        np.log1p(last - first),
        rows.number(detected),
        tops[2],
        np.log1p(times[2] - first),
        np.log1p(last - times[2]),
        tops[2] - at_start,
        tops[2] - at_end,
        at_start - rows.at(depth, nearest),
        rows.at((points.band <= 1).astype(float), start),
    ]
    for side, band, top, time in zip(sides, of_side, tops[:2], times[:2], strict=True):
        dark = before & band
        gap = rows.most(mjd, dark)
        found += [
            rows.number(side),
            top,
            time - times[2],
            time - rows.least(mjd, side),
            rows.most(mjd, side) - time,
            np.log10(rows.most(points.flux / points.flux_err, side) + 1),
            np.log1p(first - gap),
            peak - rows.at(depth, dark & (mjd == gap[row])),
            peak - rows.least(depth, dark & (mjd > first[row] - BEFORE)),
            peak - rows.least(depth, limit & band & (mjd > peak_time[row] + AFTER)),
            rows.number(dark),
        ]
    found += [tops[0] - tops[1], times[0] - times[1]]
    summaries = []
    for (name, days, widths), reference in zip(GRIDS, (peak_time, first, last), strict=True):
        (blue, blue_slope), (red, red_slope) = (
            smoothed(points, mjd - reference[row], level, error, side, days, widths) for side in sides
        )
        colour = blue - red
        for values in (blue - peak[:, None], red - peak[:, None], blue_slope, red_slope, colour):
            found += list(values.T)
        if name != "last":
            known = np.isfinite(colour)
            mean = np.where(known, colour, 0).sum(axis=1) / known.sum(axis=1)
            reach = np.where(known, colour, -np.inf).max(axis=1) - np.where(known, colour, np.inf).min(axis=1)
            summaries += [mean, reach]
    return found + summaries


def smoothed(
    points: Points,
    time: np.ndarray,
    level: np.ndarray,
    error: np.ndarray,
    chosen: np.ndarray,
    days: np.ndarray,
    widths: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(level, slope per day), float64 (rows, days), of the `chosen` points by local linear regression.

    `time` (days from each row's reference), `level` and its `error` (points,); NaN where nothing is near.
    """
    rows = len(points.offsets) - 1
    at = np.flatnonzero(chosen & np.isfinite(time))
    whole = np.full((2, rows, len(days)), np.nan)
    if not len(at):
        return whole[0], whole[1]
    row = points.row[at]
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    away = time[at][:, None] - days
    near = np.exp(-0.5 * (away / widths) ** 2)
    near[np.abs(away) > 3 * widths] = 0
    weight = near / (error[at][:, None] ** 2 + FLOOR**2)
    by_time, value = weight * away, level[at][:, None]
    count, s, sx, sxx, sy, sxy = (
        np.add.reduceat(each, starts, axis=0)
        for each in (near, weight, by_time, by_time * away, weight * value, by_time * value)
    )
    sxx += SOFTNESS * s * widths**2
    scale = s * sxx - sx**2
    known = count > NEAR
    whole[0, row[starts]] = np.where(known, (sy * sxx - sx * sxy) / scale, np.nan)
    whole[1, row[starts]] = np.where(known, (s * sxy - sx * sy) / scale, np.nan)
    return whole[0], whole[1]
