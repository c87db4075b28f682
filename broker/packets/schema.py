"""The one alert table that every survey decodes to, declared once.

Units: degrees (ICRS), nJy (AB; difference flux, signed), MJD on the TAI scale at the middle of the exposure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

BANDS = ("u", "g", "r", "i", "z", "y")
KINDS = ("detection", "forced", "limit")
CUTOUTS = ("cutout_science", "cutout_template", "cutout_difference")
CUTOUT_SIZE = 63
PUBLIC = "public"

POINT = pa.struct(
    [
        ("mjd", pa.float64()),
        ("band", pa.string()),
        ("flux", pa.float64()),
        ("flux_err", pa.float64()),
        ("kind", pa.string()),
    ]
)

# What a model version says of one alert. `probabilities` runs parallel to `classes`; both are null, and
# `reason` says why, where the version could not score. Alerts outside its precondition have no entry.
SCORE = pa.struct(
    [
        ("model", pa.string()),
        ("version", pa.string()),
        ("classes", pa.list_(pa.string())),
        ("probabilities", pa.list_(pa.float32())),
        ("reason", pa.string()),
    ]
)
SCORES = pa.list_(SCORE)

# `source` (the survey's own columns, untouched) stands here as an empty struct: its fields are whatever the
# packet's writer schema has, so that a survey's newest minor version needs no change of code.
ALERTS = pa.schema(
    [
        pa.field("survey", pa.string(), nullable=False),
        pa.field("alert_id", pa.int64(), nullable=False),
        pa.field("object_id", pa.string(), nullable=False),
        pa.field("mjd", pa.float64(), nullable=False),
        pa.field("ra", pa.float64(), nullable=False),
        pa.field("dec", pa.float64(), nullable=False),
        pa.field("hpx29", pa.int64(), nullable=False),
        pa.field("band", pa.string(), nullable=False),
        pa.field("flux", pa.float64()),
        pa.field("flux_err", pa.float64()),
        pa.field("history", pa.list_(POINT), nullable=False),
        pa.field("source", pa.struct([]), nullable=False),
        pa.field("rights", pa.string(), nullable=False),
        pa.field("packet_schema", pa.string(), nullable=False),
        pa.field("ingested_at", pa.timestamp("us", "UTC")),
        pa.field("topic", pa.string()),
        pa.field("partition", pa.int32()),
        pa.field("offset", pa.int64()),
        pa.field("cutout_science", pa.large_binary()),
        pa.field("cutout_template", pa.large_binary()),
        pa.field("cutout_difference", pa.large_binary()),
        pa.field("packet", pa.large_binary(), nullable=False),
        pa.field("packet_cuts", pa.list_(pa.int32()), nullable=False),
    ]
)

# In flight, derived from the stamps' bytes; NaN where there is no valid pixel.
CUTOUT_TENSOR = pa.fixed_shape_tensor(pa.float32(), (3, CUTOUT_SIZE, CUTOUT_SIZE))
CUTOUT_SHAPE = pa.list_(pa.int32(), 2)


class SchemaMismatch(TypeError):
    """A table does not have the columns of the alert table."""


def assert_alerts(schema: pa.Schema) -> None:
    """Raise SchemaMismatch unless `schema` has ALERTS' columns with their types (`source`: any struct)."""
    for field in ALERTS:
        i = schema.get_field_index(field.name)
        if i < 0:
            raise SchemaMismatch(f"the alert table lacks its column {field.name!r}")
        found = schema.field(i).type
        if field.name == "source" and pa.types.is_struct(found):
            continue
        if found != field.type:
            raise SchemaMismatch(f"column {field.name!r} of the alert table is {found}, not {field.type}")


def second_name(field: pa.Field) -> str:
    """Where the values of a field of `source` go that has another kind than before (a number, a text)."""
    return f"{field.name}@{str(field.type).replace('.', '_')}"


def datum(row: Mapping[str, Any]) -> bytes:
    """Rebuild the Avro datum as it was received: the stamps put back at `packet_cuts`, byte for byte.

    `row` has `packet`, `packet_cuts` and the three stamps' bytes (or None).
    """
    stamps = sorted((at, row[name]) for name, at in zip(CUTOUTS, row["packet_cuts"], strict=True) if at >= 0)
    pieces, taken, length = [], 0, 0
    for at, stamp in stamps:
        head = row["packet"][taken : taken + at - length]
        pieces += [head, stamp]
        taken += len(head)
        length += len(head) + len(stamp)
    pieces.append(row["packet"][taken:])
    return b"".join(pieces)
