"""Packets made to order from the published schemas: every field filled with a plausible value, or null."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import fastavro.schema
import numpy as np
from astropy.io import fits

ZTF_VERSIONS = ("3.0", "3.1", "3.2", "3.3", "4.01", "4.02")
LSST_IDS = (700, 701, 702, 703, 704, 800, 900, 1000, 1100)

_VALUES: dict[str, Any] = {
    "ra": 150.25,
    "dec": -5.5,
    "jd": 2460000.5,
    "fid": 2,
    "band": "r",
    "isdiffpos": "t",
    "magpsf": 20.0,
    "sigmapsf": 0.1,
    "diffmaglim": 21.0,
    "programid": 1,
    "objectId": "ZTF24abcdefg",
    "midpointMjdTai": 60900.25,
    "diaSourceId": 169298432603193359,
    "alertId": 169298432603193359,
    "diaObjectId": 169298432639893512,
    "ssObjectId": 21164719644750924,
    "candid": 2475433850015015001,
    "psfFlux": 1234.5,
    "psfFluxErr": 12.25,
}


def stamp(shape: tuple[int, int] = (63, 63), gzipped: bool = True, **cards: Any) -> bytes:
    """A FITS image of consecutive numbers."""
    image = np.arange(shape[0] * shape[1], dtype=">f4").reshape(shape)
    return fits_bytes(fits.HDUList([fits.PrimaryHDU(image, fits.Header(cards))]), gzipped)


def fits_bytes(hdus: fits.HDUList, gzipped: bool = True) -> bytes:
    stream = io.BytesIO()
    hdus.writeto(stream)
    return gzip.compress(stream.getvalue(), mtime=0) if gzipped else stream.getvalue()


def ztf_schema(folder: Path, version: str) -> dict[str, Any]:
    """The published schema of several files as the one that packets carry."""
    names = ["candidate", "prv_candidate", "fp_hist", "cutout", "alert"]
    files = [folder / version / f"{name}.avsc" for name in names]
    return fastavro.schema.load_schema_ordered([str(file) for file in files if file.exists()])


def lsst_schema(folder: Path, schema_id: int) -> dict[str, Any]:
    return json.loads((folder / f"{schema_id}.avsc").read_text())


def record(schema: Any, nulls: bool = False, **values: Any) -> dict[str, Any]:
    """A datum of the schema: plausible values, or null wherever null may be; `values` at the top."""
    named: dict[str, Any] = {}

    def fill(node: Any, name: str, namespace: str) -> Any:
        if isinstance(node, list):
            if nulls and "null" in node:
                return None
            return fill(next(branch for branch in node if branch != "null"), name, namespace)
        if isinstance(node, str) and node not in PRIMITIVES:
            node, namespace = named.get(node) or named[f"{namespace}.{node}"]
        kind = node if isinstance(node, str) else node["type"]
        if kind == "record":
            full = (
                node["name"] if "." in node["name"] else f"{node.get('namespace', namespace)}.{node['name']}"
            )
            namespace = full.rpartition(".")[0]
            named[full.lstrip(".")] = (node, namespace)
            return {f["name"]: fill(f["type"], f["name"], namespace) for f in node["fields"]}
        if kind == "array":
            return [fill(node["items"], name, namespace)]
        if kind == "map":
            return {"key": fill(node["values"], name, namespace)}
        if name in _VALUES:
            return _VALUES[name]
        if name == "stampData":
            return stamp()
        if name.startswith("cutout"):
            return stamp((30, 30), gzipped=False)
        return PRIMITIVES[kind]() if isinstance(kind, str) else fill(kind, name, namespace)

    return {**fill(schema, "", ""), **values}


PRIMITIVES: dict[str, Callable[[], Any]] = {
    "null": lambda: None,
    "boolean": lambda: True,
    "int": lambda: 7,
    "long": lambda: 7_000_000_000,
    "float": lambda: 0.5,
    "double": lambda: 0.25,
    "bytes": lambda: b"bytes",
    "string": lambda: "text",
}


def container(schema: Any, *records: dict[str, Any], codec: str = "null") -> bytes:
    stream = io.BytesIO()
    fastavro.writer(stream, schema, records, codec=codec)
    return stream.getvalue()


def wire(schema_id: int, schema: Any, datum: dict[str, Any]) -> bytes:
    """Confluent's wire format."""
    stream = io.BytesIO(b"\0" + schema_id.to_bytes(4, "big"))
    stream.seek(5)
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), datum)
    return stream.getvalue()
