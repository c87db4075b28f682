"""Light curves of many alerts as flat arrays: history and the alert's own detection, in order of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models import columns
from models.manifest import ModelError

INPUTS = ("history", "mjd", "band", "flux", "flux_err")
DETECTION, FORCED, LIMIT = range(3)
# Of longer light curves a network reads the last ones.
MOST_POINTS = 256


@dataclass(frozen=True)
class Points:
    """Row i has the points offsets[i] to offsets[i + 1]; its own detection is the last of them.

    `mjd` days, `flux` and `flux_err` nJy (float64; 0 for the flux of a limit), `band` and `kind` int8
    positions in columns.BANDS (-1: another band) and columns.KINDS. `offsets` int64 (rows + 1,).
    """

    mjd: np.ndarray
    band: np.ndarray
    flux: np.ndarray
    flux_err: np.ndarray
    kind: np.ndarray
    offsets: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    @property
    def row(self) -> np.ndarray:
        """int64 (points,): which row each point belongs to."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.lengths)

    def where(self, keep: np.ndarray) -> Points:
        """The points for which `keep` (points,) is true, of the same rows (some may become empty)."""
        total = np.concatenate([[0], np.cumsum(keep)])
        return self._chosen(keep, total[self.offsets])

    def take(self, rows: np.ndarray) -> Points:
        """The given rows, in the given order."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        at = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - self.offsets[rows], lengths)
        return self._chosen(at, offsets)

    def _chosen(self, at: np.ndarray, offsets: np.ndarray) -> Points:
        return Points(self.mjd[at], self.band[at], self.flux[at], self.flux_err[at], self.kind[at], offsets)


def points(table: pa.Table, most: int) -> Points:
    """The valid points of each alert, of the last `most` of its light curve.

    A point without a finite time or error, or a detection without a finite flux, is left
    out; so is one of an unknown kind. Raises ModelError when `history` is not a list of points.
    """
    rows = len(table)
    history = columns.column(table, "history")
    assert history is not None
    kind = history.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(
        kind.value_type
    ):
        raise ModelError(f"the column 'history' is {kind}, not a list of points")
    if history.null_count:
        history = pc.fill_null(history, pa.scalar([], kind))
    ends = history.offsets.to_numpy().astype(np.int64)
    first, ends = np.maximum(ends[:-1], ends[1:] - (most - 1)), ends[1:]
    start = int(first.min()) if rows else 0
    values = history.values.slice(start, (int(ends[-1]) if rows else 0) - start)
    first, ends = first - start, ends - start

    # Where each point of the answer comes from: a run of history, then the own detection.
    lengths = ends - first + 1
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    source = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - first, lengths)
    source[offsets[1:] - 1] = len(values) + np.arange(rows)

    def joined(name: str) -> np.ndarray:
        past = columns.floats(_field(values, name), len(values))
        return np.concatenate([past, columns.numbers(table, name)])[source]

    def coded(name: str, names: tuple[str, ...], own: np.ndarray) -> np.ndarray:
        past = _field(values, name)
        known = columns.codes(past, names) if past is not None else np.full(len(values), -1, np.int8)
        return np.concatenate([known, own])[source]

    bands = columns.column(table, "band")
    assert bands is not None
    band = coded("band", columns.BANDS, columns.codes(bands, columns.BANDS))
    sort = coded("kind", columns.KINDS, np.full(rows, DETECTION, np.int8))
    mjd, flux, error = joined("mjd"), joined("flux"), joined("flux_err")
    flux = np.where(sort == LIMIT, 0.0, flux)
    with np.errstate(invalid="ignore"):
        usable = (np.abs(mjd) < 1e7) & (np.abs(flux) < 1e15) & (error > 0) & (error < 1e15) & (sort >= 0)
    return Points(mjd, band, flux, error, sort, offsets).where(usable)


def _field(values: pa.StructArray, name: str) -> pa.Array | None:
    return pc.struct_field(values, name) if values.type.get_field_index(name) >= 0 else None
