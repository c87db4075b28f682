"""What each network costs on one core: whole, on packets; and each of its forms against plain fp32."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, cast

import pyarrow as pa
import torch

from models.contract import Model
from models.testing import speed
from models.variants import Measured, Variant, machine
from rayfinch.bench.sample import Sample

ROWS = (64, 128, 256, 512)
BLOCK = 256  # alerts; about what a task of a stream has


class Formed(Protocol):
    """A model whose network has several forms, of which the fastest serves."""

    @property
    def variant(self) -> Variant: ...
    def measured(self, rows: tuple[int, ...]) -> list[Measured]: ...


def alerts(sample: Sample) -> pa.Table:
    """One block of the sample's alerts, its packets repeated where they are too few."""
    from broker.packets.decode import decode
    from broker.packets.registry import Folder
    from broker.packets.survey import survey

    packets = [sample.packets[i % len(sample.packets)] for i in range(BLOCK)]
    schemas = Folder(sample.schemas) if sample.schemas else None
    return decode(survey(sample.survey), packets, schemas, cutouts=True).alerts


def run(models: Iterable[Model], table: pa.Table) -> dict[str, Any]:
    """Figures of each model, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {
            "machine": machine(torch.device("cpu")),
            "block": len(table),
            "models": [_figures(model, table) for model in models],
        }
    finally:
        torch.set_num_threads(threads)


def _figures(model: Model, table: pa.Table) -> dict[str, Any]:
    from serve.scorer import eligible

    table = table.take(eligible(table, model.precondition))
    if not len(table):
        raise ValueError(f"{model.name}@{model.version} scores none of these alerts ({model.precondition})")
    rate = speed(model, table)
    found: dict[str, Any] = {"model": model.name, "version": model.version, "alerts_per_s": rate}
    if not hasattr(model, "measured"):
        return found
    formed = cast(Formed, model)
    chosen = formed.variant
    of_all = formed.measured(tuple(sorted({*ROWS, chosen.rows})))
    plain = min(m.us_per_row for m in of_all if m.name == of_all[0].name)
    serves = next(m for m in of_all if (m.name, m.rows) == (chosen.name, chosen.rows))
    return {
        **found,
        "serves": chosen.name,
        "rows": chosen.rows,
        "against_fp32": plain / serves.us_per_row,
        "forms": [
            {
                "form": m.name,
                "rows": m.rows,
                "rows_per_s": 1e6 / m.us_per_row,
                "against_fp32": plain / m.us_per_row,
                "difference": m.difference,
                "agrees": m.agrees,
            }
            for m in of_all
        ],
    }
