"""Simulated alerts as training data: made by Ray Data's tasks, decoded as the stream decodes real ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import pyarrow as pa
import ray.data

from broker.stream.run import quiet
from training.dataset import Labelled
from training.simulation import packets
from training.simulation.table import LABEL, labelled

PART = 250  # alerts a task
KEPT = ("object_id", "alert_id", "ra", "dec", "band", "flux", "flux_err", "source", "cutouts", "cutout_shape")


def simulated(alerts: int, seed: int) -> Iterator[Labelled]:
    """`alerts` of `rayfinch simulate`'s made-up sky with cutouts and packet columns, in parts.

    The same `seed` gives the same alerts in the same order, on however many cores. Objects of different
    parts are different ones.
    """
    quiet()
    sizes = [min(PART, alerts - first) for first in range(0, alerts, PART)]
    parts = [pa.table({"seed": [seed * 100_003 + i], "alerts": [size]}) for i, size in enumerate(sizes)]
    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    with ray.data.DataContext.current(context):
        found = ray.data.from_arrow(parts).map_batches(_part, batch_size=None, batch_format="pyarrow")
        for block in found.iter_batches(batch_size=None, batch_format="pyarrow"):
            table = cast(pa.Table, block)
            labels = np.array(table[LABEL].to_pylist())
            groups = np.array(table["object_id"].to_pylist())
            yield Labelled(table.drop_columns(LABEL), labels, groups, {})


def _part(asked: pa.Table) -> pa.Table:
    """The alerts of one seed."""
    made = list(packets(asked["alerts"][0].as_py(), asked["seed"][0].as_py()))
    return labelled(made).select((*KEPT, LABEL))
