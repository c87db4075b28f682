"""Mutations of the stamps: damaged, unpacking to very much, or with a header that lies."""

from __future__ import annotations

import gzip
import random
from functools import cache

from rayfinch.fuzz.blind import flip
from rayfinch.fuzz.datum import held_in, replace
from rayfinch.fuzz.packet import Base


def stamp(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """A stamp that is none, or half of one, or damaged inside."""
    held = held_in(base, "bytes", rng)
    old = base.datum[held[1].start : held[1].end] if held else b""
    choices = [b"", b"x", rng.randbytes(500), old[: len(old) // 2], old[:12] + rng.randbytes(300), old * 2]
    choices += [gzip.compress(b"", mtime=0), gzip.compress(rng.randbytes(2880), mtime=0)]
    choices += [flip(old, 8, rng)] * 3 if old else []
    return replace(base, alert_id, "bytes", rng.choice(choices), rng, held)


def stamp_bomb(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """A stamp that unpacks to very much."""
    return replace(base, alert_id, "bytes", rng.choice(_bombs()), rng)


def fits_header(base: Base, alert_id: int, rng: random.Random) -> bytes:
    """A FITS header that promises what is not there."""
    cards = {
        "SIMPLE": "T",
        "BITPIX": rng.choice(("-32", "8", "16", "0", "-64", "7", "1e9", "'x'", "")),
        "NAXIS": rng.choice(("2", "2", "2", "0", "999", "-1", "3")),
        "NAXIS1": rng.choice(("63", "0", "-63", "1000000000", "63.5", "9" * 60)),
        "NAXIS2": rng.choice(("63", "1", "1000000000", "0")),
        "BZERO": rng.choice(("0", "1E400", "NaN")),
        "BSCALE": rng.choice(("1", "0", "1E400", "'a'")),
    }
    header = b"".join(f"{key:<8}= {value:>20}".ljust(80).encode()[:80] for key, value in cards.items())
    if rng.random() < 0.8:
        header += b"END".ljust(80)
    image = header.ljust(2880) + rng.randbytes(rng.choice((0, 100, 2880 * 6)))
    new = image if rng.random() < 0.5 else gzip.compress(image, 1, mtime=0)
    return replace(base, alert_id, "bytes", new, rng)


@cache
def _bombs() -> tuple[bytes, ...]:
    """Gzip files that unpack to 256 MiB, to a FITS header and 64 MiB, to another gzip file, and on and on."""
    header = b"".join(
        f"{key:<8}= {value:>20}".ljust(80).encode()
        for key, value in (
            ("SIMPLE", "T"),
            ("BITPIX", "-32"),
            ("NAXIS", "2"),
            ("NAXIS1", "4096"),
            ("NAXIS2", "4096"),
        )
    ) + b"END".ljust(80)
    zeros = gzip.compress(bytes(256 << 20), 1, mtime=0)
    image = gzip.compress(header.ljust(2880) + bytes(64 << 20), 1, mtime=0)
    return zeros, image, gzip.compress(zeros, mtime=0), gzip.compress(b"", mtime=0) * 5000
