"""A block of a survey's rows to rows of the alert table: judged, located, the stamps cut out of the datum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa
from astropy import units
from astropy_healpix import lonlat_to_healpix

from broker.packets.schema import ALERTS, CUTOUTS
from broker.packets.survey import WriterSchema

HPX_ORDER = 29
MAX_HISTORY = 100_000
# The made-up packets that Rubin publishes with its 7.x schemas carry Unix seconds as their MJD; beyond that
# no number is a time.
MAX_MJD = 2.0**31
_PREFIX = 32  # bytes of a stamp to look for: gzip's header and the first of its data, or a FITS card


def alert_rows(
    survey: str, schema: WriterSchema, rows: pl.DataFrame, bodies: Sequence[bytes]
) -> tuple[pa.Table, list[int], dict[int, str]]:
    """Return the rows that are alerts, as columns of ALERTS, their positions, and why the others are none."""
    reasons = absurdities(rows)
    good = [row for row in range(rows.height) if row not in reasons]
    if reasons:
        rows, bodies = rows[good], [bodies[row] for row in good]
    stamps = [rows[name].to_list() for name in CUTOUTS]
    cut = [cut_out(body, three) for body, three in zip(bodies, zip(*stamps, strict=True), strict=True)]
    versions = rows["version"].fill_null("unknown")
    columns = {
        "survey": pa.repeat(pa.scalar(survey), rows.height),
        "hpx29": pa.array(healpix(rows["ra"].to_numpy(), rows["dec"].to_numpy())),
        "packet_schema": (versions + f"/{schema.fingerprint}").to_arrow(),
        "packet": pa.array([packet for packet, _ in cut], pa.large_binary()),
        "packet_cuts": pa.array([cuts for _, cuts in cut], pa.list_(pa.int32())),
    }
    for name in ("ingested_at", "topic", "partition", "offset"):
        columns[name] = pa.nulls(rows.height, ALERTS.field(name).type)
    for name, stamp in zip(CUTOUTS, stamps, strict=True):
        columns[name] = pa.array(stamp, pa.large_binary())
    arrays = [columns[f.name] if f.name in columns else rows[f.name].to_arrow() for f in ALERTS]
    fields = [
        pa.field("source", a.type, False) if f.name == "source" else f
        for f, a in zip(ALERTS, arrays, strict=True)
    ]
    arrays = [array.cast(field.type) for array, field in zip(arrays, fields, strict=True)]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields)), good, reasons


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
    pixels = lonlat_to_healpix(ra * units.deg, dec * units.deg, 1 << HPX_ORDER, order="nested")
    return np.asarray(pixels, np.int64)


def cut_out(body: bytes, stamps: Sequence[bytes | None]) -> tuple[bytes, list[int]]:
    """Cut the stamps' bytes out of a datum; return the rest, and where in it each began (-1: not cut)."""
    cuts = [-1] * len(stamps)
    taken: list[tuple[int, int]] = []
    for i, stamp in enumerate(stamps):
        if stamp:
            at = _find(body, stamp, taken)
            if at >= 0:
                cuts[i] = at
                taken.append((at, at + len(stamp)))
    pieces, last = [], 0
    for start, end in sorted(taken):
        pieces.append(body[last:start])
        last = end
    pieces.append(body[last:])
    return b"".join(pieces), cuts


def _find(body: bytes, stamp: bytes, taken: Sequence[tuple[int, int]]) -> int:
    """Where the stamp's bytes are, clear of those taken. To look for a short prefix is ten times faster."""
    prefix = stamp[:_PREFIX]
    at = body.find(prefix)
    while at >= 0:
        end = at + len(stamp)
        if body.startswith(stamp, at) and all(end <= a or at >= b for a, b in taken):
            return at
        at = body.find(prefix, at + 1)
    return -1
