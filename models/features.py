"""The numbers of a packet that the `stamps` network reads beside the images.

First those that every survey gives, then columns of ZTF's `candidate`, which are missing values elsewhere.
Left out on purpose: what a label was made from or would be (the solar-system match `ss*`, counters and dates
of earlier detections), other models' verdicts (`rb`, `drb`), and when and where on the camera it was taken.
Columns that only newer schemas have (`LATE`: Gaia's stars) come last and may not decide between real and
bogus: that they are missing tells the year of a training sample, and most bogus ones are old.
"""

from __future__ import annotations

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
    "sgscore3",
    "fwhm",
    "seeratio",
    "magdiff",
    "nneg",
    "nbad",
    "aimagerat",
    "bimagerat",
    "sky",
    "classtar",
    "magfromlim",
)
LOGARITHMIC = (
    "distnr",
    "sigmagnr",
    "chinr",
    "distpsnr1",
    "distpsnr2",
    "distpsnr3",
    "nmtchps",
    "chipsf",
    "elong",
    "aimage",
    "bimage",
    "scorr",
)
SIGNED = ("sumrat",)
COLOURS = (("sgmag1", "srmag1"), ("srmag1", "simag1"), ("simag1", "szmag1"))
CONTRASTS = (
    ("magpsf", "magnr"),
    ("magpsf", "srmag1"),
    ("magpsf", "magap"),
    ("magap", "magapbig"),
    ("magnr", "srmag1"),
)
LATE_LINEAR = ("maggaia", "maggaiabright")
LATE_LOGARITHMIC = ("neargaia", "neargaiabright")
LATE_CONTRASTS = (("magpsf", "maggaia"), ("srmag1", "maggaia"))
NONE = -998.0
LATE = (*LATE_LINEAR, *LATE_LOGARITHMIC, *(f"{a}-{b}" for a, b in LATE_CONTRASTS))
NAMES = (*COMMON, *LINEAR, *LOGARITHMIC, *SIGNED, *(f"{a}-{b}" for a, b in COLOURS + CONTRASTS), *LATE)
INPUTS = COMMON_INPUTS + tuple(
    f"source.{name}"
    for name in dict.fromkeys(
        (
            *(*LINEAR, *LOGARITHMIC, *SIGNED, *LATE_LINEAR, *LATE_LOGARITHMIC),
            *(name for pair in COLOURS + CONTRASTS + LATE_CONTRASTS for name in pair),
        )
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
            *(source(name) for name in LATE_LINEAR),
            *(np.log10(np.maximum(source(name), 0) + 0.1) for name in LATE_LOGARITHMIC),
            *(source(a) - source(b) for a, b in LATE_CONTRASTS),
        ]
        values = np.stack(found, axis=1)
        values[~(np.abs(values) < 1e6)] = np.nan
        return values.astype(np.float32)
