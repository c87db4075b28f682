"""ZTF: self-describing Avro containers, schemas 3.0 to 4.02, as the survey or a broker behind it wrote them.

Fields: https://zwickytransientfacility.github.io/ztf-avro-alert/schema.html. `jd` is the start of a 30 s
exposure in UTC; magnitudes are AB, of the difference image; forced photometry is in counts, with zero points.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from broker.packets import container
from broker.packets.fields import Fields
from broker.packets.lightcurve import (
    FLUX_PER_MAG,
    ROW,
    finite,
    given,
    history,
    magnitude_flux,
    points,
)
from broker.packets.schema import PUBLIC
from broker.packets.survey import Datum, SchemaSource, UnsuitedSchema, WriterSchema
from broker.packets.times import tai_mjd

BANDS = {1: "g", 2: "r", 3: "i"}
RIGHTS = {1: PUBLIC, 2: "partnership", 3: "caltech"}
MIDDLE_S = 15.0  # of an exposure of 30 s, after its start
LIMIT_SIGMA = 5.0  # diffmaglim is the 5-sigma limit
_NEEDED = ("jd", "fid", "ra", "dec")
# Forced photometry says "no measurement" by -99999.
_NO_MEASUREMENT = -99998.0


class Ztf:
    name = "ztf"
    packs_stamps = True

    def recognises(self, fields: frozenset[str]) -> bool:
        return {"candid", "objectId", "candidate"} <= fields

    def split(self, packet: bytes, schemas: SchemaSource | None) -> Datum:
        return container.split(packet, schemas)

    def alerts(self, frame: pl.DataFrame, schema: WriterSchema) -> pl.DataFrame:
        fields = Fields(frame)
        _require(fields)
        mjd = _mid_exposure(frame["candidate"].struct.field("jd"))
        flux = finite(
            magnitude_flux(
                _candidate(fields, "magpsf"), _sign(fields.nested("candidate", "isdiffpos", pl.String))
            )
        )
        flux_err = finite(flux.abs() * _candidate(fields, "sigmapsf") * FLUX_PER_MAG)
        return frame.select(
            alert_id=fields.top("candid", pl.Int64),
            object_id=fields.top("objectId", pl.String),
            mjd=pl.Series(mjd),
            ra=_candidate(fields, "ra"),
            dec=_candidate(fields, "dec"),
            band=_band(fields.nested("candidate", "fid", pl.Int64)),
            flux=flux,
            flux_err=flux_err,
            history=history(mjd, [_previous(frame, fields), _forced(frame, fields)]),
            source=pl.col("candidate"),
            rights=_rights(fields.nested("candidate", "programid", pl.Int64)),
            version=fields.top("schemavsn", pl.String),
            cutout_science=fields.nested("cutoutScience", "stampData", pl.Binary),
            cutout_template=fields.nested("cutoutTemplate", "stampData", pl.Binary),
            cutout_difference=fields.nested("cutoutDifference", "stampData", pl.Binary),
        )


SURVEY = Ztf()


def _require(fields: Fields) -> None:
    lacking = [f"candidate.{name}" for name in _NEEDED if name not in fields.of("candidate")]
    lacking += [name for name in ("candid", "objectId") if not fields.has(name)]
    if lacking:
        raise UnsuitedSchema(f"no ZTF alert: its schema lacks {', '.join(lacking)}")


def _candidate(fields: Fields, field: str) -> pl.Expr:
    return fields.nested("candidate", field, pl.Float64)


def _mid_exposure(jd: pl.Series) -> np.ndarray:
    return tai_mjd(jd.cast(pl.Float64).to_numpy(), MIDDLE_S)


def _sign(isdiffpos: pl.Expr) -> pl.Expr:
    """+1 for science minus reference (t, 1), -1 for the other way (f, 0); null where it is not said."""
    return isdiffpos.replace_strict({"t": 1.0, "1": 1.0, "f": -1.0, "0": -1.0}, default=None)


def _band(fid: pl.Expr) -> pl.Expr:
    return fid.replace_strict(BANDS, default=None, return_dtype=pl.String)


def _rights(programid: pl.Expr) -> pl.Expr:
    """Only what is known to be public is: an unknown or missing programme is somebody's own."""
    other = pl.format("programid-{}", programid.cast(pl.String).fill_null("unknown"))
    return programid.replace_strict(RIGHTS, default=None, return_dtype=pl.String).fill_null(other)


def _previous(frame: pl.DataFrame, fields: Fields) -> pl.DataFrame | None:
    """prv_candidates: a detection where there is a magnitude, else the upper limit of that exposure."""
    records = points(frame, fields, "prv_candidates")
    if records is None:
        return None
    signs = _sign(pl.col("isdiffpos").cast(pl.String)) if "isdiffpos" in records.columns else pl.lit(1.0)
    mag, limit = given(records, "magpsf"), given(records, "diffmaglim")
    flux = magnitude_flux(mag, signs)
    detected = mag.is_not_null()
    return records.select(
        ROW,
        mjd=pl.Series(_mid_exposure(records["jd"])),
        band=_band(pl.col("fid").cast(pl.Int64)),
        flux=flux,
        flux_err=pl.when(detected)
        .then(flux.abs() * given(records, "sigmapsf") * FLUX_PER_MAG)
        .otherwise(magnitude_flux(limit) / LIMIT_SIGMA),
        kind=pl.when(detected).then(pl.lit("detection")).otherwise(pl.lit("limit")),
    )


def _forced(frame: pl.DataFrame, fields: Fields) -> pl.DataFrame | None:
    """fp_hists: counts on the difference image, to nJy by each exposure's own zero point."""
    records = points(frame, fields, "fp_hists")
    if records is None:
        return None
    counts, sigma, zero = (
        pl.when(value > _NO_MEASUREMENT).then(value)
        for value in (given(records, f) for f in ("forcediffimflux", "forcediffimfluxunc", "magzpsci"))
    )
    njy = magnitude_flux(zero)
    return records.select(
        ROW,
        mjd=pl.Series(_mid_exposure(records["jd"])),
        band=_band(pl.col("fid").cast(pl.Int64)),
        flux=counts * njy,
        flux_err=sigma * njy,
        kind=pl.lit("forced"),
    )
