"""The images of an LSST alert: made in the counts of the visit, measured, and published in nJy as FITS.

Each of the three stamps is a file of three HDUs: the image, its variance, and its PSF. The template's numbers
and the sizes are of 70 alerts of LSSTCam.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from training.simulation.artefacts import mask, spoil
from training.simulation.sky import HALF, Exposure, Image, expose, moffat
from training.simulation.targets import Target
from training.simulation.visits import GAIN, READ, Visit

PIXEL = 0.2  # arcsec
ZERO = 31.4  # magnitude of 1 nJy
TEMPLATE_FWHM = 5.2  # pixels
TEMPLATE_SKY, TEMPLATE_FRAMES = 60.0, 15  # as sky.expose has them
PSF, TEMPLATE_PSF = 20, 23  # pixels on either side of the PSF's centre
PSF_PIXELS = (2 * PSF + 1) ** 2
APERTURE = 12  # pixels
SMALLEST, USUAL, LARGEST = 30, 51, 93  # pixels a side of a stamp


def njy(visit: Visit) -> float:
    """nJy of a count."""
    return float(10 ** (-0.4 * (visit.zero - ZERO)))


@dataclass(frozen=True)
class Images:
    """`fluxes`: columns of the diaSource (nJy). `stamps`: by name an image, its variance, its PSF (nJy)."""

    at: tuple[float, float] = (0.0, 0.0)
    fluxes: dict[str, Any] = field(default_factory=dict)
    stamps: dict[str, tuple[Image, Image, Image]] = field(default_factory=dict)

    def cutouts(self, x: float, y: float, ra: float, dec: float) -> dict[str, bytes]:
        """The stamps' files. `x`, `y`: where the source is on the detector; `ra`, `dec`: in degrees."""
        return {name: _fits(*stamp, self.at, (x, y), (ra, dec)) for name, stamp in self.stamps.items()}


def imaged(rng: np.random.Generator, target: Target, visit: Visit, light: float, fainter: float) -> Images:
    """The images of a visit in which the source has `light` counts.

    Stars are saturated (masked) from `fainter` magnitudes more than in ZTF's images. No Images where most of
    the source's light falls on masked pixels.
    """
    bogus = target.kind == "bogus"
    footprint = int(np.clip(rng.lognormal(3.5, 0.35), 15, LARGEST))
    size = USUAL if rng.random() < 0.5 else max(SMALLEST, footprint)
    exposure = expose(
        rng,
        target.sky,
        visit,
        light,
        target.at,
        frames=TEMPLATE_FRAMES,
        jitter=target.jitter * visit.fwhm / 2,
        mismatch=target.mismatch if bogus else target.mismatch / 3,
        scale=target.scale,
        trail=target.trail,
        template_fwhm=TEMPLATE_FWHM,
        half=max(HALF, size // 2),
    )
    if bogus:
        spoil(rng, target.detail, exposure)
    mask(rng, replace(target.sky, mags=target.sky.mags - fainter), exposure)
    count = njy(visit)
    science, template = exposure.science - visit.sky, exposure.template - visit.sky
    shot = READ + GAIN * np.maximum(exposure.science, 0)
    deep = (READ + GAIN * (TEMPLATE_SKY + np.maximum(template, 0))) / TEMPLATE_FRAMES
    images = {
        "cutoutDifference": (exposure.difference * count, (shot + deep / 2) * count**2),
        "cutoutScience": (science * count, shot * count**2),
        "cutoutTemplate": (template * count, deep * count**2),
    }
    fluxes = _fluxes(images, exposure, target.at)
    if not fluxes:
        return Images()
    stamps = {}
    # The source is in the middle, and where there is none, in the pixel before it.
    first = exposure.half - (size - 1) // 2
    inside = (slice(first, first + size),) * 2
    for name, (image, variance) in images.items():
        wide, fwhm = (PSF, visit.fwhm) if name != "cutoutTemplate" else (TEMPLATE_PSF, exposure.template_fwhm)
        psf = moffat(0, 0, fwhm, half=wide)
        stamps[name] = (image[inside], variance[inside], psf / psf.sum())
    return Images(target.at, fluxes | {"bboxSize": min(footprint, size)}, stamps)


def _fluxes(
    images: dict[str, tuple[Image, Image]], exposure: Exposure, at: tuple[float, float]
) -> dict[str, Any]:
    """The visit's PSF fitted at `at` (pixels from the centre) past masked pixels; in an aperture, too.

    Of the template, fitted with its PSF matched: what the difference has been taken from.
    """
    box = (slice(exposure.half - PSF, exposure.half + PSF + 1),) * 2
    psf = moffat(*at, exposure.visit.fwhm, half=PSF)
    difference, variance = (plane[box] for plane in images["cutoutDifference"])
    science = images["cutoutScience"][0][box]
    valid = np.isfinite(difference)
    norm = float((psf[valid] ** 2).sum())
    if norm < 0.5 * float((psf**2).sum()):
        return {}
    out: dict[str, Any] = {}
    for column, image, name in (
        ("psfFlux", difference, "cutoutDifference"),
        ("scienceFlux", science, "cutoutScience"),
        ("templateFlux", science - difference, "cutoutTemplate"),
    ):
        out[column] = float((psf * image)[valid].sum()) / norm
        noise = (psf**2 * images[name][1][box])[valid].sum()
        out[f"{column}Err"] = float(np.sqrt(noise)) / norm
    out["psfChi2"] = float(((difference - out["psfFlux"] * psf)[valid] ** 2 / variance[valid]).sum())
    out["psfNdata"] = int(valid.sum())
    y, x = np.mgrid[-PSF : PSF + 1, -PSF : PSF + 1]
    near = valid & ((x - at[0]) ** 2 + (y - at[1]) ** 2 < APERTURE**2)
    out["apFlux"] = float(difference[near].sum())
    out["apFluxErr"] = float(np.sqrt(variance[near].sum()))
    return out


def _fits(
    image: Image,
    variance: Image,
    psf: Image,
    at: tuple[float, float],
    on_chip: tuple[float, float],
    on_sky: tuple[float, float],
) -> bytes:
    middle = (len(image) - 1) // 2
    cards = _layout("SIMPLE", True, image, -32)
    cards += [
        ("EXTEND", True),
        ("CUTMINX", round(on_chip[0]) - middle),
        ("CUTMINY", round(on_chip[1]) - middle),
    ]
    cards += [("BUNIT", "nJy"), ("WCSAXES", 2)]
    cards += [(f"CRPIX{axis}", middle + 1 + at[axis - 1]) for axis in (1, 2)]
    step = PIXEL / 3600
    cards += [("PC1_1", -step), ("PC1_2", 0.0), ("PC2_1", 0.0), ("PC2_2", step)]
    cards += [("CDELT1", 1.0), ("CDELT2", 1.0), ("CRVAL1", on_sky[0]), ("CRVAL2", on_sky[1])]
    cards += [("LATPOLE", 90.0), ("MJDREF", 0.0)]
    uncertain: list[Card] = [("UTYPE", "VarianceUncertainty"), ("EXTNAME", "UNCERT")]
    return b"".join(
        [
            _hdu(cards, image, ">f4"),
            _hdu(_extension(variance, -32) + uncertain, variance, ">f4"),
            _hdu([*_extension(psf, -64), ("EXTNAME", "PSFIMAGE")], psf, ">f8"),
        ]
    )


Card = tuple[str, bool | int | float | str]


def _layout(first: str, value: bool | str, image: Image, bits: int) -> list[Card]:
    height, width = image.shape
    return [(first, value), ("BITPIX", bits), ("NAXIS", 2), ("NAXIS1", width), ("NAXIS2", height)]


def _extension(image: Image, bits: int) -> list[Card]:
    return [*_layout("XTENSION", "IMAGE", image, bits), ("PCOUNT", 0), ("GCOUNT", 1)]


def _hdu(cards: list[Card], image: Image, kind: str) -> bytes:
    head = "".join(f"{name:8}= {_value(value)}".ljust(80) for name, value in cards) + "END".ljust(80)
    data = np.ascontiguousarray(image, kind).tobytes()
    return head.ljust(_whole(len(head))).encode() + data.ljust(_whole(len(data)), b"\0")


def _value(value: bool | int | float | str) -> str:
    if isinstance(value, str):
        return f"'{value:8}'"
    if isinstance(value, bool):
        return f"{'T' if value else 'F':>20}"
    return f"{value:20d}" if isinstance(value, int) else f"{value:20.12E}"


def _whole(length: int) -> int:
    """FITS is written in blocks of 2880 bytes."""
    return -(-length // 2880) * 2880
