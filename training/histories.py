"""What was known of the alerts of the stamps before them: their packets' histories, or their light curves."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from broker.packets import ztf
from broker.packets.decode import decode
from broker.packets.schema import POINT
from training import dataset
from training.dataset import LIGHT_CURVES, STAMP_CLASSES, TO_TAI_DAYS, Labelled, nanojansky

PACKETS = "ztf"  # folder of *.tar.gz of packets
WINDOW_DAYS = 30.0  # that a packet's history goes back
UNTYPED = "supernova of no class"
APART_DAYS = 1e-3  # an earlier exposure ended so long before this one


def with_histories(found: Labelled, data: Path) -> Labelled:
    """The labelled alerts with the points before them, as a packet would carry them: of the last 30 days.

    From the alert's packet where it is among `data`/ztf/*.tar.gz, else from the light curve of its object,
    if that is in `data`/lightcurves. Alerts of neither have an empty history.
    """
    known = _of_packets(data, set(found.table["alert_id"].to_pylist()))
    curves = _curves(data, set(found.groups.tolist()))
    lists = [
        known.get(alert) or _before(curves.get(str(name)), mjd)
        for alert, name, mjd in zip(
            found.table["alert_id"].to_pylist(), found.groups, found.table["mjd"].to_pylist(), strict=True
        )
    ]
    at = found.table.schema.get_field_index("history")
    history = pa.array(lists, pa.list_(POINT))
    return replace(found, table=found.table.set_column(at, "history", history))


def fused(data: Path, classes: Mapping[str, str] = STAMP_CLASSES) -> Labelled:
    """Alerts with cutouts and, where something is known of them, histories; supernovae by their types.

    `classes` names the class of each label of the stamps, SN stands for those of their types. Those without a
    type are left out. Raises DatasetError.
    """
    found = dataset.stamps(data, classes)
    types = supernova_types(data) if (data / LIGHT_CURVES[0]).is_file() else {}
    labels = np.array(
        [
            types.get(str(name), UNTYPED) if label == "SN" else label
            for name, label in zip(found.groups, found.labels, strict=True)
        ]
    )
    kept = labels != UNTYPED
    left_out = dict(found.left_out)
    if not kept.all():
        left_out[UNTYPED] = int((~kept).sum())
    read = (*(LIGHT_CURVES if types else ()), *(f"{PACKETS}/{path.name}" for path in _tarballs(data)))
    files = dict(found.files) | dataset.digests(data, read)
    typed = Labelled(found.table.filter(pa.array(kept)), labels[kept], found.groups[kept], left_out, files)
    return with_histories(typed, data)


def supernova_types(data: Path) -> Mapping[str, str]:
    """The class of each object of `data`/lightcurves that has one (training.dataset.LIGHT_CURVE_CLASSES)."""
    found = dataset.light_curves(data)
    return dict(zip(found.groups.tolist(), found.labels.tolist(), strict=True))


def _tarballs(data: Path) -> list[Path]:
    return sorted((data / PACKETS).glob("*.tar.gz"))


def _of_packets(data: Path, wanted: set[int]) -> dict[int, list[dict[str, object]]]:
    histories: dict[int, list[dict[str, object]]] = {}
    for path in _tarballs(data):
        with tarfile.open(path) as tar:
            packets = [file.read() for member in tar if (file := tar.extractfile(member))]
        table = decode(ztf.SURVEY, packets).alerts.select(["alert_id", "history"])
        mask = pa.array([alert in wanted for alert in table["alert_id"].to_pylist()])
        for row in table.filter(mask).to_pylist():
            histories[row["alert_id"]] = row["history"]
    return histories


def _curves(data: Path, wanted: set[str]) -> dict[str, pl.DataFrame]:
    path = data / LIGHT_CURVES[0]
    if not path.is_file():
        return {}
    points = pl.read_parquet(path).with_columns(pl.col("oid", "band").cast(pl.String))
    points = points.filter(pl.col("oid").is_in(list(wanted))).sort("oid", "mjd")
    return {str(name): part for (name,), part in points.group_by("oid")}


def _before(curve: pl.DataFrame | None, mjd: float) -> list[dict[str, object]]:
    """Points of the light curve in the window before `mjd` (TAI)."""
    if curve is None:
        return []
    days = curve["mjd"].to_numpy() + TO_TAI_DAYS
    part = curve.filter(pl.Series((days >= mjd - WINDOW_DAYS) & (days < mjd - APART_DAYS)))
    magnitude = part["mag"].cast(pl.Float64).to_numpy()
    flux, error = nanojansky(magnitude, part["magerr"].cast(pl.Float64).fill_null(0.1).to_numpy())
    limit = part["is_upper_limit"].to_numpy()
    return [
        {
            "mjd": time + TO_TAI_DAYS,
            "band": band,
            "flux": None if deep else value,
            "flux_err": value / 5 if deep else off,
            "kind": "limit" if deep else "detection",
        }
        for time, band, value, off, deep in zip(
            part["mjd"].to_list(), part["band"].to_list(), flux.tolist(), error.tolist(), limit, strict=True
        )
    ]
