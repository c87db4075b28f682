"""What keeps the archive small and quick beside a running stream, and what there is of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import lance
import numpy as np
import pyarrow.compute as pc

from broker.archive import commits
from broker.packets.schema import CUTOUTS

INDICES = ("object_id", "alert_id", "hpx29")
# Versions are kept so long: a driver that slept longer cannot commit any more (see commits).
KEPT = timedelta(minutes=10)
# A gigabyte or two: ten million alerts are three hundred fragments.
FRAGMENT_ROWS = 32_768
_ATTEMPTS = 5
_SAMPLE = 500
# What is told of a step that came between the stream, or another compaction, and can be done again.
_PASSING = ("onflict", "must be unique", "not found")


def compact(address: str, options: dict[str, str] | None, kept: timedelta = KEPT) -> dict[str, Any]:
    """Drop versions older than `kept`, join the small fragments of those before, and index what is new.

    Safe beside writers: only fragments of the oldest version kept are joined, up to the last append's, so
    that an id is not free again while a sleeping driver could still take it (see commits). Files that no
    version refers to are removed when they are a week old.
    """

    def opened() -> lance.LanceDataset:
        return lance.dataset(address, storage_options=options)

    dataset = opened()
    before = len(dataset.get_fragments())
    record = commits.record(dataset)
    if dataset.config().get(commits.RECORD) != record.dumps():
        _again(lambda: opened().update_config({commits.RECORD: record.dumps()}))
    cleaned = opened().cleanup_old_versions(older_than=kept, error_if_tagged_old_versions=False)
    joinable = {id for id in _again(lambda: _oldest(opened())) if id <= record.last}
    # Indices first: Lance does not join fragments that an index knows with others
    for column in INDICES:
        _again(partial(_index, opened, column))
    _again(lambda: _join(opened(), joinable))
    dataset = opened()
    return {
        "fragments_before": before,
        "fragments": len(dataset.get_fragments()),
        "versions": len(dataset.versions()),
        "bytes_removed": cleaned.bytes_removed,
    }


def _oldest(dataset: lance.LanceDataset) -> set[int]:
    version = min(int(v["version"]) for v in dataset.versions())
    return {f.fragment_id for f in dataset.checkout_version(version).get_fragments()}


def _join(dataset: lance.LanceDataset, joinable: set[int]) -> None:
    fragments = dataset.get_fragments()
    ids = [f.fragment_id for f in fragments]
    sizes = [f.metadata.num_rows if f.fragment_id in joinable else None for f in fragments]
    chosen = worth_joining(sizes)
    others = [id for at, id in enumerate(ids) if at not in chosen]
    # Small batches: a row weighs 50 kB and more
    dataset.optimize.compact_files(
        target_rows_per_fragment=FRAGMENT_ROWS, excluded_fragment_ids=others, num_threads=1, batch_size=512
    )


def worth_joining(sizes: Sequence[int | None]) -> range:
    """Which neighbours to join, of fragments of `sizes` rows, oldest first (None: not to be touched).

    The newest ones, and each before them that is at most twice as large as all after it: so every row is
    written again a few times, as often as the fragments double, and not whenever a few new ones come.
    """
    end = len(sizes)
    while end and sizes[end - 1] is None:
        end -= 1
    first, rows = end, 0
    while first:
        size = sizes[first - 1]
        if size is None or size >= FRAGMENT_ROWS or (rows and size > 2 * rows):
            break
        rows += size
        first -= 1
    return range(first, end)


def _index(opened: Callable[[], lance.LanceDataset], column: str) -> None:
    dataset = opened()
    name = f"{column}_idx"
    if any(index.name == name for index in dataset.describe_indices()):
        dataset.optimize.optimize_indices(index_names=[name])
    elif dataset.count_rows():
        dataset.create_scalar_index(column, "BTREE", name=name)


def _again(step: Callable[[], Any]) -> Any:
    for attempt in range(_ATTEMPTS):
        try:
            return step()
        except OSError as error:
            told = str(error)
            if attempt + 1 == _ATTEMPTS or not any(passing in told for passing in _PASSING):
                raise
            time.sleep(0.1 * 2**attempt)


def stats(dataset: lance.LanceDataset) -> dict[str, Any]:
    """What there is, and how much room it takes.

    alerts, bytes (all files, those of versions kept included), bytes_per_alert, datum_bytes_per_alert (of a
    sample: the Avro data as received, without containers' headers), ratio of the two, fragments, versions,
    nights (number, first and last: the MJD, TAI, on which they ended), indices (name -> alerts indexed).
    """
    alerts = dataset.count_rows()
    files = dataset.all_files().read_all()
    size = int(pc.sum(files["size_bytes"]).as_py() or 0)
    datum = _datum_bytes(dataset)
    return {
        "alerts": alerts,
        "bytes": size,
        "bytes_per_alert": round(size / alerts, 1) if alerts else None,
        "datum_bytes_per_alert": round(datum, 1) if datum else None,
        "ratio": round(size / alerts / datum, 4) if datum else None,
        "fragments": len(dataset.get_fragments()),
        "versions": len(dataset.versions()),
        "nights": _nights(dataset),
        "indices": {index.name: index.num_rows_indexed for index in dataset.describe_indices()},
    }


def _datum_bytes(dataset: lance.LanceDataset) -> float | None:
    """Mean length of the newest data, stamps put back."""
    rows = dataset.count_rows()
    first = max(0, rows - _SAMPLE)
    sample = dataset.to_table(columns=[*CUTOUTS, "packet"], offset=first, limit=_SAMPLE)
    lengths = [int(pc.sum(pc.binary_length(column)).as_py() or 0) for column in sample.columns]
    return sum(lengths) / len(sample) if len(sample) else None


def _nights(dataset: lance.LanceDataset) -> dict[str, int | None]:
    nights: set[int] = set()
    for batch in dataset.to_batches(columns=["mjd"], batch_size=1 << 20):
        # From 18 h to 18 h UTC: day for the observatories in California and in Chile
        nights.update(np.unique(np.floor(batch["mjd"].to_numpy() + 0.25)).astype(int).tolist())
    return {
        "number": len(nights),
        "first": min(nights, default=None),
        "last": max(nights, default=None),
    }
