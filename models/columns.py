"""From columns of the alert table to NumPy arrays, without a Python loop over alerts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.manifest import ModelError

BANDS = ("u", "g", "r", "i", "z", "y")
KINDS = ("detection", "forced", "limit")
CUTOUTS = (3, 63, 63)


def column(table: pa.Table, path: str) -> pa.Array | None:
    """The column at `path` ("flux", "source.magpsf") as one array; None where a source column is missing."""
    name, _, child = path.partition(".")
    i = table.schema.get_field_index(name)
    if i < 0:
        if child:
            return None
        raise ModelError(
            f"the table to score lacks the column {name!r} (it has {', '.join(table.column_names)})"
        )
    values = one(table.column(i))
    if child:
        if not pa.types.is_struct(values.type) or values.type.get_field_index(child) < 0:
            return None
        values = pc.struct_field(values, child)
    return values


def one(values: pa.ChunkedArray) -> pa.Array:
    """One array of a chunked column (without a copy where there is one chunk)."""
    return values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()


def floats(values: pa.Array | None, rows: int) -> np.ndarray:
    """float64 (rows,): NaN for null, for a missing column (None) and for a column that is not numeric."""
    if values is None:
        return np.full(rows, np.nan)
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return np.full(rows, np.nan)
    return values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def numbers(table: pa.Table, path: str) -> np.ndarray:
    """`floats` of the column at `path`."""
    return floats(column(table, path), len(table))


def codes(values: pa.Array, names: Sequence[str]) -> np.ndarray:
    """int8 (rows,): the position of each string in `names`, -1 for null and for any other string."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if not (
        pa.types.is_string(values.type)
        or pa.types.is_large_string(values.type)
        or pa.types.is_string_view(values.type)
    ):
        return np.full(len(values), -1, np.int8)
    found = pc.index_in(values, value_set=pa.array(names, values.type))
    return found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int8)


def cutouts(table: pa.Table, path: str = "cutouts") -> np.ndarray:
    """float32 (rows, 3, 63, 63): science, template, difference; NaN where there is no pixel or no stamp."""
    values = column(table, path)
    assert values is not None
    storage = values.storage if isinstance(values, pa.ExtensionArray) else values
    size = int(np.prod(CUTOUTS))
    if not pa.types.is_fixed_size_list(storage.type) or storage.type.list_size != size:
        raise ModelError(f"the column {path!r} is {values.type}, not a fixed-shape tensor of {CUTOUTS}")
    pixels = storage.values.slice(storage.offset * size, len(storage) * size)
    images = floats32(pixels).reshape(-1, *CUTOUTS)
    if storage.null_count:
        images = images.copy()
        images[storage.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return images


def floats32(values: pa.Array) -> np.ndarray:
    """float32 (rows,), NaN for null; without a copy where it can."""
    if values.type != pa.float32():
        values = values.cast(pa.float32(), safe=False)
    return values.to_numpy(zero_copy_only=False)
