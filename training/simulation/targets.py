"""Targets: where an alert is, what stands around it, how it shines, and when the survey looked at it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from training.simulation.artefacts import KINDS, SHARES, near_star
from training.simulation.lightcurves import (
    SUPERNOVAE,
    Eclipsing,
    LightCurve,
    Nothing,
    Passing,
    Pulsator,
    RandomWalk,
    Supernova,
)
from training.simulation.sky import Galaxy, Sky
from training.simulation.visits import Visit, cadence

CLASSES = ("asteroid", "SN", "AGN", "VS", "bogus")
SHARE = (0.22, 0.26, 0.12, 0.25, 0.15)
# Of supernovae found by brightness (Perley et al. 2020, ApJ 904, 35, with a few more of the rare ones).
SUPERNOVA_SHARE = (0.6, 0.2, 0.08, 0.07, 0.05)
NIGHT = 2460676.6  # JD at which the night of the alerts begins: 2025-01-01

NORTH_GALACTIC_POLE = (np.radians(192.8595), np.radians(27.1283))  # RA, Dec


@dataclass(frozen=True)
class Target:
    """`kind` is one of CLASSES, `detail` what of it; `at`: the source's place in the central pixel (pixels).

    `visits` are sorted by time; the last one makes an alert. `parameters` are for the truth.
    """

    kind: str
    detail: str
    ra: float
    dec: float
    sky: Sky
    curve: LightCurve
    visits: list[Visit]
    at: tuple[float, float]
    parameters: dict[str, Any] = field(default_factory=dict)
    trail: float = 0.0
    jitter: float = 0.04
    mismatch: float = 0.012
    scale: float = 0.0


def draw_kind(rng: np.random.Generator) -> tuple[str, str]:
    """The class of an object, and for supernovae and artefacts which of them."""
    kind = str(rng.choice(CLASSES, p=SHARE))
    if kind == "SN":
        return kind, str(rng.choice(tuple(SUPERNOVAE), p=SUPERNOVA_SHARE))
    if kind == "bogus":
        return kind, str(rng.choice(KINDS, p=SHARES))
    return kind, ""


def draw(rng: np.random.Generator, kind: str, detail: str) -> Target:
    ra, dec, latitude = _place(rng, towards_plane=kind == "VS")
    visits = cadence(rng, NIGHT + rng.uniform(0.0, 0.4))
    at = (float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.5, 0.5)))
    blank = Target(kind, detail, ra, dec, Sky.draw(rng, latitude), Nothing(), visits, at)
    return {"asteroid": _asteroid, "SN": _supernova, "AGN": _nucleus, "VS": _star, "bogus": _bogus}[kind](
        rng, blank
    )


def _place(rng: np.random.Generator, towards_plane: bool) -> tuple[float, float, float]:
    """RA, Dec and Galactic latitude (degrees), north of Dec -28."""
    ra = rng.uniform(0, 2 * np.pi, 3)
    dec = np.arcsin(rng.uniform(np.sin(np.radians(-28)), 0.999, 3))
    pole_ra, pole_dec = NORTH_GALACTIC_POLE
    sine = np.sin(dec) * np.sin(pole_dec) + np.cos(dec) * np.cos(pole_dec) * np.cos(ra - pole_ra)
    latitude = np.degrees(np.arcsin(sine))
    i = int(np.argmin(np.abs(latitude)) if towards_plane else np.argmax(np.abs(latitude)))
    return float(np.degrees(ra[i])), float(np.degrees(dec[i])), float(latitude[i])


def _asteroid(rng: np.random.Generator, blank: Target) -> Target:
    mag = 20.6 - 4.5 * rng.beta(1.2, 2.5)
    known = rng.random() < 0.8
    # Main-belt objects stay within a pixel during an exposure; one in fifteen is near and leaves a trail.
    trail = float(rng.uniform(2, 7)) if rng.random() < 0.07 else 0.3
    detail = "known" if known else "unknown"
    parameters = {"mag": float(mag), "trail_pixels": trail}
    return replace(blank, detail=detail, curve=Passing(float(mag)), trail=trail, parameters=parameters)


def _supernova(rng: np.random.Generator, blank: Target) -> Target:
    kind = blank.detail
    peak = 19.6 - 3.2 * rng.beta(1.2, 2.2)
    last = blank.visits[-1].jd
    # Found while it brightens, followed for six weeks.
    curve = Supernova.draw(rng, kind, 0.0, float(peak))
    curve = replace(curve, begin=last - float(rng.uniform(-0.5 * curve.rise, 4 * curve.rise + 25.0)))
    host = float(np.clip(rng.normal(18.8, 1.4), 14.8, 22.0))
    galaxy = Galaxy.draw(rng, host)
    x, y = galaxy.somewhere(rng)
    offset = float(np.hypot(x, y))
    parameters = {"peak_mag": float(peak), "days_since_begin": last - curve.begin}
    parameters |= {"rise_days": curve.rise, "decline_days": curve.decline}
    if rng.random() < 0.06 or offset > 25:
        return replace(blank, curve=curve, parameters=parameters)
    galaxy = replace(galaxy, x=blank.at[0] - x, y=blank.at[1] - y)
    parameters |= {"host_mag": host, "host_offset_pixels": offset}
    return replace(blank, curve=curve, sky=replace(blank.sky, galaxy=galaxy), parameters=parameters)


def _nucleus(rng: np.random.Generator, blank: Target) -> Target:
    red = 19.8 - 3.0 * rng.beta(1.3, 2.0)
    mags = (red + rng.normal(0.35, 0.2), red, red - 0.2)
    curve = RandomWalk.draw(rng, mags)
    x, y = blank.at[0] + rng.normal(0, 0.15), blank.at[1] + rng.normal(0, 0.15)
    sky = blank.sky.with_point(x, y, mags, star=bool(rng.random() < 0.5))
    if rng.random() < 0.6:
        sky = replace(sky, galaxy=replace(Galaxy.draw(rng, red + rng.normal(-0.3, 0.8)), x=x, y=y))
    parameters = {
        "mean_mag": float(red),
        "tau_days": curve.tau,
        "sigma_mag": curve.sigma,
        "now_mag": curve.now,
    }
    detail = "quasar" if sky.galaxy is None else "nucleus"
    return replace(blank, detail=detail, curve=curve, sky=sky, parameters=parameters)


def _star(rng: np.random.Generator, blank: Target) -> Target:
    red = 19.9 - 6.2 * rng.beta(1.6, 1.9)
    colour = rng.uniform(0.1, 1.5)
    mags = (red + colour, red, red - 0.4 * colour)
    pulsates = rng.random() < 0.7
    curve: Pulsator | Eclipsing = Pulsator.draw(rng, mags) if pulsates else Eclipsing.draw(rng, mags)
    x, y = blank.at[0] + rng.normal(0, 0.12), blank.at[1] + rng.normal(0, 0.12)
    sky = blank.sky.with_point(x, y, mags, star=True)
    parameters = {"mean_mag": float(red), "period_days": curve.period}
    if isinstance(curve, Pulsator):
        parameters["amplitude_mag"] = curve.amplitude
    else:
        parameters["depth"] = curve.depth
    return replace(blank, detail=curve.kind, curve=curve, sky=sky, parameters=parameters)


def _bogus(rng: np.random.Generator, blank: Target) -> Target:
    target, detail = blank, blank.detail
    if detail in ("dipole", "bright_star"):
        target = replace(target, sky=near_star(rng, blank.sky, detail))
    sign = rng.choice([-1, 1])
    if detail == "dipole":
        return replace(
            target, jitter=float(rng.uniform(0.1, 0.35)), scale=float(sign * rng.uniform(0.01, 0.1))
        )
    if detail == "bright_star":
        scale = float(sign * rng.uniform(0.005, 0.04))
        return replace(target, jitter=0.1, mismatch=float(rng.uniform(0.02, 0.06)), scale=scale)
    return target
