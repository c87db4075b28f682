"""LSST (Rubin): Confluent's wire format or containers, schemas 7.0 to 11.0 and what only adds fields to them.

Fields: https://github.com/lsst/alert_packet. Times are TAI, middle of the exposure; fluxes are nJy of the
difference image. Ids of 0 say "none". All LSST alerts are public.
"""

from __future__ import annotations

import re
from functools import lru_cache

import polars as pl

from broker.packets import container
from broker.packets.lightcurve import ROW, finite, given, history, nested, points, top
from broker.packets.schema import PUBLIC
from broker.packets.survey import Datum, PacketError, SchemaSource, WriterSchema

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

    def recognises(self, fields: frozenset[str]) -> bool:
        return "diaSource" in fields

    def split(self, packet: bytes, schemas: SchemaSource | None) -> Datum:
        return container.split(packet, schemas)

    def alerts(self, frame: pl.DataFrame, schema: WriterSchema) -> pl.DataFrame:
        _require(frame)
        frame = frame.with_columns(own_id=_alert_id(frame))
        mjd = frame["diaSource"].struct.field("midpointMjdTai").cast(pl.Float64)
        objects = [_id(nested(frame, record, field, pl.Int64)) for record, field in _OBJECT]
        return frame.select(
            alert_id="own_id",
            object_id=pl.coalesce(*objects, "own_id").cast(pl.String),
            mjd=mjd,
            ra=nested(frame, "diaSource", "ra", pl.Float64),
            dec=nested(frame, "diaSource", "dec", pl.Float64),
            band=nested(frame, "diaSource", "band", pl.String).fill_null(NO_BAND),
            flux=finite(nested(frame, "diaSource", "psfFlux", pl.Float64)),
            flux_err=finite(nested(frame, "diaSource", "psfFluxErr", pl.Float64)),
            history=history(
                mjd.to_numpy(),
                [
                    _fluxes(frame, "prvDiaSources", "detection"),
                    _fluxes(frame, "prvDiaForcedSources", "forced"),
                    _limits(frame),
                ],
            ),
            source=pl.col("diaSource"),
            rights=pl.lit(PUBLIC),
            version=pl.coalesce(
                top(frame, "lsst_schema_version", pl.String), pl.lit(_named_version(schema.json))
            )
            .str.extract(r"v(\d+_\d+)")
            .str.replace("_", "."),
            cutout_science=top(frame, "cutoutScience", pl.Binary),
            cutout_template=top(frame, "cutoutTemplate", pl.Binary),
            cutout_difference=top(frame, "cutoutDifference", pl.Binary),
        )


SURVEY = Lsst()


def _require(frame: pl.DataFrame) -> None:
    source = frame.schema.get("diaSource")
    fields = {f.name for f in source.fields} if isinstance(source, pl.Struct) else set()
    lacking = [f"diaSource.{name}" for name in _NEEDED if name not in fields]
    if lacking:
        raise PacketError(f"no LSST alert: its schema lacks {', '.join(lacking)}")


def _id(number: pl.Expr) -> pl.Expr:
    return pl.when(number != 0).then(number)


def _alert_id(frame: pl.DataFrame) -> pl.Expr:
    """diaSourceId; alertId before 8.0."""
    return pl.coalesce(
        top(frame, "diaSourceId", pl.Int64),
        top(frame, "alertId", pl.Int64),
        nested(frame, "diaSource", "diaSourceId", pl.Int64),
    )


@lru_cache(maxsize=64)
def _named_version(schema_json: str) -> str | None:
    """ "lsst.v9_0" of a schema named lsst.v9_0.alert; None where another's name hides it."""
    found = _VERSION.search(schema_json)
    return found[0] if found else None


def _fluxes(frame: pl.DataFrame, column: str, kind: str) -> pl.DataFrame | None:
    records = points(frame, column)
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


def _limits(frame: pl.DataFrame) -> pl.DataFrame | None:
    """prvDiaNondetectionLimits (7.x): the noise of an exposure in which nothing was found."""
    records = points(frame, "prvDiaNondetectionLimits")
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
