"""A block of a survey's rows to rows of the alert table: judged, located, the stamps cut out of the datum."""

from __future__ import annotations

from collections.abc import Sequence

import hpgeom
import numpy as np
import polars as pl
import pyarrow as pa

from broker.packets.schema import ALERTS, CUTOUTS
from broker.packets.survey import WriterSchema

HPX_ORDER = 29
MAX_HISTORY = 100_000
# The made-up packets that Rubin publishes with its 7.x schemas carry Unix seconds as their MJD; beyond that
# no number is a time.
MAX_MJD = 2.0**31


def alert_rows(
    survey: str,
    schema: WriterSchema,
    rows: pl.DataFrame,
    stamps: Sequence[Sequence[bytes | None]],
    packets: Sequence[bytes],
    cuts: np.ndarray,
) -> tuple[pa.Table, list[int], dict[int, str]]:
    """Columns of ALERTS of a survey's rows with their three columns of stamps, their packets
    (data without them) and cuts (n, 3).

    Return the rows that are alerts, their positions among all, and why the others are none.
    """
    reasons = absurdities(rows)
    good = [row for row in range(rows.height) if row not in reasons]
    if reasons:
        rows = rows[good]
        stamps = [[column[row] for row in good] for column in stamps]
        packets, cuts = [packets[row] for row in good], cuts[good]
    versions = rows["version"].fill_null("unknown")
    columns = {
        "survey": pa.repeat(pa.scalar(survey), rows.height),
        "hpx29": pa.array(healpix(rows["ra"].to_numpy(), rows["dec"].to_numpy())),
        "packet_schema": (versions + f"/{schema.fingerprint}").to_arrow(),
        "packet": _binaries(packets),
        "packet_cuts": pa.ListArray.from_arrays(3 * np.arange(rows.height + 1, dtype=np.int32), cuts.ravel()),
    }
    for name in ("ingested_at", "topic", "partition", "offset"):
        columns[name] = pa.nulls(rows.height, ALERTS.field(name).type)
    for name, stamp in zip(CUTOUTS, stamps, strict=True):
        columns[name] = _binaries(stamp)
    arrays = [columns[f.name] if f.name in columns else rows[f.name].to_arrow() for f in ALERTS]
    fields = [
        pa.field("source", a.type, False) if f.name == "source" else f
        for f, a in zip(ALERTS, arrays, strict=True)
    ]
    arrays = [array.cast(field.type) for array, field in zip(arrays, fields, strict=True)]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields)), good, reasons


def _binaries(values: Sequence[bytes | None]) -> pa.Array:
    """A large_binary array, each byte copied once."""
    there = [value for value in values if value is not None]
    if len(there) < len(values):
        return pa.array(values, pa.large_binary())
    ends = np.cumsum([0, *map(len, there)], dtype=np.int64)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(there))]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(there), buffers)


def absurdities(rows: pl.DataFrame) -> dict[int, str]:
    """Rows whose values no alert can have, and why."""

    def shown(column: str) -> pl.Expr:
        return pl.col(column).cast(pl.String).fill_null("missing")

    def outside(column: str, low: float, high: float) -> pl.Expr:
        return pl.col(column).is_between(low, high).fill_null(False).not_() | pl.col(
            column
        ).is_nan().fill_null(False)

    judged = rows.select(
        reason=pl.when(pl.col("alert_id").is_null())
        .then(pl.lit("it has no alert id"))
        .when(pl.col("object_id").is_null() | (pl.col("object_id") == ""))
        .then(pl.lit("it has no object id"))
        .when(outside("ra", 0.0, 360.0))
        .then(pl.format("right ascension {} is not within 0 to 360 degrees", shown("ra")))
        .when(outside("dec", -90.0, 90.0))
        .then(pl.format("declination {} is not within -90 to 90 degrees", shown("dec")))
        .when(outside("mjd", 1.0, MAX_MJD))
        .then(pl.format("its time {} is no modified Julian date", shown("mjd")))
        .when(pl.col("band").is_null())
        .then(pl.lit("its filter is none that the survey has"))
        .when(pl.col("rights").is_null())
        .then(pl.lit("it does not say whose it is"))
        .when(pl.col("history").list.len() > MAX_HISTORY)
        .then(
            pl.format(
                "its history has {} points, more than the 100,000 allowed", pl.col("history").list.len()
            )
        )
    )["reason"]
    return {} if judged.null_count() == len(judged) else {i: r for i, r in enumerate(judged) if r is not None}


def healpix(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """HEALPix pixel, NESTED, order 29, of positions in degrees. int64."""
    if not len(ra):
        return np.empty(0, np.int64)
    return np.asarray(hpgeom.angle_to_pixel(1 << HPX_ORDER, ra, dec), np.int64)
