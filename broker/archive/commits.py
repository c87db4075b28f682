"""Commits that happen once: strict ones, and a record of which batches there were.

*Strict.* Lance lets two appends that began at the same version V both succeed, one after the other. An append
whose fragments already carry their ids does not, if the ids are taken. So an append takes the first free ids
after those of the append before it: whoever else appends after V takes the same. Compaction's fragments take
ids too, and joining fragments frees theirs; so it only joins fragments of the oldest version kept, and none
with an id above the last append's (see upkeep). An append to a version that was cleaned away fails anyhow.

*Record.* Each append's transaction says its batch, `STREAM/NUMBER`, and the highest number that each stream
ever committed. Where versions are cleaned away, upkeep puts the record into the dataset's configuration
first. So whether a batch is new is known from the newest transactions, not from the rows.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import lance
from lance.commit import CommitConflictError
from lance.dataset import LanceOperation, Transaction

from broker.archive.errors import ArchiveError

BATCH = "rayfinch.batch"
RECORD = "rayfinch.record"
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


@dataclass(frozen=True)
class Record:
    """What was committed so far.

    highest: each stream's highest batch number. last: the id of the last fragment that was appended.
    """

    highest: Mapping[str, int] = field(default_factory=dict)
    last: int = 0

    def may_hold(self, batch: str) -> bool:
        """False if the batch is certainly not there."""
        stream, number = split(batch)
        return number <= self.highest.get(stream, -1)

    def after(self, batch: str, last: int) -> Record:
        """The record once `batch` is committed, with fragments up to the id `last`."""
        stream, number = split(batch)
        return Record({**self.highest, stream: max(number, self.highest.get(stream, -1))}, last)

    def dumps(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


def record(dataset: lance.LanceDataset) -> Record:
    """The record up to this version of the dataset: its newest append's."""
    for version in range(dataset.version, 0, -1):
        properties = _properties(dataset, version)
        if properties is None:  # cleaned away, as are all before it
            kept = dataset.config().get(RECORD)
            return _from_rows(dataset) if kept is None else Record(**json.loads(kept))
        if RECORD in properties:
            return Record(**json.loads(properties[RECORD]))
    return Record()


def _from_rows(dataset: lance.LanceDataset) -> Record:
    """The same from the rows, which takes long: versions were cleaned away by other means than upkeep."""
    made = Record(last=max((f.fragment_id for f in dataset.get_fragments()), default=0))
    for rows in dataset.to_batches(columns=["batch"]):
        for batch in rows["batch"].unique().to_pylist():
            made = made.after(batch, made.last)
    return made


def recent(dataset: lance.LanceDataset, count: int) -> Iterator[str]:
    """The batches of the newest `count` transactions, newest first."""
    for version in range(dataset.version, max(0, dataset.version - count), -1):
        properties = _properties(dataset, version)
        if properties is None:
            return
        if BATCH in properties:
            yield properties[BATCH]


def _properties(dataset: lance.LanceDataset, version: int) -> dict[str, str] | None:
    """What a version's transaction says of itself; None if the version was cleaned away."""
    try:
        transaction = dataset.read_transaction(version)
    except OSError as error:
        if any(part in str(error) for part in _GONE):
            return None
        raise
    except TypeError:
        # pylance 14 cannot say what a compaction did to indices; it is none of our appends, at any rate
        return {}
    return dict(transaction.transaction_properties or {}) if transaction else {}


def append(
    uri: str,
    dataset: lance.LanceDataset,
    fragments: Sequence[lance.FragmentMetadata],
    batch: str,
    storage_options: dict[str, str] | None,
) -> None:
    """Append a batch to this version of the dataset. Raises Preempted where rows came after it."""
    _check_fields(dataset, fragments)
    before = record(dataset)
    taken = {f.fragment_id for f in dataset.get_fragments()}
    free = (id for id in itertools.count(before.last + 1) if id not in taken)
    for fragment in fragments:
        fragment.id = next(free)
    properties = {BATCH: batch, RECORD: before.after(batch, fragments[-1].id).dumps()}
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
    for each in fields:
        yield each.id()
        yield from _ids(each.children())
