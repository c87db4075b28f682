"""Parts of a set of alerts in which a network may be worse than on the whole."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa

from models import columns, sky
from training.dataset import ZERO_POINT

MAGNITUDES = (17.0, 18.0, 19.0, 20.0)  # AB, of the difference flux
LATITUDES = (10.0, 20.0, 40.0)  # degrees from the galactic plane
FEWEST = 10  # alerts: of fewer there is nothing to say


def slices(table: pa.Table) -> dict[str, dict[str, np.ndarray]]:
    """Kind -> name -> which rows (bool). A kind that does not divide the alerts is left out."""
    found = {
        "band": _values(table, "band"),
        "magnitude": _between(_magnitude(table), MAGNITUDES, "mag"),
        "galactic latitude": _between(_latitude(table), LATITUDES, "deg"),
        "schema": _values(table, "packet_schema"),
        "stamps": _stamps(table),
    }
    parts = {
        kind: {name: rows for name, rows in names.items() if rows.sum() >= FEWEST}
        for kind, names in found.items()
    }
    return {kind: names for kind, names in parts.items() if len(names) > 1}


def _values(table: pa.Table, name: str) -> dict[str, np.ndarray]:
    if name not in table.column_names:
        return {}
    values = np.array([str(value) for value in table[name].to_pylist()])
    return {value: values == value for value in np.unique(values).tolist()}


def _magnitude(table: pa.Table) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return -2.5 * np.log10(np.abs(columns.numbers(table, "flux")) / ZERO_POINT)


def _latitude(table: pa.Table) -> np.ndarray:
    """NaN where no position is known: all at the same place."""
    ra, dec = columns.numbers(table, "ra"), columns.numbers(table, "dec")
    if len(np.unique(ra)) < 2:
        return np.full(len(table), np.nan)
    return np.abs(np.degrees(np.arcsin(np.clip(sky.sine_of_latitude(ra, dec, sky.GALACTIC_POLE), -1, 1))))


def _between(values: np.ndarray, edges: tuple[float, ...], unit: str) -> dict[str, np.ndarray]:
    place = np.searchsorted(edges, values, side="right")
    names = [f"below {edges[0]:g} {unit}"]
    names += [f"{low:g} to {high:g} {unit}" for low, high in pairwise(edges)]
    names += [f"{edges[-1]:g} {unit} or more"]
    return {name: (place == i) & np.isfinite(values) for i, name in enumerate(names)}


def _stamps(table: pa.Table) -> dict[str, np.ndarray]:
    """Whole ones; those with pixels that are no value; those cut at the chip's edge."""
    if "cutouts" not in table.column_names:
        return {}
    invalid = np.isnan(columns.cutouts(table)).any(axis=(1, 2, 3))
    edge = np.zeros(len(table), bool)
    if "cutout_shape" in table.column_names:
        shapes = columns.one(table["cutout_shape"]).flatten().to_numpy().reshape(-1, 2)
        edge = (shapes != columns.CUTOUTS[1:]).any(axis=1)
    return {"whole": ~invalid & ~edge, "with invalid pixels": invalid & ~edge, "at an edge": edge}
