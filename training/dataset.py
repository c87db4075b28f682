"""From data sets on disk to labelled alert tables: the same columns that the stream gives a model."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from broker.packets.schema import ALERTS, CUTOUT_SHAPE, CUTOUT_SIZE, CUTOUT_TENSOR, POINT

STAMPS = ("stamps/alerts.parquet", "stamps/stamps.npz")
LIGHT_CURVES = ("lightcurves/ztf_supernovae.parquet",)

# A cataclysmic variable is a star that varies; TDE (3) and other (9) are too few to learn from.
STAMP_CLASSES = {"asteroid": "asteroid", "SN": "SN", "AGN": "AGN", "VS": "VS", "CV": "VS", "bogus": "bogus"}
LIGHT_CURVE_CLASSES = {
    "SN Ia": "Ia",
    "SN Ia-91T-like": "Ia",
    "SN Ia-91bg-like": "Ia",
    "SN Ia-CSM": "Ia",
    "SN Ia-SC": "Ia",
    "SN II": "II",
    "SN IIP": "II",
    "SN IIL": "II",
    "SN Ib": "Ibc",
    "SN Ic": "Ibc",
    "SN Ibc": "Ibc",
    "SN Ic-BL": "Ibc",
    "SN IIn": "IIn",
    "SLSN-II": "IIn",
    "SLSN-I": "SLSN-I",
}

# What an astronomer would want to be shown, among supernovae: of each hundred, four.
_ORDINARY = (
    "Ia",
    "Ia-91T-like",
    "Ia-91bg-like",
    "II",
    "IIP",
    "IIL",
    "IIn",
    "IIb",
    "Ib",
    "Ic",
    "Ibc",
    "Ic-BL",
)
_UNUSUAL = (
    *("Ia-CSM", "Ia-SC", "Ia-pec", "Ia-Ca-rich", "Iax[02cx-like]"),
    *("Ib-pec", "Ib-Ca-rich", "Ibn", "Ic-pec", "Icn", "II-pec", "IIn-pec"),
)
ANOMALY_CLASSES = {
    **{f"SN {name}": "ordinary" for name in _ORDINARY},
    **{f"SN {name}": "anomaly" for name in _UNUSUAL},
    "SLSN-I": "anomaly",
    "SLSN-II": "anomaly",
}

# Packets whose position and neighbours somebody overwrote for a demonstration. All of them are supernovae at
# one position with one star beside them: a network would learn that, and seem better than it is.
ALTERED = "position far from its own reference source"
NEAR = 60 / 3600  # deg; a real one is within the stamp

ZERO_POINT = 3631e9  # nJy of magnitude 0 (AB)
MAGNITUDE = np.log(10) / 2.5
# ZTF's times are the start of a 30 s exposure in UTC; TAI was 37 s ahead in all the years of the survey.
TO_TAI_DAYS = (37 + 15) / 86400
NO_PIXEL = -(2**31)


class DatasetError(Exception):
    """A data set cannot be used: which file, what is wrong, what to do."""


@dataclass(frozen=True)
class Labelled:
    """Alerts with their classes. Row i of `table` is of class `labels[i]` and of object `groups[i]`."""

    table: pa.Table
    labels: np.ndarray
    groups: np.ndarray
    left_out: Mapping[str, int]
    files: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def summary(self) -> dict[str, object]:
        """The `data` entry of model.json."""
        objects = len(set(self.groups))
        return {"files": self.files, "rows": len(self), "objects": objects, "left_out": self.left_out}


def stamps(data: Path, classes: Mapping[str, str] = STAMP_CLASSES) -> Labelled:
    """ZTF alerts with cutouts: `data`/stamps/alerts.parquet and stamps.npz. Raises DatasetError.

    `classes` names the class of each label; other labels are left out.
    """
    alerts_path, stamps_path = _files(data, STAMPS)
    alerts = pl.read_parquet(alerts_path)
    with np.load(stamps_path, allow_pickle=False) as z:
        if len(z["q"]) != len(alerts) or (z["candid"] != alerts["candid"].to_numpy()).any():
            raise DatasetError(f"{stamps_path} and {alerts_path} are not of the same alerts, row by row")
        images = _unpacked(z["q"], z["step"], z["offset"], z["shape"])
        shapes = z["shape"].astype(np.int32)
    label = alerts["label"].to_numpy()
    reason = np.where(_altered(alerts), ALTERED, label)
    known = pl.Series(np.isin(reason, list(classes)))
    left_out = Counter(reason[~known.to_numpy()].tolist())
    kept = np.flatnonzero(known.to_numpy())
    alerts = alerts.filter(known)
    sign = np.where(alerts["isdiffpos"].is_in(["t", "1"]).to_numpy(), 1.0, -1.0)
    flux, error = nanojansky(alerts["magpsf"].to_numpy(), alerts["sigmapsf"].to_numpy())
    labelling = (
        "label",
        "label_source",
        "name_type",
        "gcvs_type",
        "alerce_paul",
        "mpc",
        "nprv",
        "nprvdet",
        "nfp",
    )
    source = alerts.drop(*labelling, "objectId", "score_braai_d6_m7", "score_braai_d6_m9").to_arrow()
    table = _table(
        object_id=alerts["objectId"].to_list(),
        alert_id=alerts["candid"].to_numpy(),
        mjd=alerts["jd"].to_numpy() - 2400000.5 + TO_TAI_DAYS,
        ra=alerts["ra"].to_numpy(),
        dec=alerts["dec"].to_numpy(),
        band=[{1: "g", 2: "r", 3: "i"}[f] for f in alerts["fid"]],
        flux=sign * flux,
        flux_err=error,
        history=pa.array([[]] * len(alerts), pa.list_(POINT)),
        source=pa.StructArray.from_arrays([c.combine_chunks() for c in source.columns], source.column_names),
    )
    pixels = pa.FixedSizeListArray.from_arrays(images[kept].reshape(-1), 3 * CUTOUT_SIZE**2)
    table = table.append_column("cutouts", pa.ExtensionArray.from_storage(CUTOUT_TENSOR, pixels))
    table = table.append_column(
        "cutout_shape", pa.FixedSizeListArray.from_arrays(shapes[kept].reshape(-1), 2)
    )
    assert table.schema.field("cutout_shape").type == CUTOUT_SHAPE
    labels = np.array([classes[label] for label in alerts["label"]])
    return Labelled(table, labels, alerts["objectId"].to_numpy(), dict(left_out), digests(data, STAMPS))


def light_curves(data: Path, classes: Mapping[str, str] = LIGHT_CURVE_CLASSES) -> Labelled:
    """One alert per supernova, at its last detection: `data`/lightcurves/ztf_supernovae.parquet.

    `classes` names the class of each type; other types are left out.

    Limits after the last detection are left away: no alert would carry them. Raises DatasetError.
    """
    (path,) = _files(data, LIGHT_CURVES)
    points = pl.read_parquet(path).with_columns(pl.col("oid", "type", "band").cast(pl.String))
    types = points.group_by("oid").agg(pl.col("type").unique()).sort("oid")
    label = {
        oid: classes.get(found[0]) if len(found) == 1 else None
        for oid, found in zip(types["oid"], types["type"], strict=True)
    }
    left_out = Counter(
        "/".join(sorted(found))
        for oid, found in zip(types["oid"], types["type"], strict=True)
        if label[oid] is None
    )
    last = pl.col("mjd").filter(~pl.col("is_upper_limit")).max().over("oid")
    points = points.filter(
        pl.col("oid").is_in([oid for oid in label if label[oid]]) & (pl.col("mjd") <= last)
    )
    points = points.sort("oid", "mjd", pl.col("is_upper_limit").not_(), maintain_order=True)  # detection last
    flux, error = nanojansky(
        points["mag"].cast(pl.Float64).to_numpy(), points["magerr"].cast(pl.Float64).fill_null(0.1).to_numpy()
    )
    limit = points["is_upper_limit"].to_numpy()
    mjd = points["mjd"].to_numpy() + TO_TAI_DAYS
    band = points["band"].to_numpy()
    flux_err = np.where(limit, flux / 5, error)
    oids = points["oid"].to_numpy()
    ends = np.append(np.flatnonzero(oids[1:] != oids[:-1]) + 1, len(oids))
    own = ends - 1
    before = np.ones(len(oids), bool)
    before[own] = False
    history = pa.StructArray.from_arrays(
        [
            pa.array(mjd[before]),
            pa.array(band[before], pa.string()),
            pa.array(flux[before], mask=limit[before]),
            pa.array(flux_err[before]),
            pa.array(np.where(limit, "limit", "detection")[before], pa.string()),
        ],
        fields=list(POINT),
    )
    offsets = np.concatenate([[0], ends - np.arange(1, len(ends) + 1)]).astype(np.int32)
    table = _table(
        object_id=oids[own].tolist(),
        alert_id=np.arange(len(own), dtype=np.int64),
        mjd=mjd[own],
        ra=np.zeros(len(own)),
        dec=np.zeros(len(own)),
        band=band[own].tolist(),
        flux=flux[own],
        flux_err=flux_err[own],
        history=pa.ListArray.from_arrays(pa.array(offsets), history),
        source=pa.array([{}] * len(own), pa.struct([])),
    )
    labels = np.array([label[oid] for oid in oids[own]])
    return Labelled(table, labels, oids[own], dict(left_out), digests(data, LIGHT_CURVES))


def nanojansky(magnitude: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(flux, flux_err) in nJy of AB magnitudes and their errors."""
    flux = ZERO_POINT * 10 ** (-0.4 * magnitude)
    return flux, flux * sigma * MAGNITUDE


def _altered(alerts: pl.DataFrame) -> np.ndarray:
    """bool (rows,): the alert is not where its nearest source of the reference image is (`ranr`, `decnr`)."""
    ra, dec, ranr, decnr = (alerts[name].to_numpy() for name in ("ra", "dec", "ranr", "decnr"))
    east = ((ra - ranr + 180) % 360 - 180) * np.cos(np.radians(dec))
    return np.hypot(east, dec - decnr) > NEAR


def _table(**values: object) -> pa.Table:
    """The columns of the alert table that a model may read; `survey` is ZTF for both data sets."""
    rows = len(values["object_id"])  # type: ignore[arg-type]  # every value is sized
    values = {"survey": ["ztf"] * rows, **values}
    columns = {
        name: value if isinstance(value, pa.Array) else pa.array(value, ALERTS.field(name).type)
        for name, value in values.items()
    }
    return pa.table(columns)


def _unpacked(q: np.ndarray, step: np.ndarray, offset: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """float32 (rows, 3, 63, 63) from stored integers; smaller stamps in the middle, NaN around them."""
    stored = np.where(q == NO_PIXEL, np.nan, q * step[:, :, None, None] + offset[:, :, None, None]).astype(
        np.float32
    )
    images = np.full((len(q), 3, CUTOUT_SIZE, CUTOUT_SIZE), np.nan, np.float32)
    for i, (height, width) in enumerate(shape):
        top, left = (CUTOUT_SIZE - height) // 2, (CUTOUT_SIZE - width) // 2
        images[i, :, top : top + height, left : left + width] = stored[i, :, :height, :width]
    return images


def _files(data: Path, names: tuple[str, ...]) -> list[Path]:
    if absent := [name for name in names if not (data / name).is_file()]:
        raise DatasetError(f"{data} has no {' and no '.join(absent)}: give the folder that has them")
    return [data / name for name in names]


def digests(data: Path, names: Sequence[str]) -> dict[str, dict[str, object]]:
    """sha256 and size in bytes of each file that was read."""
    return {
        name: {
            "sha256": hashlib.sha256((data / name).read_bytes()).hexdigest(),
            "bytes": (data / name).stat().st_size,
        }
        for name in names
    }
