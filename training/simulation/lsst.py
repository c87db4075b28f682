"""Simulated LSST alerts: ZTF's made-up sky, sqrt(10) times further away and south, as LSST would see it.

So everything is 2.5 magnitudes fainter, and what is a pixel wide in ZTF's images is 1.6 pixels wide here.
Asteroids are all known ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np

from training.simulation.alerts import THRESHOLD, Simulated, observed
from training.simulation.lightcurves import flux_of
from training.simulation.lsst_images import PIXEL, PSF_PIXELS, Images, imaged, njy
from training.simulation.sky import Sky
from training.simulation.targets import NORTH_GALACTIC_POLE, Target
from training.simulation.visits import GAIN, Visit
from training.simulation.visits import PIXEL as ZTF_PIXEL
from training.simulation.wire import WireSchema

FAINTER = 2.5  # magnitudes
STRETCH = ZTF_PIXEL / PIXEL / 10 ** (0.2 * FAINTER)
BANDS = {1: "g", 2: "r", 3: "i"}
_MJD, _TAI = 2400000.5, 37 / 86400  # TAI - UTC since 2017, days
_UNIX = 40587.0  # MJD of 1970-01-01
_MAGS = ("mag", "peak_mag", "host_mag", "mean_mag")
_ANGLES = ("trail_pixels", "host_offset_pixels")
_FIRST_ID = 169 * 10**15


def packets(n: int, seed: int, schema: WireSchema) -> Iterator[Simulated]:
    """The first `n` messages of `seed`: the same bytes every time, whatever `n` is.

    The truth has what ZTF's has: `candid` is the diaSourceId, `objectId` the diaObjectId (of asteroids the
    ssObjectId); instead of `flux_dn` it has `flux_njy`. Raises ValueError when `schema` is not LSST's.
    """
    if "diaSource" not in schema.fields():
        raise ValueError(f"schema {schema.schema_id} is not that of an LSST alert: it has no diaSource")

    def observe(rng: np.random.Generator, target: Target, seed: int, number: int) -> list[Simulated]:
        return _observe(rng, _further(target), (seed * 2_718_281_831 + number) % 10**14, schema)

    return observed(n, seed, observe)


def _further(target: Target) -> Target:
    """The target as LSST has it; what stands around it keeps its direction from the source.

    Its light curve, in nJy, is not changed here. The antipode is as far from the Galactic plane.
    """
    (x, y), sky = target.at, target.sky
    galaxy = sky.galaxy and replace(
        sky.galaxy,
        x=x + (sky.galaxy.x - x) * STRETCH,
        y=y + (sky.galaxy.y - y) * STRETCH,
        radius=sky.galaxy.radius * STRETCH,
        mags=(sky.galaxy.mags[0] + FAINTER, sky.galaxy.mags[1] + FAINTER, sky.galaxy.mags[2] + FAINTER),
    )
    sky = Sky(x + (sky.x - x) * STRETCH, y + (sky.y - y) * STRETCH, sky.mags + FAINTER, sky.star, galaxy)
    parameters = {
        name: value + FAINTER if name in _MAGS else value * STRETCH if name in _ANGLES else value
        for name, value in target.parameters.items()
    }
    return replace(
        target,
        detail="known" if target.kind == "asteroid" else target.detail,
        ra=(target.ra + 180) % 360,
        dec=-target.dec,
        sky=sky,
        # Seen 1.1 arcsec wide; in i 50 nJy of noise a pixel (46 in alerts of LSSTCam), less in g and r.
        visits=[replace(v, fwhm=2.7 * v.fwhm, sky=2 * v.sky, zero=v.zero + 3.7) for v in target.visits],
        trail=target.trail * STRETCH,
        parameters=parameters,
    )


@dataclass(frozen=True)
class _Object:
    """What the rows of an object share. `serial`: its number among all objects of all seeds."""

    target: Target
    serial: int

    def source_id(self, i: int) -> int:
        """Of the source in the object's visit `i`."""
        return _FIRST_ID + self.serial * 1000 + i

    def static(self, visit: Visit) -> float:
        """nJy of what stands still at the place, whether or not it varies."""
        points, (x, y) = self.target.sky.catalogue(), self.target.at
        near = np.hypot(points.x - x, points.y - y) < visit.fwhm / 2
        return float(flux_of(points.mags[near, visit.fid - 1]).sum())

    @property
    def moves(self) -> bool:
        return self.target.kind == "asteroid"


def _observe(rng: np.random.Generator, target: Target, serial: int, schema: WireSchema) -> list[Simulated]:
    visits, thing = target.visits, _Object(target, serial)
    flux = target.curve(np.array([v.jd for v in visits]), np.array([v.fid for v in visits]), rng)
    counts = [v.counts(f) * 10 ** (-0.4 * FAINTER) for v, f in zip(visits, flux, strict=True)]
    significant = [abs(c) > THRESHOLD * v.ideal for v, c in zip(visits, counts, strict=True)]
    if target.kind != "bogus" and not significant[-1]:
        return []
    sends = {len(visits) - 1}
    earlier = [i for i in range(len(visits) - 1) if significant[i] and visits[-1].jd - visits[i].jd < 10]
    if earlier and rng.random() < 0.2:
        sends.add(int(rng.choice(earlier)))

    sources: list[dict[str, Any]] = []
    forced: list[dict[str, Any]] = []
    limits: list[dict[str, Any]] = []
    out: list[Simulated] = []
    for i, (visit, light) in enumerate(zip(visits, counts, strict=True)):
        first = sources[0]["diaSourceId"] if sources else thing.source_id(i)
        names = _names(thing, i, first, visit)
        images = imaged(rng, target, visit, light, FAINTER) if i in sends else Images()
        fluxes = images.fluxes or _fluxes(rng, visit, light, thing.static(visit))
        found = abs(fluxes["psfFlux"]) >= THRESHOLD * fluxes["psfFluxErr"]
        source = _source(rng, thing, visit, names, fluxes) if found else {}
        # A residue that outshines the change, and has the other sign, is no alert of the target.
        if found and images.fluxes and (target.kind == "bogus" or fluxes["psfFlux"] * light > 0):
            alert = _alert(thing, source, sources, forced, limits)
            alert |= images.cutouts(source["x"], source["y"], source["ra"], source["dec"])
            truth = {"candid": source["diaSourceId"], "objectId": str(source["ssObjectId"] or first)}
            truth |= {"class": target.kind, "detail": target.detail, "jd": visit.jd, "fid": visit.fid}
            truth |= {"ra": target.ra, "dec": target.dec, "flux_njy": float(light * njy(visit))}
            out.append(Simulated(schema.message(alert), truth | {"parameters": target.parameters}))
        if thing.moves:
            continue
        if found:
            sources.append(source)
        else:
            limits.append(names | {"ccdVisitId": visit.pid, "diaNoise": visit.ideal * njy(visit)})
        position = {"ra": target.ra, "dec": target.dec}
        forced.append(names | position | _fluxes(rng, visit, light, thing.static(visit)))
    return out


def _names(thing: _Object, i: int, first: int, visit: Visit) -> dict[str, Any]:
    """Ids and times of a row. A night is called by the date at its beginning."""
    middle = visit.jd - _MJD + 15 / 86400
    night, part = divmod(middle - 0.5, 1)
    day = date(1858, 11, 17) + timedelta(days=int(night))
    done = middle + _TAI + 0.001
    return {
        "diaSourceId": thing.source_id(i),
        "diaForcedSourceId": thing.source_id(i),
        "visit": int(f"{day:%Y%m%d}") * 10**5 + int(part * 86400 / 38),
        "detector": visit.rcid * 2,
        "diaObjectId": 0 if thing.moves else first,
        "ssObjectId": 21 * 10**15 + thing.serial if thing.moves else 0,
        "midpointMjdTai": middle + _TAI,
        "band": BANDS[visit.fid],
        "timeProcessedMjdTai": done,
        "time_processed": int((done - _UNIX) * 86400e6),
    }


def _fluxes(rng: np.random.Generator, visit: Visit, light: float, static: float) -> dict[str, Any]:
    """Fluxes (nJy) of a visit whose images are not made, where something of `static` nJy stands still."""
    error = float(np.sqrt(visit.ideal**2 + GAIN * (abs(light) + static / njy(visit))) * njy(visit))
    flux = light * njy(visit) + rng.normal(0, error)
    return {
        "psfFlux": float(flux),
        "psfFluxErr": error,
        "scienceFlux": float(flux + static),
        "scienceFluxErr": error,
        "templateFlux": static,
        "templateFluxErr": 0.1 * error,
        "psfChi2": float(rng.normal(1.03, 0.03) * PSF_PIXELS),
        "psfNdata": PSF_PIXELS,
        "bboxSize": int(rng.integers(15, 40)),
    }


def _source(
    rng: np.random.Generator, thing: _Object, visit: Visit, names: dict[str, Any], fluxes: dict[str, Any]
) -> dict[str, Any]:
    """A diaSource; fields that this simulator knows nothing about are absent."""
    target, snr = thing.target, abs(fluxes["psfFlux"]) / fluxes["psfFluxErr"]
    sigma = visit.fwhm / 2.355 / snr  # pixels
    off = rng.normal(0, min(sigma, 2.0), 2) * PIXEL / 3600
    ra = (target.ra + off[0] / np.cos(np.radians(target.dec))) % 360
    x, y = rng.uniform(60, 4000, 2)
    psf = (visit.fwhm * PIXEL / 2.355) ** 2
    shape = {"ixxPSF": psf, "iyyPSF": psf, "ixyPSF": 0.0}
    wide = rng.lognormal(0, min(0.5, 1 / snr), 2)
    real = target.kind != "bogus"
    source = names | fluxes | shape
    source |= {"ixx": psf * float(wide[0]), "iyy": psf * float(wide[1]), "ixy": 0.0}
    source |= {
        "parentDiaSourceId": 0,
        "ra": float(ra),
        "dec": float(np.clip(target.dec + off[1], -90, 90)),
        "raErr": float(sigma * PIXEL / 3600),
        "decErr": float(sigma * PIXEL / 3600),
        "ra_dec_Cov": 0.0,
        "x": float(x),
        "y": float(y),
        "xErr": float(sigma),
        "yErr": float(sigma),
        "snr": float(snr),
        "isNegative": fluxes["psfFlux"] < 0,
        "is_negative": fluxes["psfFlux"] < 0,
        "extendedness": float(rng.beta(1, 8) if real else rng.beta(2, 1.5)),
        "reliability": float(rng.beta(12, 1) if real else rng.beta(1.2, 5)),
    }
    if thing.moves:
        source |= {"trailFlux": fluxes["psfFlux"], "trailLength": float(target.trail * PIXEL)}
    return source


def _alert(
    thing: _Object,
    source: dict[str, Any],
    sources: list[dict[str, Any]],
    forced: list[dict[str, Any]],
    limits: list[dict[str, Any]],
) -> dict[str, Any]:
    """All but the stamps: the source, with what is known of its object from earlier visits."""
    alert = {"alertId": source["diaSourceId"], "diaSourceId": source["diaSourceId"], "diaSource": source}
    if thing.moves:
        solar = _solar_system(thing.target, source)
        return alert | {"ssSource": solar, "ssObject": solar}
    # (a list that is still growing)
    alert |= {"prvDiaSources": sources[:] or None, "prvDiaForcedSources": forced[:] or None}
    alert |= {"prvDiaNondetectionLimits": limits[:] or None}
    return alert | {"diaObject": _dia_object([*sources, source])}


def _dia_object(sources: list[dict[str, Any]]) -> dict[str, Any]:
    """The object's statistics, the last of its sources included."""
    last = sources[-1]
    same = ("diaObjectId", "ra", "dec", "raErr", "decErr", "ra_dec_Cov")
    out = {name: last[name] for name in same} | {"nDiaSources": len(sources)}
    out |= {"validityStartMjdTai": last["timeProcessedMjdTai"], "validityStart": last["time_processed"]}
    out |= {"radecMjdTai": last["midpointMjdTai"], "lastDiaSourceMjdTai": last["midpointMjdTai"]}
    out["firstDiaSourceMjdTai"] = sources[0]["midpointMjdTai"]
    for band in BANDS.values():
        rows = [s for s in sources if s["band"] == band]
        out[f"{band}_psfFluxNdata"] = len(rows)
        for name in ("psfFlux", "scienceFlux") if rows else ():
            flux, error = (np.array([s[key] for s in rows]) for key in (name, f"{name}Err"))
            weight = error**-2.0
            out[f"{band}_{name}Mean"] = float((flux * weight).sum() / weight.sum())
            out[f"{band}_{name}MeanErr"] = float(weight.sum() ** -0.5)
            out |= {f"{band}_{name}Min": float(flux.min()), f"{band}_{name}Max": float(flux.max())}
            out[f"{band}_{name}ErrMean"] = float(error.mean())
            if len(rows) > 1:
                out[f"{band}_{name}Sigma"] = float(flux.std(ddof=1))
    return out


def _solar_system(target: Target, source: dict[str, Any]) -> dict[str, Any]:
    """An ssSource (before 8.0 an ssObject): what is known of a minor planet at the time of the source."""
    ra, dec, tilt = np.radians([source["ra"], source["dec"], 23.4393])
    pole_ra, pole_dec = NORTH_GALACTIC_POLE
    beta = np.arcsin(np.sin(dec) * np.cos(tilt) - np.cos(dec) * np.sin(tilt) * np.sin(ra))
    length = np.arctan2(np.sin(ra) * np.cos(tilt) + np.tan(dec) * np.sin(tilt), np.cos(ra))
    east = np.cos(dec) * np.sin(ra - pole_ra)
    north = np.sin(dec) * np.cos(pole_dec) - np.cos(dec) * np.sin(pole_dec) * np.cos(ra - pole_ra)
    up = np.sin(dec) * np.sin(pole_dec) + np.cos(dec) * np.cos(pole_dec) * np.cos(ra - pole_ra)
    ecliptic = (float(np.degrees(length)) % 360, float(np.degrees(beta)))
    galactic = (122.932 - float(np.degrees(np.arctan2(east, north)))) % 360, float(np.degrees(np.arcsin(up)))
    out = {name: source[name] for name in ("ssObjectId", "diaSourceId")}
    out |= dict(zip(("eclLambda", "eclBeta", "galLon", "galLat"), ecliptic + galactic, strict=True))
    out |= dict(
        zip(("eclipticLambda", "eclipticBeta", "galacticL", "galacticB"), ecliptic + galactic, strict=True)
    )
    away = {"Ra": source["ra"] - target.ra, "Dec": source["dec"] - target.dec}
    out |= {f"residual{axis}": value for axis, value in away.items()}
    out |= {"ephRa": target.ra, "ephDec": target.dec, "ephVmag": target.parameters["mag"]}
    return out | {"predictedVMagnitude": target.parameters["mag"], "diaDistanceRank": 1}
