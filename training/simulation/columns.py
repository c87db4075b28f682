"""The candidate columns that come from catalogues, the visit and the survey's own book-keeping."""

from __future__ import annotations

from typing import Any

import numpy as np

from training.simulation.sky import HALF, Sky
from training.simulation.visits import DAY_ZERO, PIXEL, Visit

NONE = -999.0  # how the survey writes a number that it does not have
FILTER = {1: "zg", 2: "zr", 3: "zi"}


def sky_columns(
    rng: np.random.Generator, sky: Sky, at: tuple[float, float], ra: float, dec: float, visit: Visit
) -> dict[str, Any]:
    """What catalogues have around a source at `at` (pixels), whose place is `ra`, `dec` (degrees).

    That is the nearest source of the reference image, the three nearest of PS1 in 30 arcsec, and Gaia's.
    """
    points = sky.catalogue()
    x, y = points.x - at[0], points.y - at[1]
    order = np.argsort(np.hypot(x, y), kind="stable")
    x, y = x[order], y[order]
    distance, mags, star = np.hypot(x, y), points.mags[order], points.star[order]
    out = _reference(rng, distance, mags[:, visit.fid - 1], star, x, y, ra, dec)

    near = np.flatnonzero((distance * PIXEL < 30) & (mags[:, 1] < 22.6))
    for rank in (1, 2, 3):
        if rank > len(near):
            out |= {
                f"{name}{rank}": NONE for name in ("sgmag", "srmag", "simag", "szmag", "sgscore", "distpsnr")
            }
            out[f"objectidps{rank}"] = int(NONE)
            continue
        i = near[rank - 1]
        for band, mag in zip("griz", mags[i] + rng.normal(0, 0.02, 4), strict=True):
            out[f"s{band}mag{rank}"] = float(mag) if mag < 22.6 else NONE
        sure = np.clip((23.0 - mags[i, 1]) / 5.0, 0.0, 0.98)
        out[f"sgscore{rank}"] = float(
            np.clip(0.5 + (0.5 if star[i] else -0.5) * sure + rng.normal(0, 0.02), 0, 1)
        )
        out[f"distpsnr{rank}"] = float(distance[i] * PIXEL)
        place = _offset(ra, dec, x[i], y[i])
        out[f"objectidps{rank}"] = int((place[1] + 90) * 120) * 10**13 + int(place[0] * 1e7) * 1000
    out["nmtchps"] = len(near)

    gaia = np.flatnonzero(star & (mags[:, 1] < 20.5))
    out["neargaia"] = float(distance[gaia[0]] * PIXEL) if len(gaia) else float(rng.uniform(45, 90))
    out["maggaia"] = float(mags[gaia[0], 1]) if len(gaia) else float(rng.uniform(17, 20.5))
    bright = gaia[mags[gaia, 1] < 14.0]
    if len(bright):
        out |= {"neargaiabright": distance[bright[0]] * PIXEL, "maggaiabright": mags[bright[0], 1]}
    elif rng.random() < 0.3:
        out |= {"neargaiabright": rng.uniform(45, 90), "maggaiabright": rng.uniform(11, 14)}
    else:
        out |= {"neargaiabright": NONE, "maggaiabright": NONE}
    return out


def _reference(
    rng: np.random.Generator, distance: Any, mag: Any, star: Any, x: Any, y: Any, ra: float, dec: float
) -> dict[str, Any]:
    """The nearest source of the reference image, complete to about 23.2 mag. `distnr` is in pixels."""
    seen = np.flatnonzero(mag < 23.2)
    if len(seen):
        i = seen[0]
        where, away, light, point = _offset(ra, dec, x[i], y[i]), distance[i], mag[i], star[i]
    else:
        away, light, point = rng.uniform(20, 30), rng.uniform(21, 23), False
        where = _offset(ra, dec, away, 0.0)
    extended = 0.0 if point else max(0.0, 0.35 * (21.5 - light) / 4.0)
    sigma = 0.013 + 0.25 * 10 ** (0.4 * (light - 22.8)) + 0.15 * extended
    return {
        "distnr": float(away),
        "magnr": float(light + rng.normal(0, sigma)),
        "sigmagnr": float(sigma),
        "chinr": float((0.55 + 8 * extended) * rng.lognormal(0, 0.25)),
        "sharpnr": float(rng.normal(extended - 0.01 - 0.5 * sigma, 0.03 + 0.4 * sigma)),
        "ranr": where[0],
        "decnr": where[1],
    }


def _offset(ra: float, dec: float, x: float, y: float) -> tuple[float, float]:
    """RA and Dec (degrees) of a place x, y pixels from ra, dec; east is left."""
    step = PIXEL / 3600
    return float((ra - x * step / np.cos(np.radians(dec))) % 360), float(np.clip(dec + y * step, -90, 90))


def visit_columns(visit: Visit) -> dict[str, Any]:
    """What names and calibrates an exposure; the same for every visit of the history."""
    night = visit.jd - DAY_ZERO
    chip = f"c{visit.rcid // 4 + 1:02d}_o_q{visit.rcid % 4 + 1}"
    name = f"ztf_{night:.5f}_{visit.field:06d}_{FILTER[visit.fid]}_{chip}"
    return {
        "jd": visit.jd,
        "fid": visit.fid,
        "pid": visit.pid,
        "diffmaglim": visit.limit,
        "pdiffimfilename": f"{name}_scimrefdiffimg.fits",
        "programpi": "Kulkarni",
        "programid": visit.programid,
        "nid": visit.night,
        "rcid": visit.rcid,
        "field": visit.field,
        "magzpsci": visit.zero,
        "magzpsciunc": 4e-5,
        "magzpscirms": 0.04,
        "clrcoeff": {1: -0.05, 2: 0.1, 3: 0.02}[visit.fid],
        "clrcounc": 7e-5,
        "rbversion": "t17_f5_c3",
    }


def scores(rng: np.random.Generator, real: bool) -> dict[str, Any]:
    """Real/bogus scores as the survey's classifiers give them, near enough: they are no input of ours."""
    rb, drb = (rng.beta(7, 2), rng.beta(14, 0.6)) if real else (rng.beta(2, 4), rng.beta(0.5, 4))
    return {"rb": float(rb), "drb": float(drb), "drbversion": "d6_m7", "classtar": float(rng.beta(30, 1))}


def image_columns(rng: np.random.Generator, visit: Visit) -> dict[str, Any]:
    """The rest of an exposure's columns: where on the chip, and how it was calibrated."""
    x, y = rng.uniform(40, 3030, 2)
    edge = min(x, y, 3072 - x, 3080 - y)
    return {
        "xpos": float(x),
        "ypos": float(y),
        "mindtoedge": float(max(edge, HALF)),
        "tooflag": 0,
        "rfid": visit.field * 10**6 + visit.fid * 10**5 + visit.rcid,
        "jdstartref": 2458170.8,
        "jdendref": 2458420.7,
        "nframesref": 15,
        "nmatches": int(rng.lognormal(5.7, 0.5)),
        "zpclrcov": -5e-5,
        "zpmed": visit.zero - 0.04,
        "clrmed": 0.65,
        "clrrms": 0.28,
        "exptime": 30.0,
    }
