"""Alerts as they would have been earlier: when each object was so many days old."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from models import columns

DAYS = (2.0, 7.0, 14.0, 30.0, 60.0)
OWN = ("mjd", "band", "flux", "flux_err")


def has_history(table: pa.Table) -> bool:
    """Whether any of the alerts has points before its own."""
    return "history" in table.column_names and len(columns.one(table["history"]).flatten()) > 0


def at_age(table: pa.Table, days: float) -> pa.Table:
    """Each alert replaced by its object's last detection within `days` of the first one, and what was before.

    The history must be in order of time. Alerts whose own detection is as early stay as they are.
    """
    history = columns.one(table["history"])
    offsets = history.offsets.to_numpy().astype(np.int64)
    points = history.values.slice(offsets[0], offsets[-1] - offsets[0])
    offsets = offsets - offsets[0]
    row = np.repeat(np.arange(len(table)), np.diff(offsets))
    mjd = points.field("mjd").to_numpy(zero_copy_only=False)
    detected = columns.codes(points.field("kind"), columns.KINDS) == columns.KINDS.index("detection")
    own = columns.numbers(table, "mjd")
    first = own.copy()
    np.minimum.at(first, row[detected], mjd[detected])
    young = detected & (mjd <= (first + days)[row])
    last = np.full(len(table), -1)
    np.maximum.at(last, row[young], np.flatnonzero(young))
    stays = own <= first + days
    keep = stays[row] | (np.arange(len(mjd)) < last[row])
    kept = np.concatenate([[0], np.cumsum(np.bincount(row[keep], minlength=len(table)))])
    for name in OWN:
        at = table.schema.get_field_index(name)
        both = pa.concat_arrays([columns.one(table[name]), points.field(name).cast(table[name].type)])
        chosen = np.where(stays, np.arange(len(table)), len(table) + last)
        table = table.set_column(at, table.schema.field(name), both.take(pa.array(chosen)))
    lists = pa.ListArray.from_arrays(pa.array(kept, pa.int32()), points.filter(pa.array(keep)))
    at = table.schema.get_field_index("history")
    return table.set_column(at, "history", lists)
