"""LSST packets to mutate where no real ones are given: simulated ZTF alerts, told as Rubin's schema would.

Field names and types are those of lsst.v9_0 (https://github.com/lsst/alert_packet), the fewest that make an
alert with a history and stamps.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import fastavro

from broker.packets.decode import decode
from broker.packets.survey import survey
from rayfinch.fuzz.packet import wire

SCHEMA_ID = 900


def _maybe(kind: Any) -> dict[str, Any]:
    return {"type": ["null", kind], "default": None}


def _record(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    made = [
        {"name": field, **kind}
        if isinstance(kind, dict) and "default" in kind
        else {"name": field, "type": kind}
        for field, kind in fields.items()
    ]
    return {"type": "record", "name": name, "namespace": "lsst.v9_0", "fields": made}


_MEASURED = {
    "midpointMjdTai": "double",
    "ra": "double",
    "dec": "double",
    "psfFlux": _maybe("float"),
    "psfFluxErr": _maybe("float"),
    "band": _maybe("string"),
}
SCHEMA: dict[str, Any] = _record(
    "alert",
    {
        "diaSourceId": "long",
        "observation_reason": _maybe("string"),
        "diaSource": _record(
            "diaSource",
            {
                "diaSourceId": "long",
                "visit": "long",
                "detector": "int",
                "diaObjectId": _maybe("long"),
                "ssObjectId": _maybe("long"),
                **_MEASURED,
                "snr": _maybe("float"),
                "reliability": _maybe("float"),
                "isDipole": _maybe("boolean"),
            },
        ),
        "prvDiaSources": _maybe({"type": "array", "items": "lsst.v9_0.diaSource"}),
        "prvDiaForcedSources": _maybe(
            {
                "type": "array",
                "items": _record(
                    "diaForcedSource",
                    {"diaForcedSourceId": "long", "diaObjectId": "long", "visit": "long", **_MEASURED},
                ),
            }
        ),
        "diaObject": _maybe(_record("diaObject", {"diaObjectId": "long", "ra": "double", "dec": "double"})),
        "cutoutDifference": _maybe("bytes"),
        "cutoutScience": _maybe("bytes"),
        "cutoutTemplate": _maybe("bytes"),
    },
)


def schema_json() -> str:
    return json.dumps(SCHEMA)


def packets(n: int, seed: int) -> Iterator[bytes]:
    """`n` packets in Confluent's framing with schema id 900."""
    from training.simulation import packets as simulated

    schema = fastavro.parse_schema(SCHEMA)
    alerts = decode(survey("ztf"), [s.packet for s in simulated(n, seed)]).alerts
    for row in alerts.to_pylist():
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, schema, _alert(row))
        yield wire(SCHEMA_ID, stream.getvalue())


def _alert(row: dict[str, Any]) -> dict[str, Any]:
    object_id = row["alert_id"] // 1000
    source = {
        "diaSourceId": row["alert_id"],
        "visit": 2025090500123,
        "detector": 94,
        "diaObjectId": object_id,
        "ssObjectId": None,
        "midpointMjdTai": row["mjd"],
        "ra": row["ra"],
        "dec": row["dec"],
        "psfFlux": row["flux"],
        "psfFluxErr": row["flux_err"],
        "band": row["band"],
        "snr": row["flux"] / row["flux_err"],
        "reliability": 0.8,
        "isDipole": False,
    }
    before = [
        source
        | {"diaSourceId": row["alert_id"] - i - 1, "midpointMjdTai": p["mjd"], "band": p["band"]}
        | {"psfFlux": p["flux"], "psfFluxErr": p["flux_err"]}
        for i, p in enumerate(row["history"])
        if p["kind"] == "detection"
    ]
    forced = [{**p, "diaForcedSourceId": p["diaSourceId"] + 1} for p in before]
    return {
        "diaSourceId": row["alert_id"],
        "observation_reason": "science",
        "diaSource": source,
        "prvDiaSources": before or None,
        "prvDiaForcedSources": forced or None,
        "diaObject": {"diaObjectId": object_id, "ra": row["ra"], "dec": row["dec"]},
        "cutoutDifference": row["cutout_difference"],
        "cutoutScience": row["cutout_science"],
        "cutoutTemplate": row["cutout_template"],
    }
