"""What keeps the archive small and quick beside a running stream, and what there is of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import lance

from broker.archive import commits

INDICES = ("object_id", "alert_id", "hpx29")
# Versions are kept so long: a driver that slept longer cannot commit any more (see commits).
KEPT = timedelta(minutes=10)
_ATTEMPTS = 5


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
        _again(lambda column=column: _index(opened(), column))
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


def _index(dataset: lance.LanceDataset, column: str) -> None:
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


def stats(dataset: lance.LanceDataset, address: str, schemas_address: str) -> dict[str, Any]:
    return {"alerts": dataset.count_rows()}
