"""Small data sets in the layout of the real ones, for tests that train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

ROWS = 60


@pytest.fixture(scope="session")
def little(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 60 made-up stamps (two of each object) and 60 light curves, a few of odd kinds."""
    folder = tmp_path_factory.mktemp("data")
    draw = np.random.default_rng(0)
    _stamps(folder / "stamps", draw)
    _light_curves(folder / "lightcurves", draw)
    return folder


def _stamps(folder: Path, draw: np.random.Generator) -> None:
    folder.mkdir()
    candid = np.arange(ROWS) + 10**18
    labels = [("asteroid", "SN", "AGN", "VS", "bogus", "CV")[(i // 2) % 6] for i in range(ROWS - 2)] + [
        "TDE",
        "other",
    ]
    ra, dec = draw.uniform(0, 360, ROWS), draw.uniform(-30, 90, ROWS)
    pl.DataFrame(
        {
            "candid": candid,
            "objectId": [f"ZTF{i // 2}" for i in range(ROWS)],
            "label": labels,
            **dict.fromkeys(("label_source", "name_type", "gcvs_type"), "rule"),
            **dict.fromkeys(("alerce_paul", "mpc", "nprv", "nprvdet", "nfp"), 0),
            **dict.fromkeys(("score_braai_d6_m7", "score_braai_d6_m9"), 0.5),
            "jd": 2459000.5 + draw.uniform(0, 100, ROWS),
            "fid": draw.integers(1, 3, ROWS),
            "isdiffpos": draw.choice(["t", "f"], ROWS),
            "ra": np.where(np.arange(ROWS) == 2, 3.38, ra),
            "dec": dec,
            "ranr": ra + 1e-4,
            "decnr": dec - 1e-4,
            "magpsf": draw.uniform(15, 20, ROWS),
            "sigmapsf": draw.uniform(0.01, 0.2, ROWS),
            "sgscore1": draw.uniform(0, 1, ROWS),
        }
    ).write_parquet(folder / "alerts.parquet")
    q = draw.integers(-1000, 1000, (ROWS, 3, 63, 63)).astype(np.int32)
    q[0, 0, 5, 7] = -(2**31)
    shape = np.full((ROWS, 2), 63, np.int16)
    shape[1] = (51, 63)
    np.savez(
        folder / "stamps.npz",
        q=q,
        step=np.full((ROWS, 3), 0.5, np.float32),
        offset=np.full((ROWS, 3), 10, np.float32),
        shape=shape,
        candid=candid,
    )


def _light_curves(folder: Path, draw: np.random.Generator) -> None:
    folder.mkdir()
    kinds = ["SN Ia", "SN II", "SN Ic", "SN IIn", "SLSN-I"]
    rows = []
    for i in range(ROWS):
        kind = "SN Ibn" if i == 0 else kinds[i % 5]
        for j in range(12):
            limit = j < 3 or j == 11
            error = None if limit else 0.1
            rows.append((f"ZTF{i}", kind, "gr"[j % 2], 59000.0 + 3 * j, draw.uniform(18, 20), error, limit))
    columns = ["oid", "type", "band", "mjd", "mag", "magerr", "is_upper_limit"]
    pl.DataFrame(rows, columns, orient="row").with_columns(
        pl.col("oid", "type", "band").cast(pl.Categorical)
    ).write_parquet(folder / "ztf_supernovae.parquet")
