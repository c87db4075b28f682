"""Archived rows of real packets, made by fastavro alone: what published bytes are compared with."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
import pyarrow as pa

from broker.packets.schema import ALERTS, CUTOUTS, SCORES

INGESTED = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
COLUMNS = pa.schema(
    [f for f in ALERTS if f.name not in ("hpx29", "history", "source", "topic", "partition", "offset")]
    + [pa.field("scores", SCORES), pa.field("batch", pa.string())]
)

STAMPS: dict[str, Any] = {
    "model": "stamps",
    "version": "1",
    "classes": ["asteroid", "SN", "AGN", "VS", "bogus"],
    "probabilities": [0.0625, 0.75, 0.0625, 0.0625, 0.0625],
    "reason": None,
}
LIGHTCURVE: dict[str, Any] = {
    "model": "lightcurve",
    "version": "3",
    "classes": ["Ia", "II", "Ibc", "IIn", "SLSN-I"],
    "probabilities": [0.125, 0.125, 0.125, 0.125, 0.5],
    "reason": None,
}
FAILED: dict[str, Any] = {
    "model": "lightcurve",
    "version": "3",
    "classes": None,
    "probabilities": None,
    "reason": "no answer in 10 s",
}


class Original(NamedTuple):
    """A packet taken apart: its writer schema, its datum, and the datum decoded by fastavro."""

    schema_json: str
    datum: bytes
    alert: dict[str, Any]


def original(packet: bytes, schemas: Path | None = None) -> Original:
    """Take a packet apart; `schemas` has the ID.avsc of packets in Confluent's framing."""
    if packet[:4] == b"Obj\x01":
        blocks = fastavro.block_reader(io.BytesIO(packet))
        schema_json, datum = blocks.metadata["avro.schema"], next(iter(blocks)).bytes_.read()  # type: ignore[attr-defined]  # its stubs lack it
    else:
        assert schemas is not None
        schema_json = (schemas / f"{int.from_bytes(packet[1:5], 'big')}.avsc").read_text()
        datum = packet[5:]
    return Original(schema_json, datum, read(schema_json, datum))


_parsed: dict[str, Any] = {}


def read(schema_json: str, datum: bytes) -> dict[str, Any]:
    """Decode a datum by fastavro, and require that the schema uses up all of its bytes."""
    if schema_json not in _parsed:
        _parsed[schema_json] = fastavro.parse_schema(json.loads(schema_json))
    stream = io.BytesIO(datum)
    alert = fastavro.schemaless_reader(stream, _parsed[schema_json], None)
    assert isinstance(alert, dict)
    assert stream.tell() == len(datum)
    return alert


def row(original: Original, **changes: Any) -> dict[str, Any]:
    """The archived row of a packet, with the scores STAMPS and LIGHTCURVE."""
    alert, datum = original.alert, original.datum
    survey = "ztf" if "candid" in alert else "lsst"
    stamps = [alert[name] for name in ("cutoutScience", "cutoutTemplate", "cutoutDifference")]
    if survey == "ztf":
        stamps = [s and s["stampData"] for s in stamps]
        candidate = alert["candidate"]
        own = {
            "alert_id": alert["candid"],
            "object_id": alert["objectId"],
            "mjd": candidate["jd"] - 2400000.5,
            "ra": candidate["ra"],
            "dec": candidate["dec"],
            "band": "ugrizy"[candidate["fid"]],
        }
    else:
        source = alert["diaSource"]
        own = {
            "alert_id": alert["diaSourceId"],
            "object_id": str((alert["diaObject"] or {}).get("diaObjectId") or source["ssObjectId"]),
            "mjd": source["midpointMjdTai"],
            "ra": source["ra"],
            "dec": source["dec"],
            "band": source["band"],
        }
    cuts = [datum.index(s) if s else -1 for s in stamps]
    packet, end = b"", 0
    for at, stamp in sorted((at, s) for at, s in zip(cuts, stamps, strict=True) if at >= 0):
        packet, end = packet + datum[end:at], at + len(stamp)
    return {
        "survey": survey,
        **own,
        "flux": 1234.5,
        "flux_err": None,
        "rights": "public",
        "packet_schema": f"1/{hashlib.sha256(original.schema_json.encode()).hexdigest()[:16]}",
        "ingested_at": INGESTED,
        "scores": [STAMPS, LIGHTCURVE],
        "batch": f"{survey}/7",
        **dict(zip(CUTOUTS, stamps, strict=True)),
        "packet": packet + datum[end:],
        "packet_cuts": cuts,
        **changes,
    }


def table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows as a table of archived columns."""
    return pa.Table.from_pylist(list(rows), COLUMNS)


def writer_schemas(originals: Sequence[Original]) -> dict[str, str]:
    """{packet_schema: JSON} of the packets' schemas."""
    return {row(o)["packet_schema"]: o.schema_json for o in originals}
