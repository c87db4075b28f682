"""The fields of decoded packets by name, whether or not their schema has them."""

from __future__ import annotations

import polars as pl


class Fields:
    """What a decoded frame has. Asked once: polars builds a schema of 300 types anew at each look."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._types = frame.schema
        self._records: dict[str, frozenset[str]] = {}

    def of(self, record: str) -> frozenset[str]:
        """The names of a record column's fields; none if there is no such column, or it is no record."""
        if record not in self._records:
            kind = self._types.get(record)
            names = (field.name for field in kind.fields) if isinstance(kind, pl.Struct) else ()
            self._records[record] = frozenset(names)
        return self._records[record]

    def has(self, field: str) -> bool:
        return field in self._types

    def top(self, field: str, dtype: type[pl.DataType]) -> pl.Expr:
        """A top-level field; null of that type where the schema lacks it."""
        return pl.col(field).cast(dtype) if field in self._types else pl.lit(None, dtype)

    def nested(self, record: str, field: str, dtype: type[pl.DataType]) -> pl.Expr:
        """A field of a record column; null of that type where the schema lacks either."""
        if field in self.of(record):
            return pl.col(record).struct.field(field).cast(dtype)
        return pl.lit(None, dtype)

    def lists_records(self, column: str) -> bool:
        """Whether the column is there and holds lists of records."""
        kind = self._types.get(column)
        return isinstance(kind, pl.List) and isinstance(kind.inner, pl.Struct)
