"""What keeps the archive small and quick beside a running stream, and what there is of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
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
_ATTEMPTS = 5
_SAMPLE = 500


def compact(address: str, options: dict[str, str] | None, kept: timedelta = KEPT) -> dict[str, Any]:
    """Drop versions older than `kept`, join the small fragments of those before, and index what is new.

    Safe beside writers: only fragments of the oldest version kept are joined, so that a fragment's id shows
    for as long as a sleeping driver could still take it. Files that no version refers to are removed when
    they are a week old.
    """

    def opened() -> lance.LanceDataset:
        return lance.dataset(address, storage_options=options)

    dataset = opened()
    before = len(dataset.get_fragments())
    if (numbers := commits.highest(dataset)) is not None:
        kept_numbers = json.dumps(numbers, sort_keys=True)
        if dataset.config().get(commits.HIGHEST) != kept_numbers:
            _again(lambda: opened().update_config({commits.HIGHEST: kept_numbers}))
        cleaned = opened().cleanup_old_versions(older_than=kept, error_if_tagged_old_versions=False)
        removed = cleaned.bytes_removed
    else:
        removed = 0
    oldest = _oldest(opened())
    _again(lambda: _join(opened(), oldest))
    for column in INDICES:
        _again(partial(_index, opened, column))
    dataset = opened()
    return {
        "fragments_before": before,
        "fragments": len(dataset.get_fragments()),
        "versions": len(dataset.versions()),
        "bytes_removed": removed,
    }


def _oldest(dataset: lance.LanceDataset) -> set[int]:
    version = min(int(v["version"]) for v in dataset.versions())
    return {f.fragment_id for f in dataset.checkout_version(version).get_fragments()}


def _join(dataset: lance.LanceDataset, joinable: set[int]) -> None:
    young = [f.fragment_id for f in dataset.get_fragments() if f.fragment_id not in joinable]
    dataset.optimize.compact_files(excluded_fragment_ids=young, num_threads=1)


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
            if attempt + 1 == _ATTEMPTS or not ("onflict" in told or "must be unique" in told):
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
