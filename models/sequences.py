"""From points to what the `lightcurve` network reads: 18 numbers per point, all relative to their own row."""

from __future__ import annotations

import numpy as np
import torch

from models.points import FORCED, LIMIT, Points

FEATURES = 18
# Fluxes are seen relative to this one (nJy; AB magnitude 19.1), in decades.
TYPICAL_FLUX = 1e5 * 0.83


def sequences(points: Points) -> np.ndarray:
    """float32 (points, FEATURES).

    Times: since the point before, since the row's first detection, until its last point (days, ln(1 + t)).
    Fluxes: signed signal-to-noise, flux over the row's brightest, its logarithm, the logarithm of the error,
    and the row's brightest itself; then the change since the last detection in the same band and in another
    one (decades), and the time since those. Then the band (u, g, r, one redder)
    and the kind (forced, limit), as 0 or 1.
    """
    count = len(points.mjd)
    if not count:
        return np.zeros((0, FEATURES), np.float32)
    row, measured = points.row, points.kind != LIMIT
    rows = len(points.offsets) - 1
    ends = np.maximum(points.offsets[1:], 1) - 1
    detected = measured & (points.flux > 3 * points.flux_err)
    brightest = np.zeros(rows)
    np.maximum.at(brightest, row[measured], np.maximum(points.flux, points.flux_err)[measured])
    faintest = np.full(rows, np.inf)
    np.minimum.at(faintest, row, points.flux_err)
    brightest = np.where(brightest > 0, brightest, faintest)[row]
    started = np.full(rows, np.inf)
    np.minimum.at(started, row[detected], points.mjd[detected])
    started = np.where(np.isfinite(started), started, points.mjd[ends])[row]

    first = np.zeros(count, bool)
    first[points.offsets[:-1][points.lengths > 0]] = True
    step = np.where(first, 0, np.diff(points.mjd, prepend=points.mjd[0]))
    level = np.log10(np.where(measured, np.maximum(points.flux, points.flux_err), 5 * points.flux_err))
    same, other = _previous(points, detected)
    columns = [
        _days(step),
        _days(points.mjd - started),
        _days(points.mjd[ends][row] - points.mjd),
        np.arcsinh(points.flux / points.flux_err / 5) / 3,
        np.clip(points.flux / brightest, -2, 2),
        level - np.log10(brightest),
        np.log10(points.flux_err) - np.log10(brightest),
        np.clip(np.log10(brightest / TYPICAL_FLUX), -3, 2),
    ]
    for before in (same, other):
        there = (before >= 0) & measured
        columns.append(np.where(there, level - level[before], 0))
        columns.append(np.where(there, _days(points.mjd - points.mjd[before]), -1))
    columns += [points.band == 0, points.band == 1, points.band == 2, points.band >= 3]
    columns += [points.kind == FORCED, points.kind == LIMIT]
    table = np.empty((count, FEATURES), np.float32)
    for i, values in enumerate(columns):
        table[:, i] = values
    return np.clip(np.nan_to_num(table, copy=False), -8, 8, out=table)


def padded(flat: np.ndarray, offsets: np.ndarray, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """(sequences (rows, longest, FEATURES) with zeros behind each, lengths (rows,)) of the chosen rows."""
    lengths = np.diff(offsets)[rows]
    place = np.arange(lengths.max())
    there = place < lengths[:, None]
    block = np.zeros((*there.shape, flat.shape[1]), np.float32)
    block[there] = flat[(offsets[rows][:, None] + place)[there]]
    return torch.from_numpy(block), torch.from_numpy(lengths)


def _days(interval: np.ndarray) -> np.ndarray:
    """sign(t) ln(1 + |t|) / 3."""
    return np.sign(interval) * np.log1p(np.abs(interval)) / 3


def _previous(points: Points, detected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per point the place of the detection before it in its row: in its band, in another one; -1: none."""
    begin = points.offsets[:-1][points.row]
    place = np.arange(len(points.mjd))
    same = np.full(len(place), -1)
    other = np.full(len(place), -1)
    for band in np.unique(points.band[detected]):
        here = points.band == band
        last = np.empty_like(place)
        last[0], last[1:] = -1, np.maximum.accumulate(np.where(detected & here, place, -1))[:-1]
        last[last < begin] = -1
        same = np.where(here, last, same)
        other = np.where(here, other, np.maximum(other, last))
    return same, other
