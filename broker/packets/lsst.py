"""LSST (Rubin): Confluent's wire format or containers, schemas 7.0 to 11.0 and what only adds fields to them.

Fields: https://github.com/lsst/alert_packet. Times are TAI, middle of the exposure; fluxes are nJy of the
difference image. Ids of 0 say "none". All LSST alerts are public.
"""

from __future__ import annotations

import re
from functools import lru_cache

import polars as pl

from broker.packets import container
from broker.packets.fields import Fields
from broker.packets.lightcurve import ROW, finite, given, history, points
from broker.packets.schema import PUBLIC
from broker.packets.survey import Datum, SchemaSource, UnsuitedSchema, WriterSchema

_NEEDED = ("midpointMjdTai", "ra", "dec")
# What names the object: first a diaObject, then, for a known solar-system source, its ssObject (in ssSource
# since 8.0, in ssObject before). A source with neither starts an object of its own, as the survey itself
# numbers a new diaObject by its first diaSource.
_OBJECT = (
    ("diaObject", "diaObjectId"),
    ("diaSource", "diaObjectId"),
    ("ssSource", "ssObjectId"),
    ("ssObject", "ssObjectId"),
    ("diaSource", "ssObjectId"),
)
NO_BAND = ""  # `band` may be null in a packet
_VERSION = re.compile(r"lsst\.v\d+_\d+")


class Lsst:
    name = "lsst"
    packs_stamps = False

    def recognises(self, fields: frozenset[str]) -> bool:
        return "diaSource" in fields

    def split(self, packet: bytes, schemas: SchemaSource | None) -> Datum:
        return container.split(packet, schemas)

    def alerts(self, frame: pl.DataFrame, schema: WriterSchema) -> pl.DataFrame:
        fields = Fields(frame)
        _require(fields)
        frame = frame.with_columns(own_id=_alert_id(fields))
        mjd = frame["diaSource"].struct.field("midpointMjdTai").cast(pl.Float64)
        objects = [_id(fields.nested(record, field, pl.Int64)) for record, field in _OBJECT]
        return frame.select(
            alert_id="own_id",
            object_id=pl.coalesce(*objects, "own_id").cast(pl.String),
            mjd=mjd,
            ra=fields.nested("diaSource", "ra", pl.Float64),
            dec=fields.nested("diaSource", "dec", pl.Float64),
            band=fields.nested("diaSource", "band", pl.String).fill_null(NO_BAND),
            flux=finite(fields.nested("diaSource", "psfFlux", pl.Float64)),
            flux_err=finite(fields.nested("diaSource", "psfFluxErr", pl.Float64)),
            history=history(
                mjd.to_numpy(),
                [
                    _fluxes(frame, fields, "prvDiaSources", "detection"),
                    _fluxes(frame, fields, "prvDiaForcedSources", "forced"),
                    _limits(frame, fields),
                ],
            ),
            source=pl.col("diaSource"),
            rights=pl.lit(PUBLIC),
            version=pl.coalesce(
                fields.top("lsst_schema_version", pl.String), pl.lit(_named_version(schema.json))
            )
            .str.extract(r"v(\d+_\d+)")
            .str.replace("_", "."),
            cutout_science=fields.top("cutoutScience", pl.Binary),
            cutout_template=fields.top("cutoutTemplate", pl.Binary),
            cutout_difference=fields.top("cutoutDifference", pl.Binary),
        )


SURVEY = Lsst()


def _require(fields: Fields) -> None:
    lacking = [f"diaSource.{name}" for name in _NEEDED if name not in fields.of("diaSource")]
    if lacking:
        raise UnsuitedSchema(f"no LSST alert: its schema lacks {', '.join(lacking)}")


def _id(number: pl.Expr) -> pl.Expr:
    return pl.when(number != 0).then(number)


def _alert_id(fields: Fields) -> pl.Expr:
    """diaSourceId; alertId before 8.0."""
    return pl.coalesce(
        fields.top("diaSourceId", pl.Int64),
        fields.top("alertId", pl.Int64),
        fields.nested("diaSource", "diaSourceId", pl.Int64),
    )


@lru_cache(maxsize=64)
def _named_version(schema_json: str) -> str | None:
    """ "lsst.v9_0" of a schema named lsst.v9_0.alert; None where another's name hides it."""
    found = _VERSION.search(schema_json)
    return found[0] if found else None


def _fluxes(frame: pl.DataFrame, fields: Fields, column: str, kind: str) -> pl.DataFrame | None:
    records = points(frame, fields, column)
    if records is None:
        return None
    return records.select(
        ROW,
        mjd=given(records, "midpointMjdTai"),
        band=pl.col("band").cast(pl.String),
        flux=given(records, "psfFlux"),
        flux_err=given(records, "psfFluxErr"),
        kind=pl.lit(kind),
    )


def _limits(frame: pl.DataFrame, fields: Fields) -> pl.DataFrame | None:
    """prvDiaNondetectionLimits (7.x): the noise of an exposure in which nothing was found."""
    records = points(frame, fields, "prvDiaNondetectionLimits")
    if records is None:
        return None
    return records.select(
        ROW,
        mjd=given(records, "midpointMjdTai"),
        band=pl.col("band").cast(pl.String),
        flux=pl.lit(None, pl.Float64),
        flux_err=given(records, "diaNoise"),
        kind=pl.lit("limit"),
    )
