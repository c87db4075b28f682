"""The numbers of a packet that the `stamps` network reads beside the images.

First those that every survey gives, then columns of ZTF's `candidate`, which are missing values elsewhere.
Left out on purpose: what a label was made from or would be (the solar-system match `ss*`, counters and dates
of earlier detections), other models' verdicts (`rb`, `drb`), when and where on the camera it was taken, and
columns that only newer schemas have (they would tell the year of a training sample, and with it its label).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from models import columns, sky

COMMON = ("log_flux", "sign", "log_snr", "galactic_sine", "ecliptic_sine", "blue", "red")
COMMON_INPUTS = ("flux", "flux_err", "band", "ra", "dec")

# Columns of `source` and whether their logarithm is what matters. -999 is ZTF's "none".
LINEAR = (
    "magnr",
    "sharpnr",
    "sgscore1",
    "srmag1",
    "sgscore2",
    "fwhm",
    "seeratio",
    "magdiff",
    "nneg",
    "nbad",
    "aimagerat",
    "classtar",
    "magfromlim",
)
LOGARITHMIC = (
    "distnr",
    "sigmagnr",
    "chinr",
    "distpsnr1",
    "distpsnr2",
    "chipsf",
    "elong",
    "aimage",
    "bimage",
    "scorr",
)
SIGNED = ("sumrat",)
COLOURS = (("sgmag1", "srmag1"), ("srmag1", "simag1"), ("simag1", "szmag1"))
CONTRASTS = (("magpsf", "magnr"), ("magpsf", "srmag1"), ("magpsf", "magap"), ("magap", "magapbig"))
NONE = -998.0
NAMES = (*COMMON, *LINEAR, *LOGARITHMIC, *SIGNED, *(f"{a}-{b}" for a, b in COLOURS + CONTRASTS))
INPUTS = COMMON_INPUTS + tuple(
    f"source.{name}"
    for name in dict.fromkeys(
        (*LINEAR, *LOGARITHMIC, *SIGNED, *(n for pair in COLOURS + CONTRASTS for n in pair))
    )
)


def packet_features(table: pa.Table) -> np.ndarray:
    """float32 (rows, len(NAMES)): NaN where a value is missing, not finite or ZTF's "none"."""
    flux, error = columns.numbers(table, "flux"), columns.numbers(table, "flux_err")
    ra, dec = columns.numbers(table, "ra"), columns.numbers(table, "dec")
    bands = columns.column(table, "band")
    band = columns.codes(bands, columns.BANDS) if bands is not None else np.full(len(table), -1)
    cache: dict[str, np.ndarray] = {}

    def source(name: str) -> np.ndarray:
        if name not in cache:
            values = columns.numbers(table, f"source.{name}")
            cache[name] = np.where(values > NONE, values, np.nan)
        return cache[name]

    with np.errstate(all="ignore"):
        found = [
            np.log10(np.abs(flux)),
            np.sign(flux),
            np.log10(np.abs(flux) / error),
            np.abs(sky.sine_of_latitude(ra, dec, sky.GALACTIC_POLE)),
            np.abs(sky.sine_of_latitude(ra, dec, sky.ECLIPTIC_POLE)),
            np.where(band < 0, np.nan, band <= 1),
            np.where(band < 0, np.nan, band >= 3),
            *(source(name) for name in LINEAR),
            *(np.log10(np.maximum(source(name), 0) + 0.1) for name in LOGARITHMIC),
            *(source(name) for name in SIGNED),
            *(source(a) - source(b) for a, b in COLOURS + CONTRASTS),
        ]
        values = np.stack(found, axis=1)
        values[~(np.abs(values) < 1e6)] = np.nan
        return values.astype(np.float32)


@dataclass(frozen=True)
class Scaling:
    """Per feature the centre and width that training saw; what is beyond `LIMIT` widths is cut there."""

    centre: np.ndarray
    width: np.ndarray
    LIMIT = 4.0

    @classmethod
    def fit(cls, features: np.ndarray) -> Scaling:
        """Median and half of the central 68 per cent of each column of `features` (rows, F), NaN ignored."""
        empty = np.isnan(features).all(axis=0)
        features = np.where(empty, 0, features)  # a column without a value stays missing in `apply`
        low, centre, high = np.nanpercentile(features, [16, 50, 84], axis=0)
        width = (high - low) / 2
        spread = np.nanstd(features, axis=0)
        width = np.where(width > 1e-3 * spread, width, spread)
        return cls(centre.astype(np.float32), np.where(width > 0, width, 1).astype(np.float32))

    @classmethod
    def read(cls, raw: Mapping[str, Sequence[float]]) -> Scaling:
        return cls(np.asarray(raw["centre"], np.float32), np.asarray(raw["width"], np.float32))

    def written(self) -> dict[str, list[float]]:
        return {"centre": self.centre.tolist(), "width": self.width.tolist()}

    def apply(self, features: np.ndarray) -> np.ndarray:
        """float32 (rows, 2 F): scaled values (0 where missing), then 1 where the value is there."""
        known = np.isfinite(features)
        scaled = np.clip((features - self.centre) / self.width, -self.LIMIT, self.LIMIT)
        return np.concatenate([np.where(known, scaled, 0), known], axis=1, dtype=np.float32)
