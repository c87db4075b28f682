"""The archive: every alert with its stamps' original bytes, one Lance dataset per survey.

Workers `write` fragments, which nobody sees; the driver makes one `commit` of them, tagged with their batch.
A crash between the two leaves files that nothing refers to, and `compact` removes them when they are old.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lance.fragment import FragmentMetadata, write_fragments

from broker.archive import commits, layout, queries, upkeep
from broker.archive.commits import Preempted
from broker.archive.errors import ArchiveError
from broker.packets.survey import survey

__all__ = ["Archive", "ArchiveError"]

_ATTEMPTS = 100
# How many of the newest commits are looked through for a batch before the rows are.
_RECENT = 64
_SCHEMAS = pa.schema(
    [pa.field("name", pa.string(), nullable=False), pa.field("json", pa.string(), nullable=False)]
)


@dataclass(frozen=True)
class Archive:
    """One survey's archive at `uri`, a folder or s3://… (with Lance's `storage_options`).

    Has no open files: it may be pickled, and used by several threads and processes.
    """

    uri: str
    survey: str
    storage_options: Mapping[str, str] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Where the survey's dataset is."""
        return f"{self.uri.rstrip('/')}/{self.survey}.lance"

    @property
    def schemas_address(self) -> str:
        """Where the writer schemas of its packets are."""
        return f"{self.uri.rstrip('/')}/{self.survey}-schemas.lance"

    def keep_schemas(self, schemas: Mapping[str, str]) -> None:
        """Keep writer schemas (packet_schema -> JSON) that are not kept yet."""
        known = set(self._schemas(schemas)) if schemas else set()
        new = [{"name": name, "json": text} for name, text in schemas.items() if name not in known]
        if not new:
            return
        rows = pa.Table.from_pylist(new, _SCHEMAS)
        options = self._options()
        if not self._exists(self.schemas_address):
            self._create(rows.slice(0, 0), self.schemas_address)
        lance.write_dataset(rows, self.schemas_address, mode="append", storage_options=options)

    def writer_schemas(self, names: Iterable[str]) -> dict[str, str]:
        """The writer schemas' JSON by packet_schema. Raises ArchiveError where one was never kept."""
        names = set(names)
        found = self._schemas(names)
        if missing := names - set(found):
            raise ArchiveError(f"{self.schemas_address} lacks the writer schema {', '.join(sorted(missing))}")
        return found

    def _schemas(self, names: Iterable[str]) -> dict[str, str]:
        if not self._exists(self.schemas_address):
            return {}
        dataset = lance.dataset(self.schemas_address, storage_options=self._options())
        table = dataset.to_table(filter=queries.one_of("name", sorted(names)))
        return dict(zip(table["name"].to_pylist(), table["json"].to_pylist(), strict=True))

    def prepare(self, schema: pa.Schema) -> None:
        """Make the dataset, or the columns it lacks, so that tables of `schema` can be written."""
        if not self._exists(self.address):
            laid_out = layout.dataset_schema(schema, survey(self.survey).packs_stamps)
            self._create(laid_out.empty_table(), self.address)
        for attempt in range(_ATTEMPTS):
            dataset = self._open()
            try:
                if new := layout.lacking(dataset.schema, schema):
                    dataset.add_columns(new)
                elif wider := layout.widenings(dataset.schema, schema):
                    changes: Any = [{"path": path, "data_type": kind} for path, kind in wider]
                    dataset.alter_columns(*changes)
                else:
                    return
            except OSError as error:
                if "conflict" not in str(error).lower():
                    raise
                _wait(attempt)
        raise ArchiveError(f"{self.address} is changed by others all the time: its columns cannot follow")

    def write(self, table: pa.Table) -> list[str]:
        """Write rows as fragments, which commit makes visible; their metadata, as JSON.

        Raises ArchiveError where prepare has made no place for a column.
        """
        if not len(table):
            return []
        dataset = self._open()
        try:
            rows = layout.conform(table, dataset.schema)
        except (ValueError, pa.ArrowInvalid) as error:
            raise ArchiveError(f"{self.address}: {error}") from error
        fragments = write_fragments(
            rows, dataset, data_storage_version=layout.FORMAT, storage_options=self._options()
        )
        return [json.dumps(fragment.to_json()) for fragment in fragments]

    def commit(self, fragments: Sequence[str], batch: str, fence: Callable[[], None]) -> bool:
        """Make a batch's fragments visible, in one commit, unless the batch is there already; True if done.

        `fence` raises when this driver may no longer commit. It is asked after the archive's version was
        read, and the commit fails (and all begins again) where anybody committed after that version: so a
        driver that slept between the two cannot repeat what its successor did.
        """
        commits.split(batch)
        parsed = [FragmentMetadata.from_json(text) for text in fragments]
        for attempt in range(_ATTEMPTS):
            dataset = self._open()
            fence()
            if self._holds(dataset, batch):
                return False
            if not parsed:
                return True
            try:
                commits.append(self.address, dataset, parsed, batch, self._options())
                return True
            except Preempted:
                _wait(attempt)
        raise ArchiveError(
            f"{self.address}: {_ATTEMPTS} commits of batch {batch} came too late; others commit all the time"
        )

    def find(self, batch: str) -> bool:
        """Whether the batch was committed."""
        commits.split(batch)
        if not self._exists(self.address):
            return False
        return self._holds(self._open(), batch)

    def _holds(self, dataset: lance.LanceDataset, batch: str) -> bool:
        if not commits.record(dataset).may_hold(batch):
            return False
        if batch in commits.recent(dataset, _RECENT):
            return True
        return dataset.count_rows(queries.one_of("batch", [batch])) > 0

    def read_batch(self, batch: str) -> pa.Table:
        """A batch's rows, in the order in which they were written. Raises ArchiveError if it is not there."""
        dataset = self._open()
        fragments = _fragments_of(dataset, batch)
        if not fragments:
            raise ArchiveError(f"{self.address} has no batch {batch}")
        scanner = dataset.scanner(
            filter=queries.one_of("batch", [batch]), fragments=fragments, scan_in_order=True
        )
        return scanner.to_table()

    def get(
        self,
        *,
        alert_ids: Iterable[int] | None = None,
        object_id: str | None = None,
        cone: tuple[float, float, float] | None = None,
        where: str | None = None,
        rights: Iterable[str] | None = None,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> pa.Table:
        """Alerts that meet all that is given, in no particular order.

        cone: ra and dec (degrees) and radius (arcsec). where: SQL over the columns, such as
        "mjd > 58450 and source.magpsf < 18". rights: only alerts of one of these. columns: of these alone.
        Raises ArchiveError where there is no archive or `where` cannot be understood.
        """
        permitted = None if rights is None else sorted(set(rights))
        predicate = queries.both(
            None if permitted is None else queries.one_of("rights", permitted),
            None if alert_ids is None else queries.one_of("alert_id", alert_ids),
            None if object_id is None else queries.one_of("object_id", [object_id]),
            None if cone is None else queries.cone(*cone),
            where,
        )
        dataset = self._open()
        wanted = list(columns) if columns is not None else dataset.schema.names
        checked = {"ra", "dec"} if cone else set()
        checked |= {"rights"} if permitted is not None else set()
        read = [*wanted, *sorted(checked - set(wanted))]
        try:
            table = dataset.to_table(
                columns=read,
                filter=predicate,
                limit=None if cone else limit,
                late_materialization=True,  # rows that no index knows yet: 35 ms instead of 380 per 10,000
            )
        except (ValueError, OSError) as error:
            if where is None:
                raise
            raise ArchiveError(
                f"{where!r} cannot be asked of {self.address}: {_first_line(error)}"
            ) from error
        if permitted is not None:
            # Once more by hand: `where` comes from people, and "1=1) OR (1=1" is but one of its tricks
            table = table.filter(pc.is_in(table["rights"], pa.array(permitted, pa.string())))
        if cone:  # whose edge runs through the pixels
            away = queries.separation(table["ra"].to_numpy(), table["dec"].to_numpy(), cone[0], cone[1])
            table = table.take(np.flatnonzero(away <= cone[2])).slice(0, limit)
        return table.select(wanted)

    def stats(self) -> dict[str, Any]:
        """What there is and how much room it takes; see upkeep.stats."""
        return upkeep.stats(self._open())

    def compact(self) -> dict[str, Any]:
        """Join small fragments, bring the indices up to date, drop what is old; see upkeep.compact."""
        self._open()
        return upkeep.compact(self.address, self._options())

    def _options(self) -> dict[str, str] | None:
        return dict(self.storage_options) if self.storage_options else None

    def _open(self) -> lance.LanceDataset:
        try:
            return lance.dataset(self.address, storage_options=self._options())
        except (ValueError, FileNotFoundError) as error:
            if "not found" not in str(error).lower():
                raise
            raise ArchiveError(f"there is no archive at {self.address}") from error

    def _exists(self, address: str) -> bool:
        try:
            lance.dataset(address, storage_options=self._options())
        except (ValueError, FileNotFoundError) as error:
            if "not found" not in str(error).lower():
                raise
            return False
        return True

    def _create(self, rows: pa.Table, address: str) -> None:
        try:
            lance.write_dataset(
                rows,
                address,
                mode="create",
                data_storage_version=layout.FORMAT,
                storage_options=self._options(),
                enable_v2_manifest_paths=True,
            )
        except OSError as error:
            if "already exists" not in str(error).lower():  # somebody else made it meanwhile
                raise


def _fragments_of(dataset: lance.LanceDataset, batch: str) -> list[lance.LanceFragment]:
    """The fragments with a batch's rows, in their order; the newest are asked first."""
    predicate = queries.one_of("batch", [batch])
    found: list[lance.LanceFragment] = []
    for fragment in reversed(dataset.get_fragments()):
        if fragment.count_rows(predicate):
            found.append(fragment)
        elif found:
            break
    return found[::-1]


def _wait(attempt: int) -> None:
    time.sleep(random.uniform(0, min(0.5, 0.005 * 2 ** min(attempt, 8))))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].partition(", /")[0]
