"""Packets: a target's visits, measured, as the survey would have sent them, with the truth beside each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from isal import igzip

from training.simulation.artefacts import crop, mask, spoil
from training.simulation.columns import NONE, image_columns, scores, sky_columns, visit_columns
from training.simulation.measure import Measured, measure
from training.simulation.schema import CANDIDATE_FIELDS, FORCED_FIELDS, HISTORY_FIELDS, VERSION, container
from training.simulation.sky import Image, expose
from training.simulation.targets import Target, draw, draw_kind
from training.simulation.visits import PUBLIC, Visit

THRESHOLD = 5.0  # of an alert, in units of the survey's error
_NAMES = 26**7


@dataclass(frozen=True)
class Simulated:
    """One packet (of ZTF an Avro container, schema 4.02) and what is really there."""

    packet: bytes
    truth: dict[str, Any]


# A target of a seed, by its number, to the alerts that a survey sends of it; none where it would miss it.
Observe = Callable[[np.random.Generator, Target, int, int], list[Simulated]]


def packets(n: int, seed: int) -> Iterator[Simulated]:
    """The first `n` packets of `seed`: the same bytes every time, whatever `n` is.

    Alerts of one object follow one another, in order of time.
    """
    return observed(n, seed, _observe)


def observed(n: int, seed: int, observe: Observe) -> Iterator[Simulated]:
    """The same of any survey."""
    number = 0
    while n > 0:
        for simulated in _alerts(seed, number, observe)[:n]:
            yield simulated
            n -= 1
        number += 1


def _alerts(seed: int, number: int, observe: Observe) -> list[Simulated]:
    """The alerts of one object. One that the survey would have missed is drawn anew."""
    kind, detail = draw_kind(np.random.default_rng((seed, number)))
    for attempt in range(1000):
        rng = np.random.default_rng((seed, number, 1 + attempt))
        target = draw(rng, kind, detail)
        if found := observe(rng, target, seed, number):
            return found
    raise AssertionError("no target in a thousand is bright enough to be noticed")


def _observe(rng: np.random.Generator, target: Target, seed: int, number: int) -> list[Simulated]:
    visits = target.visits
    flux = target.curve(np.array([v.jd for v in visits]), np.array([v.fid for v in visits]), rng)
    counts = [v.counts(f) for v, f in zip(visits, flux, strict=True)]
    real = target.kind != "bogus"
    significant = [abs(c) > THRESHOLD * v.error for v, c in zip(visits, counts, strict=True)]
    if real and not significant[-1]:
        return []
    sends = {len(visits) - 1}
    earlier = [i for i in range(len(visits) - 1) if significant[i] and visits[-1].jd - visits[i].jd < 10]
    if earlier and rng.random() < 0.2:
        sends |= set(rng.choice(earlier, size=min(len(earlier), int(rng.integers(1, 3))), replace=False))

    object_id = _object_id(seed, number)
    surroundings = sky_columns(rng, target.sky, target.at, target.ra, target.dec, visits[-1])
    history: list[dict[str, Any]] = []
    forced: list[dict[str, Any]] = []
    out: list[Simulated] = []
    for i, (visit, light) in enumerate(zip(visits, counts, strict=True)):
        measured = None
        if i in sends:
            alert = _alert(rng, target, visit, light, object_id, number, surroundings, history, forced)
            if alert is not None:
                simulated, measured = alert
                out.append(simulated)
        history.append(_history(rng, target, visit, light, measured, surroundings, number))
        forced.append(_forced(rng, visit, light, surroundings))
    return out


def _alert(
    rng: np.random.Generator,
    target: Target,
    visit: Visit,
    light: float,
    object_id: str,
    number: int,
    surroundings: dict[str, Any],
    history: list[dict[str, Any]],
    forced: list[dict[str, Any]],
) -> tuple[Simulated, Measured] | None:
    """The packet of one visit, or None where the survey would not have noticed anything."""
    exposure = expose(
        rng,
        target.sky,
        visit,
        light,
        target.at,
        jitter=target.jitter,
        mismatch=target.mismatch,
        scale=target.scale,
        trail=target.trail,
    )
    if target.kind == "bogus":
        spoil(rng, target.detail, exposure)
    mask(rng, target.sky, exposure)
    measured = measure(rng, exposure, target.at)
    if abs(measured.flux) < THRESHOLD * measured.error or measured.sumrat < 0.3 or abs(measured.magdiff) > 1:
        return None

    if visit.programid == PUBLIC:  # a public packet tells nothing of a partnership's visits
        history = [row for row in history if row["programid"] == PUBLIC]
        forced = [row for row in forced if row["programid"] == PUBLIC]
    candid = _candid(visit, number)
    seen = [h for h in history if h["candid"] is not None]
    candidate = surroundings | visit_columns(visit) | image_columns(rng, visit) | measured.columns
    candidate |= scores(rng, target.kind != "bogus") | _solar_system(rng, target)
    candidate |= {
        "candid": candid,
        "tblid": number % 10_000,
        "ra": target.ra,
        "dec": target.dec,
        "ndethist": len(seen) + 1,
        "ncovhist": len(history) + int(rng.lognormal(5, 1)),
        "jdstarthist": seen[0]["jd"] if seen else visit.jd,
        "jdendhist": visit.jd,
        "scorr": measured.scorr,
    }
    name = f"candid{candid}"
    sign = 1.0 if measured.flux > 0 else -1.0
    stamps = [exposure.science, exposure.template, sign * exposure.difference]
    if rng.random() < 0.012:
        side, width = int(rng.integers(0, 4)), int(rng.integers(1, 24))
        stamps = [crop(stamp, side, width) for stamp in stamps]
    # Of a source that got fainter the survey sends reference minus science: what changed is always bright.
    way = "scimref" if measured.flux > 0 else "refmsci"
    files = (f"{name}_pid{visit.pid}_targ_sci", f"{name}_ref", f"{name}_pid{visit.pid}_targ_{way}")
    cutouts = [
        {"fileName": f"{file}.fits.gz", "stampData": fits(stamp)}
        for file, stamp in zip(files, stamps, strict=True)
    ]
    packet = container(
        {
            "schemavsn": VERSION,
            "publisher": "Rayfinch (simulated)",
            "objectId": object_id,
            "candid": candid,
            "candidate": {field: candidate[field] for field in CANDIDATE_FIELDS},
            "prv_candidates": history or None,
            "fp_hists": forced[::-1] or None,
            "cutoutScience": cutouts[0],
            "cutoutTemplate": cutouts[1],
            "cutoutDifference": cutouts[2],
        }
    )
    truth = {"candid": candid, "objectId": object_id, "class": target.kind, "detail": target.detail}
    truth |= {"jd": visit.jd, "fid": visit.fid, "ra": target.ra, "dec": target.dec, "flux_dn": float(light)}
    return Simulated(packet, truth | {"parameters": target.parameters}), measured


def _history(
    rng: np.random.Generator,
    target: Target,
    visit: Visit,
    light: float,
    measured: Measured | None,
    surroundings: dict[str, Any],
    number: int,
) -> dict[str, Any]:
    """A visit as later packets tell it: a detection with its measurements, or the limit alone."""
    row = dict.fromkeys(HISTORY_FIELDS) | {
        k: v for k, v in visit_columns(visit).items() if k in HISTORY_FIELDS
    }
    flux = measured.flux if measured else light + rng.normal(0, visit.error / 1.6)
    error = measured.error if measured else float(np.hypot(visit.error, 0.03 * light))
    if abs(flux) < THRESHOLD * error:
        return row
    if measured:
        row |= {k: v for k, v in measured.columns.items() if k in HISTORY_FIELDS} | {"scorr": measured.scorr}
    else:
        mag = visit.zero - 2.5 * np.log10(abs(flux))
        ap = mag + rng.normal(0, 0.1)
        row |= {
            "isdiffpos": "t" if flux > 0 else "f",
            "magpsf": float(mag),
            "sigmapsf": float(1.0857 * error / abs(flux)),
            "magap": float(ap),
            "sigmagap": float(1.2 * error / abs(flux)),
            "magdiff": float(ap - mag),
            "magfromlim": float(visit.limit - ap),
            "fwhm": visit.fwhm,
            "chipsf": float(rng.lognormal(0.2, 0.3)),
            "scorr": float(abs(flux) / visit.ideal * 0.8),
            "elong": float(1 + rng.gamma(2, 0.05)),
            "nneg": int(rng.integers(0, 6)),
            "nbad": 0,
            "sumrat": float(rng.beta(20, 1)),
        }
    shift = rng.normal(0, 2e-5, 2)
    return row | {
        "candid": _candid(visit, number),
        "tblid": number % 10_000,
        "ra": target.ra + float(shift[0]),
        "dec": target.dec + float(shift[1]),
        **{k: surroundings[k] for k in ("distnr", "magnr", "sigmagnr", "chinr", "sharpnr", "ranr", "decnr")},
        "ssdistnr": NONE,
        "ssmagnr": NONE,
        "ssnamenr": "null",
        "rb": float(rng.beta(7, 2)),
    }


def _forced(
    rng: np.random.Generator, visit: Visit, light: float, surroundings: dict[str, Any]
) -> dict[str, Any]:
    """Forced photometry of a visit: the PSF fitted at the object's place whether or not anything is seen."""
    error = 1.25 * visit.ideal
    failed = rng.random() < 0.06
    row = {k: v for k, v in (surroundings | visit_columns(visit)).items() if k in FORCED_FIELDS}
    return row | {
        "rfid": visit.field * 10**6 + visit.fid * 10**5 + visit.rcid,
        "sciinpseeing": visit.fwhm,
        "scibckgnd": visit.sky,
        "scisigpix": visit.noise,
        "exptime": 30.0,
        "adpctdif1": 0.08,
        "adpctdif2": 0.08,
        "forcediffimflux": -99999.0 if failed else light + float(rng.normal(0, error)),
        "forcediffimfluxunc": -99999.0 if failed else error,
        "procstatus": "61" if failed else "0",
    }


def _solar_system(rng: np.random.Generator, target: Target) -> dict[str, Any]:
    if target.detail != "known":
        return {"ssdistnr": NONE, "ssmagnr": NONE, "ssnamenr": "null"}
    mag = target.parameters["mag"] + rng.normal(0, 0.3)
    return {
        "ssdistnr": float(rng.integers(0, 2)),
        "ssmagnr": float(mag),
        "ssnamenr": str(rng.integers(1000, 600_000)),
    }


def _object_id(seed: int, number: int) -> str:
    """ZTF's format; two numbers of a seed below 8e9 never get the same one."""
    serial = (number * 3_141_592_653 + seed * 2_718_281_831 + 577_215_664) % _NAMES
    letters = ""
    for _ in range(7):
        serial, letter = divmod(serial, 26)
        letters += chr(97 + letter)
    return f"ZTF25{letters}"


def _candid(visit: Visit, number: int) -> int:
    return visit.pid * 10**6 + 10_000 + number % 10_000


def fits(stamp: Image) -> bytes:
    """A gzipped FITS image of big-endian float32, with the survey's cards (and its unusual SIMPLE)."""
    height, width = stamp.shape
    cards = ["SIMPLE  =  T", f"BITPIX  = {-32:20d}", f"NAXIS   = {2:20d}"]
    cards += [f"NAXIS1  = {width:20d}", f"NAXIS2  = {height:20d}", "BUNIT   = 'DN      '", "END"]
    head = "".join(card.ljust(80) for card in cards).ljust(2880).encode()
    data = np.ascontiguousarray(stamp, ">f4").tobytes()
    return igzip.compress(head + data.ljust(-(-len(data) // 2880) * 2880, b"\0"), 2, mtime=0)
