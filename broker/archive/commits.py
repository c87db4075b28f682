"""Commits that happen once: strict ones, and a record of which batches there were.

*Strict.* Lance lets two appends that began at the same version both succeed, one after the other. An append
whose fragments already carry their ids does not: somebody else's append since version V has taken the id
that V's next fragment would get. Compaction could free that id again, so it only touches fragments of the
oldest version kept (see upkeep), and a version that was cleaned away cannot be appended to at all.

*Record.* Each append's transaction says its batch, `STREAM/NUMBER`, and the highest number that each stream
ever committed. Where versions are cleaned away, upkeep puts the highest numbers into the dataset's
configuration first. So whether a batch is new is known from the newest transactions, not from the rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import lance
from lance.commit import CommitConflictError
from lance.dataset import LanceOperation, Transaction

from broker.archive.errors import ArchiveError

BATCH = "rayfinch.batch"
HIGHEST = "rayfinch.highest"
_TWICE = "Fragment ids must be unique"
_GONE = ("was not found", "Not found")


class Preempted(Exception):
    """Somebody committed since the version that was read."""


def split(batch: str) -> tuple[str, int]:
    """The stream and number of a batch `STREAM/NUMBER`. Raises ArchiveError if it is none."""
    stream, _, number = batch.rpartition("/")
    if not stream or not number.isdigit():
        raise ArchiveError(f"{batch!r} is no batch of the archive: it should be STREAM/NUMBER")
    return stream, int(number)


def highest(dataset: lance.LanceDataset) -> dict[str, int] | None:
    """The highest number that each stream committed; None if that cannot be told."""
    for version in range(dataset.version, 0, -1):
        properties = _properties(dataset, version)
        if properties is None:  # cleaned away, as are all before it
            kept = dataset.config().get(HIGHEST)
            return None if kept is None else json.loads(kept)
        if HIGHEST in properties:
            return json.loads(properties[HIGHEST])
    return {}


def recent(dataset: lance.LanceDataset, count: int) -> Iterator[str]:
    """The batches of the newest `count` transactions, newest first."""
    for version in range(dataset.version, max(0, dataset.version - count), -1):
        properties = _properties(dataset, version)
        if properties is None:
            return
        if BATCH in properties:
            yield properties[BATCH]


def with_batch(numbers: Mapping[str, int], batch: str) -> dict[str, str]:
    """The properties of the transaction that appends `batch` after `numbers`, the highest so far."""
    stream, number = split(batch)
    after = {**numbers, stream: max(number, numbers.get(stream, -1))}
    return {BATCH: batch, HIGHEST: json.dumps(after, sort_keys=True)}


def _properties(dataset: lance.LanceDataset, version: int) -> dict[str, str] | None:
    """What a version's transaction says of itself; None if the version was cleaned away."""
    try:
        transaction = dataset.read_transaction(version)
    except OSError as error:
        if any(part in str(error) for part in _GONE):
            return None
        raise
    return dict(transaction.transaction_properties or {}) if transaction else {}


def append(
    uri: str,
    dataset: lance.LanceDataset,
    fragments: Sequence[lance.FragmentMetadata],
    properties: dict[str, str],
    storage_options: dict[str, str] | None,
) -> None:
    """Append fragments to this version of the dataset. Raises Preempted where rows came after it."""
    _check_fields(dataset, fragments)
    first = max((f.fragment_id for f in dataset.get_fragments()), default=0) + 1
    for i, fragment in enumerate(fragments):
        fragment.id = first + i
    transaction = Transaction(
        dataset.version, LanceOperation.Append(list(fragments)), transaction_properties=properties
    )
    try:
        # By its address: a dataset in hand would not notice that its version was cleaned away meanwhile
        lance.LanceDataset.commit(uri, transaction, storage_options=storage_options, max_retries=0)
    except CommitConflictError as error:
        raise Preempted(str(error)) from error
    except OSError as error:
        if _TWICE in str(error) or any(part in str(error) for part in _GONE):
            raise Preempted(str(error)) from error
        raise


def _check_fields(dataset: lance.LanceDataset, fragments: Sequence[lance.FragmentMetadata]) -> None:
    known = set(_ids(dataset.lance_schema.fields()))
    written = {id for fragment in fragments for file in fragment.files for id in file.fields}
    if not written <= known:
        raise ArchiveError(
            "the archive's columns changed after these fragments were written: write them again"
        )


def _ids(fields: Any) -> Any:
    for field in fields:
        yield field.id()
        yield from _ids(field.children())
