"""One table of alerts whose packets had different schemas."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from broker.packets.schema import ALERTS, second_name


def concatenated(tables: Sequence[pa.Table]) -> pa.Table:
    """One table of tables of several schemas: `source` has every field of any, null where it is lacking.

    A field that is of another kind in a later table goes on under its second name, as in the archive.
    """
    if not tables:
        return ALERTS.empty_table()
    if len(tables) == 1:
        return tables[0]
    if len({table.schema.field("source").type for table in tables}) > 1:
        tables = _told_apart(tables)
    return pa.concat_tables(tables, promote_options="permissive")


def _told_apart(tables: Sequence[pa.Table]) -> list[pa.Table]:
    known: dict[str, pa.Field] = {}
    found = []
    for table in tables:
        at = table.schema.get_field_index("source")
        source = table["source"].combine_chunks()
        fields = []
        for field in source.type:
            if not _same_kind(known.setdefault(field.name, field).type, field.type):
                field = field.with_name(second_name(field))
            fields.append(field)
        renamed = pa.StructArray.from_arrays(source.flatten(), fields=fields)
        found.append(table.set_column(at, pa.field("source", renamed.type, nullable=False), renamed))
    return found


def _same_kind(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether one type holds the values of both as they are (a real number does not hold every id)."""
    if one == other or pa.types.is_null(one) or pa.types.is_null(other):
        return True
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        shared = {f.name for f in one} & {f.name for f in other}
        return all(_same_kind(one.field(name).type, other.field(name).type) for name in shared)
    return any(is_kind(one) and is_kind(other) for is_kind in (pa.types.is_integer, pa.types.is_floating))
