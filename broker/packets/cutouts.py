"""The three stamps of an alert: from their original bytes to one float32 tensor.

Stamps are FITS images, gzipped (ZTF) or plain (LSST: image, variance and PSF; the image is the primary HDU).
The usual ones are read past their header with numpy; anything else in the header goes to astropy, with the
same bits out. Sizes are capped before memory is taken.
"""

from __future__ import annotations

import gzip
import io
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
from isal import igzip_lib

from broker.packets.schema import CUTOUT_SIZE, CUTOUT_TENSOR, CUTOUTS

MAX_STAMP = 4 << 20  # bytes, inflated
# ZTF marks pixels without a value by -3.4e38; nothing on the sky has 1e30 counts or nJy.
SENTINEL = 1e30
CUTOUT_COLUMNS = ("cutouts", "cutout_shape")  # in flight only: never archived

_GZIP = b"\x1f\x8b"
_BLOCK, _CARD = 2880, 80
# Cards that change what the pixels mean: left to astropy.
_SCALED = frozenset([b"BSCALE  ", b"BZERO   ", b"BLANK   ", b"GROUPS  "])
_layouts: dict[bytes, tuple[int, int, int] | None] = {}
_LAYOUTS_MAX = 256


# (its type stub calls it an object of OSError)
_IsalError: type[Exception] = igzip_lib.error  # type: ignore[assignment]


class BadStamp(ValueError):
    """A stamp's bytes are no image. The message says why."""


@dataclass(frozen=True)
class Cut:
    """The stamps of n alerts.

    tensors: n of schema.CUTOUT_TENSOR: science, template, difference; the true image in the middle (a bigger
        one cropped), NaN where there is no pixel or no valid one.
    shapes: n of schema.CUTOUT_SHAPE: true height and width of the first of the three there is; 0, 0 if none.
    bad: row -> why one of its stamps is no image (its pixels are NaN).
    counts: how many stamps were out of the ordinary, by what.
    """

    tensors: pa.Array
    shapes: pa.Array
    bad: dict[int, str]
    counts: dict[str, int]


def with_cutouts(alerts: pa.Table) -> pa.Table:
    """Add the in-flight columns `cutouts` and `cutout_shape`; a stamp that is no image is NaN all over.

    Stamps smaller than 63 pixels are padded with NaN around, so their middle stays the middle. That is where
    LSST has its source; ZTF's stamps at a chip's edge are cut on one side, so theirs is off by that much.
    """
    if "cutouts" in alerts.column_names:
        return alerts
    cut = cut_all(alerts)
    for name, column in zip(CUTOUT_COLUMNS, (cut.tensors, cut.shapes), strict=True):
        alerts = alerts.append_column(name, column)
    return alerts


def cut_all(alerts: pa.Table, astropy_only: bool = False) -> Cut:
    """Read every stamp of the three columns of original bytes; by astropy alone for the reference."""
    pixels = np.empty((alerts.num_rows, 3, CUTOUT_SIZE, CUTOUT_SIZE), np.float32)
    shapes = np.zeros((alerts.num_rows, 2), np.int32)
    bad: dict[int, str] = {}
    counts: Counter[str] = Counter()
    with np.errstate(all="ignore"):
        for j, name in enumerate(CUTOUTS):
            for row, stamp in enumerate(stamps(alerts[name])):
                if not stamp:
                    counts["missing_stamps"] += 1
                    pixels[row, j] = np.nan
                    continue
                try:
                    image = reference_image(stamp) if astropy_only else _image(stamp, counts)
                except BadStamp as error:
                    counts["bad_stamps"] += 1
                    bad.setdefault(row, f"{name}: {error}")
                    pixels[row, j] = np.nan
                    continue
                _place(image, pixels[row, j], counts)
                if not shapes[row, 0]:
                    shapes[row] = image.shape
    flat = pa.FixedSizeListArray.from_arrays(pa.array(pixels.ravel()), 3 * CUTOUT_SIZE**2)
    tensors = pa.ExtensionArray.from_storage(CUTOUT_TENSOR, flat)
    lengths = pa.FixedSizeListArray.from_arrays(pa.array(shapes.ravel()), 2)
    return Cut(tensors, lengths, bad, {what: n for what, n in counts.items() if n})


def image(stamp: bytes | memoryview) -> np.ndarray:
    """The image as it is, NaN, infinities and sentinels too: (height, width) float32. Raises BadStamp."""
    return _image(stamp, Counter()).astype(np.float32)


def reference_image(stamp: bytes | memoryview) -> np.ndarray:
    """The same by the standard library's gzip and astropy."""
    stamp = bytes(stamp)
    raw = _gunzip_slowly(stamp) if stamp.startswith(_GZIP) else _check_plain(stamp)
    return _by_astropy(_capped(raw))


def check_stamp(stamp: bytes | memoryview) -> None:
    """Look at a stamp from outside, without inflating it. Raises BadStamp."""
    if stamp[:2] == _GZIP:
        size = int.from_bytes(stamp[-4:], "little")
        if size > MAX_STAMP:
            raise BadStamp(f"it would inflate to {size:,} bytes, more than the {MAX_STAMP:,} allowed")
    else:
        _check_plain(stamp)


def stamps(column: pa.ChunkedArray) -> Iterator[memoryview | None]:
    """The values of a large_binary column without copying them; None for null."""
    for chunk in column.chunks:
        _, offsets, data = chunk.buffers()
        ends = np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1].tolist()
        view = memoryview(data).cast("B") if data is not None else memoryview(b"")
        valid = chunk.is_valid().to_pylist() if chunk.null_count else None
        for i in range(len(chunk)):
            yield view[ends[i] : ends[i + 1]] if valid is None or valid[i] else None


def _image(stamp: bytes | memoryview, counts: Counter[str]) -> np.ndarray:
    """(height, width), float32 of either byte order."""
    raw = _gunzip(stamp) if stamp[:2] == _GZIP else _check_plain(stamp)
    layout = _layout(raw)
    if layout is None or len(raw) < layout[2] + 4 * layout[0] * layout[1]:
        counts["odd_headers"] += 1
        return _by_astropy(raw)
    height, width, at = layout
    return np.frombuffer(raw, ">f4", height * width, at).reshape(height, width)


def _check_plain(stamp: bytes | memoryview) -> bytes:
    if bytes(stamp[:6]) != b"SIMPLE":
        raise BadStamp(f"neither gzip nor FITS: it starts with {bytes(stamp[:4]).hex(' ')}")
    if len(stamp) > MAX_STAMP:
        raise BadStamp(f"it has {len(stamp):,} bytes, more than the {MAX_STAMP:,} allowed")
    return bytes(stamp)


def _gunzip(stamp: bytes | memoryview) -> bytes:
    inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    try:
        raw = inflater.decompress(stamp, MAX_STAMP + 1)
    except _IsalError as error:
        raise BadStamp(f"its gzip data are damaged: {error}") from None
    if (
        inflater.eof and inflater.unused_data
    ):  # more members, or padding: the standard library knows the rules
        return _capped(_gunzip_slowly(bytes(stamp)))
    if not inflater.eof and len(raw) <= MAX_STAMP:
        raise BadStamp("its gzip data are cut short")
    return _capped(raw)


def _gunzip_slowly(stamp: bytes) -> bytes:
    try:
        with gzip.open(io.BytesIO(stamp)) as stream:
            return stream.read(MAX_STAMP + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadStamp(f"its gzip data are damaged: {error}") from None


def _capped(raw: bytes) -> bytes:
    if len(raw) > MAX_STAMP:
        raise BadStamp(f"it inflates to more than the {MAX_STAMP:,} bytes allowed")
    return raw


def _layout(raw: bytes) -> tuple[int, int, int] | None:
    """Height, width and start of the pixels of a plain float32 image; None if the header is any other."""
    head = raw[:_BLOCK]
    if head in _layouts:
        return _layouts[head]
    layout = _parse(raw)
    # ZTF's headers are a few dozen in all; those with a WCS of their own never come back
    if len(_layouts) < _LAYOUTS_MAX and layout is not None and layout[2] == _BLOCK:
        _layouts[head] = layout
    return layout


def _parse(raw: bytes) -> tuple[int, int, int] | None:
    values = [_value(raw, i, key) for i, key in enumerate((b"SIMPLE  ", b"BITPIX  ", b"NAXIS   "))]
    if values != [b"T", b"-32", b"2"]:
        return None
    width, height = _value(raw, 3, b"NAXIS1  "), _value(raw, 4, b"NAXIS2  ")
    if not (width and height and width.isdigit() and height.isdigit()):
        return None
    for block in range(0, len(raw), _BLOCK):
        names = {raw[at : at + 8] for at in range(block, block + _BLOCK, _CARD)}
        if names & _SCALED:
            return None
        if b"END     " in names:
            return int(height), int(width), block + _BLOCK
    return None


def _value(raw: bytes, card: int, name: bytes) -> bytes | None:
    """A card's value without its comment. ZTF has `SIMPLE  =  T`, against the standard's column 30."""
    text = raw[card * _CARD : (card + 1) * _CARD]
    if not text.startswith(name) or text[8:9] != b"=":
        return None
    return text[9:].partition(b"/")[0].strip()


def _by_astropy(raw: bytes) -> np.ndarray:
    """The first two-dimensional image of the file."""
    from astropy.io import fits

    try:
        with warnings.catch_warnings(action="ignore"), fits.open(io.BytesIO(raw), memmap=False) as hdus:
            # Each takes a block at least; but behind a negative axis astropy finds the same one, for ever.
            for hdu in islice(hdus, len(raw) // _BLOCK):
                shape = tuple(getattr(hdu, "shape", ()))
                if len(shape) == 2 and 0 < int(np.prod(shape)) <= MAX_STAMP // 4 and hdu.is_image:
                    return np.asarray(hdu.data).astype(np.float32)
    except Exception as error:  # astropy raises OSError, TypeError, ValueError, VerifyError, ...
        raise BadStamp(f"astropy cannot read it: {error}") from None
    raise BadStamp("it has no two-dimensional image")


def _place(image: np.ndarray, pixels: np.ndarray, counts: Counter[str]) -> None:
    """Copy the image into the middle of the (63, 63) `pixels`, cropped; blank what is no value."""
    height, width = image.shape
    if (height, width) == (CUTOUT_SIZE, CUTOUT_SIZE):
        pixels[:] = image
        inside = pixels
    else:
        counts["edge_stamps" if height != width else "other_sizes"] += 1
        pixels[:] = np.nan
        (to_y, from_y), (to_x, from_x) = _overlap(height), _overlap(width)
        inside = pixels[to_y, to_x]
        inside[:] = image[from_y, from_x]
    flat = inside.ravel()
    if np.isfinite(np.dot(flat, flat)):  # a microsecond; a NaN, an infinity or a sentinel spoils the sum
        return
    nan, infinite, sentinel = np.isnan(flat), np.isinf(flat), np.abs(flat) > SENTINEL
    counts["nan_stamps"] += bool(nan.any())
    counts["infinite_stamps"] += bool(infinite.any())
    counts["sentinel_stamps"] += bool((sentinel & ~infinite).any())
    inside[np.abs(inside) > SENTINEL] = np.nan


def _overlap(length: int) -> tuple[slice, slice]:
    """Where a line of that length goes in a line of 63, and which part of it: middle upon middle."""
    if length <= CUTOUT_SIZE:
        start = (CUTOUT_SIZE - length) // 2
        return slice(start, start + length), slice(None)
    start = (length - CUTOUT_SIZE) // 2
    return slice(None), slice(start, start + CUTOUT_SIZE)
