"""Scoring what is in the archive, by Ray Data: a pool of actors that each hold the version, for one job."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray.data

from broker.archive.archive import Archive
from broker.archive.rescored import COLUMNS, Rescored
from broker.packets.cutouts import with_cutouts
from broker.packets.schema import CUTOUTS
from broker.stream.run import quiet
from models.contract import Model, open_model
from serve.scorer import eligible, entries

BLOCK = 256  # alerts a task
COMMIT_S = 10.0  # what is scored is kept at least so often: a run that is killed goes on from there
IN_FLIGHT = ("cutouts", "cutout_shape")


class Rescorer:
    """An actor of the pool. Called with a block of alert ids, answers with their scores."""

    def __init__(self, folder: str, archive: Archive) -> None:
        import torch

        torch.set_num_threads(1)
        self._model: Model = open_model(Path(folder), "cuda" if torch.cuda.is_available() else "cpu")
        self._archive = archive

    def __call__(self, block: pa.Table) -> pa.Table:
        model = self._model
        ids = block["alert_id"].to_pylist()
        alerts = self._archive.get(alert_ids=ids, columns=self._columns())
        if set(IN_FLIGHT) & set(model.inputs):
            alerts = with_cutouts(alerts)
        return scored(model, alerts)

    def _columns(self) -> list[str] | None:
        """What the version reads; a predicate may read anything but bytes."""
        model = self._model
        wanted = {"alert_id", *(path.partition(".")[0] for path in model.inputs)} - set(IN_FLIGHT)
        if set(IN_FLIGHT) & set(model.inputs):
            wanted |= set(CUTOUTS)
        have = self._archive.get(limit=1).column_names
        if model.precondition.strip().lower() != "true":
            wanted |= set(have) - {"packet", *CUTOUTS}
        return [name for name in have if name in wanted]


def scored(model: Model, alerts: pa.Table) -> pa.Table:
    """Rows of COLUMNS for the alerts that the version scores; a version that fails gives null and why."""
    rows = eligible(alerts, model.precondition)
    asked = alerts.take(pa.array(rows))
    said: pa.Table | str
    try:
        said = model.score(asked)
    except Exception as error:  # the model's own, whatever it is: it costs its scores, not the run
        said = f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0]}"
    _, found = entries(model, np.arange(len(asked)), said)
    columns = [asked["alert_id"].combine_chunks(), *(found.field(f.name) for f in found.type)]
    return pa.Table.from_arrays(columns, schema=COLUMNS)


def rescore(
    archive: Archive,
    folder: Path,
    where: str,
    actors: int,
    progress: Callable[[int, int], None],
) -> dict[str, int]:
    """Score the archive's alerts that fulfil `where` with the version in `folder`, beside what there is.

    What a former run has scored is not scored again. progress: alerts done, and in all, after every commit.
    Return counts: `alerts` (fulfil it), `before` (had its scores already), `scored`, `failed` (null).
    """
    quiet()
    version = open_model(folder)  # what cannot be loaded is said here, not by a pool
    kept = Rescored(archive.uri, archive.survey, archive.storage_options)
    ids = archive.get(where=where, columns=["alert_id"])["alert_id"].to_pylist()
    done = kept.ids(version.name, version.version)
    todo = [i for i in ids if i not in done]
    counts = {"alerts": len(ids), "before": len(ids) - len(todo), "scored": 0, "failed": 0}
    progress(counts["before"], counts["alerts"])
    for table in _gathered(_blocks(archive, folder, todo, actors)):
        kept.add(table)
        counts["scored"] += len(table)
        counts["failed"] += table["probabilities"].null_count
        progress(counts["before"] + counts["scored"], counts["alerts"])
    return counts


def _blocks(archive: Archive, folder: Path, ids: Sequence[int], actors: int) -> Iterator[pa.Table]:
    if not ids:
        return
    parts = [pa.table({"alert_id": ids[at : at + BLOCK]}) for at in range(0, len(ids), BLOCK)]
    dataset = ray.data.from_arrow(parts).map_batches(
        Rescorer,
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=actors),
        fn_constructor_args=(str(folder.resolve()), archive),
    )
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow")


def _gathered(blocks: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The blocks, joined to what came in COMMIT_S."""
    gathered: list[pa.Table] = []
    since = time.monotonic()
    for block in blocks:
        gathered.append(block.cast(COLUMNS))
        if time.monotonic() - since > COMMIT_S:
            yield pa.concat_tables(gathered)
            gathered, since = [], time.monotonic()
    if gathered:
        yield pa.concat_tables(gathered)
