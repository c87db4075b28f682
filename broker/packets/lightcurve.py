"""Light-curve points of a survey's own lists, gathered into the alert table's `history`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from broker.packets.fields import Fields
from broker.packets.schema import POINT

# AB zero point: 3631 Jy in nJy.
AB_NJY = 3631e9
# d(flux)/flux = ln(10)/2.5 d(mag)
FLUX_PER_MAG = float(np.log(10) / 2.5)
ROW = "row"


def points(frame: pl.DataFrame, fields: Fields, column: str) -> pl.DataFrame | None:
    """The records of a list column, one row each, with `row`, their alert's. None where there are none."""
    if not fields.lists_records(column):
        return None
    lists = frame[column]
    lengths = lists.list.len().fill_null(0).to_numpy()
    if not lengths.any():
        return None
    flat = lists.filter(lists.list.len() > 0).explode()
    records = flat.struct.unnest()
    return records.with_columns(pl.Series(ROW, np.repeat(np.arange(len(lengths)), lengths)))


def history(before: np.ndarray, parts: Sequence[pl.DataFrame | None]) -> pl.Series:
    """One list of points per alert, sorted by time: those before its own detection, at `before` (mjd).

    Parts have the columns row, mjd, band, flux, flux_err, kind. Points without a time, a band or a value
    (a limit's value is its flux_err) are left out: they say nothing.
    """
    kept = [part.select(ROW, *(field.name for field in POINT)) for part in parts if part is not None]
    lengths = np.zeros(len(before), np.int64)
    values = pa.array([], POINT)
    if kept:
        flat = pl.concat(kept)
        own = pl.Series(before[flat[ROW].to_numpy()])
        value = pl.when(pl.col("kind") == "limit").then(pl.col("flux_err")).otherwise(pl.col("flux"))
        flat = flat.filter(
            pl.col("mjd").is_finite()
            & (pl.col("mjd") < own)
            & pl.col("band").is_not_null()
            & value.is_finite()
        ).sort(ROW, "mjd", maintain_order=True)
        lengths = np.bincount(flat[ROW].to_numpy(), minlength=len(before))
        values = flat.drop(ROW).to_struct().to_arrow().cast(POINT)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pl.Series("history", pl.from_arrow(pa.ListArray.from_arrays(pa.array(offsets), values)))


def magnitude_flux(mag: pl.Expr, sign: pl.Expr | float = 1.0) -> pl.Expr:
    """AB magnitude to nJy."""
    return sign * AB_NJY * (10.0 ** (-0.4 * mag.cast(pl.Float64)))


def finite(expr: pl.Expr) -> pl.Expr:
    """As float64, with null for NaN and infinities."""
    value = expr.cast(pl.Float64)
    return pl.when(value.is_finite()).then(value)


def given(records: pl.DataFrame, field: str) -> pl.Expr:
    """A number of unnested records as float64; null where the schema lacks it or it is not finite."""
    return finite(pl.col(field)) if field in records.columns else pl.lit(None, pl.Float64)
