"""How the alert table lies in a Lance dataset: columns, compression, and how it follows the surveys' schemas.

The dataset's `source` has every field that any packet ever had; rows of older schemas read as null there.
A field whose type grows within its kind (int32 to int64, float to double) is widened in place. One that
changes its kind (a count becomes a real number, a flag a text) continues under a second name, `field@type`:
nothing is converted, so nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from broker.packets.schema import ALERTS, CUTOUTS, SCORES, second_name

# Lance 2.2 is the first format in which a struct takes new fields without rewriting the rows there are.
FORMAT: Literal["2.2"] = "2.2"
BATCH = pa.field("batch", pa.string(), nullable=False)
COLUMNS = pa.schema([*ALERTS, pa.field("scores", SCORES), BATCH])

# Measured on real packets, 1,000 of ZTF and 70 of LSST: level 1 writes as small as level 3 does, at 0.11 and
# 0.32 ms CPU an alert instead of 0.17 and 0.40. Stamps that are gzip already are left as they are: 0.07 ms
# instead of 0.13, and not a byte more (0.73 of the packets; with nothing packed it would be 0.79).
_ZSTD = {"lance-encoding:compression": "zstd", "lance-encoding:compression-level": "1"}


def dataset_schema(schema: pa.Schema, packs_stamps: bool) -> pa.Schema:
    """The schema of a new dataset for tables of `schema`: the archived columns, and then any others.

    packs_stamps: whether the survey's stamps come compressed.
    """
    known = [f.with_type(schema.field(f.name).type) if f.name == "source" else f for f in COLUMNS]
    others = [field.with_nullable(True) for field in schema if field.name not in COLUMNS.names]
    packed = {"packet"} if packs_stamps else {"packet", *CUTOUTS}
    return pa.schema([_laid_out(field, packed) for field in (*known, *others)])


def _laid_out(field: pa.Field, packed: set[str]) -> pa.Field:
    if field.name == "source":
        field = field.with_type(_all_nullable(field.type))
    return field.with_metadata(_ZSTD if field.name in packed else {})


def _all_nullable(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, _all_nullable(f.type)) for f in kind])
    return kind


def lacking(have: pa.Schema, want: pa.Schema) -> list[pa.Field]:
    """The columns to add to `have` so that it takes tables of `want`; structs hold only their new fields."""
    found = []
    for field in want:
        at = have.get_field_index(field.name)
        if at < 0:
            found.append(pa.field(field.name, _all_nullable(field.type)))
        elif pa.types.is_struct(field.type) and (new := _lacking_fields(have.field(at).type, field.type)):
            found.append(pa.field(field.name, pa.struct(new)))
    return found


def _lacking_fields(have: pa.StructType, want: pa.StructType) -> list[pa.Field]:
    found = []
    for field in want:
        at = have.get_field_index(field.name)
        if at < 0:
            found.append(pa.field(field.name, _all_nullable(field.type)))
        elif pa.types.is_struct(field.type) and pa.types.is_struct(have.field(at).type):
            if new := _lacking_fields(have.field(at).type, field.type):
                found.append(pa.field(field.name, pa.struct(new)))
        elif not (_holds(have.field(at).type, field.type) or _widens(have.field(at).type, field.type)):
            name = second_name(field)
            if have.get_field_index(name) < 0:
                found.append(pa.field(name, field.type))
    return found


def widenings(have: pa.Schema, want: pa.Schema) -> list[tuple[str, pa.DataType]]:
    """(path, type) of the fields within structs that have to grow in place, such as source.pid to int64."""
    return [
        (f"{field.name}.{path}", kind)
        for field in want
        if pa.types.is_struct(field.type) and have.get_field_index(field.name) >= 0
        for path, kind in _widenings(have.field(field.name).type, field.type)
    ]


def _widenings(have: pa.StructType, want: pa.StructType) -> Iterator[tuple[str, pa.DataType]]:
    for field in want:
        at = have.get_field_index(field.name)
        if at < 0:
            continue
        if pa.types.is_struct(field.type) and pa.types.is_struct(have.field(at).type):
            yield from ((f"{field.name}.{p}", k) for p, k in _widenings(have.field(at).type, field.type))
        elif _widens(have.field(at).type, field.type):
            yield field.name, field.type


def _holds(have: pa.DataType, want: pa.DataType) -> bool:
    """Whether a column of `have` takes values of `want` as they are."""
    if have == want or pa.types.is_null(want):
        return True
    if pa.types.is_signed_integer(have) and pa.types.is_signed_integer(want):
        return bool(have.bit_width >= want.bit_width)
    if pa.types.is_floating(have) and pa.types.is_floating(want):
        return bool(have.bit_width >= want.bit_width)
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    if any(is_text(have) for is_text in texts) and any(is_text(want) for is_text in texts):
        return True
    bytes_ = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(is_bytes(have) for is_bytes in bytes_) and any(is_bytes(want) for is_bytes in bytes_)


def _widens(have: pa.DataType, want: pa.DataType) -> bool:
    """Whether a column of `have` can grow to `want` in place."""
    same_kind = (pa.types.is_signed_integer(have) and pa.types.is_signed_integer(want)) or (
        pa.types.is_floating(have) and pa.types.is_floating(want)
    )
    return same_kind and bool(have.bit_width < want.bit_width)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` with exactly the columns of the dataset's `schema`, null where it lacks them.

    Raises ValueError where a column has no place; prepare makes one.
    """
    if strangers := [name for name in table.column_names if name not in schema.names]:
        raise ValueError(f"the archive has no column {', '.join(strangers)}: prepare it for this table first")
    table = table.combine_chunks()
    columns: list[pa.Array] = []
    for field in schema:
        at = table.schema.get_field_index(field.name)
        if at < 0:
            columns.append(pa.nulls(len(table), field.type))
            continue
        column = table.column(at)
        array = column.chunk(0) if column.num_chunks else pa.array([], column.type)
        columns.append(_conform(array, field.type, field.name))
    return pa.Table.from_arrays(columns, schema=schema)


def _conform(array: pa.Array, kind: pa.DataType, path: str) -> pa.Array:
    if array.type == kind:
        return array
    if not (pa.types.is_struct(kind) and pa.types.is_struct(array.type)):
        return array.cast(kind)
    given = {}
    for i, field in enumerate(array.type):
        at = kind.get_field_index(field.name)
        if at >= 0 and not pa.types.is_struct(field.type) and not _holds(kind.field(at).type, field.type):
            at = kind.get_field_index(second_name(field))
        if at < 0:
            raise ValueError(
                f"the archive has no column {path}.{field.name}: prepare it for this table first"
            )
        given[at] = i
    # flatten() applies the struct's own offset and nulls, which field() does not
    values = array.flatten()
    children = [
        _conform(values[given[at]], f.type, f"{path}.{f.name}")
        if at in given
        else pa.nulls(len(array), f.type)
        for at, f in enumerate(kind)
    ]
    if not children:
        return pa.array([{}] * len(array), kind)
    mask = pc.is_null(array) if array.null_count else None
    return pa.StructArray.from_arrays(children, fields=list(kind), mask=mask)
