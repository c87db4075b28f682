"""From alerts to the arrays that a foreign network was trained on: what feeds an ONNX version's inputs.

Each function takes a table of alerts and the column paths that the version declares, and returns one array,
a row an alert; a row that holds anything not finite has no score. An installed distribution may bring others
(an entry point of the group `rayfinch.models`: `name = "package.module:function"`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from models import columns
from models.points import MOST_POINTS, points
from models.shapes import NAMES, shapes

_PAD = 1e-9
MISSING = -99.0
_NOT_NUMBERS = ("cutouts", "cutout_shape", "history", "band")


def triplet(table: pa.Table, inputs: Sequence[str]) -> np.ndarray:
    """float32 (rows, 3, 63, 63): science, template and difference as braai and ACAI read them.

    NaN is 0, each image is divided by its L2 norm, and a stamp that a chip's edge has cut begins in the first
    corner, with 1e-9 behind it (Duev et al. 2019, arXiv:1907.11259). Inputs: cutouts, cutout_shape. An alert
    without any pixel is NaN.
    """
    images = columns.cutouts(table)
    shapes = columns.column(table, "cutout_shape")
    assert shapes is not None
    sizes = np.asarray(shapes.flatten()).reshape(-1, 2)
    known = np.isfinite(images).any(axis=(1, 2, 3))
    images = np.nan_to_num(images, nan=0.0)
    norms = np.sqrt(np.einsum("ijkl,ijkl->ij", images, images, dtype=np.float64))
    with np.errstate(over="ignore"):  # pixels that are no values: the row ends up without a score
        images /= np.where(norms > 0, norms, 1)[:, :, None, None].astype(np.float32)
    side = images.shape[-1]
    for row in np.flatnonzero((sizes < side).any(axis=1) & (sizes > 0).all(axis=1)):
        height, width = np.minimum(sizes[row], side)
        top, left = (side - height) // 2, (side - width) // 2
        image = images[row, :, top : top + height, left : left + width].copy()
        images[row] = _PAD
        images[row, :, :height, :width] = image
    images[~known] = np.nan
    return images


def shape(table: pa.Table, inputs: Sequence[str]) -> np.ndarray:
    """float32 (rows, len(shapes.NAMES)): what the light curve looks like; MISSING where it does not tell.

    Inputs: those of a light curve. An alert without a significant detection is NaN.
    """
    found = shapes(points(table, MOST_POINTS))
    seen = np.isfinite(found[:, NAMES.index("peak")])
    found = np.nan_to_num(found, nan=MISSING)
    found[~seen] = np.nan
    return found


def numbers(table: pa.Table, inputs: Sequence[str]) -> np.ndarray:
    """float32 (rows, n): the declared inputs that are numbers, as they are, in their declared order."""
    paths = [path for path in inputs if path not in _NOT_NUMBERS]
    return np.column_stack([columns.numbers(table, path) for path in paths]).astype(np.float32)
