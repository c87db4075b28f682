"""What other versions said later of archived alerts: a dataset of its own beside the archive.

Beside it, and not a column in it: the stream's commits fail where anybody committed after the version they
read, and a column that grows for hours would stand in their way. Rows are only ever added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import lance
import pyarrow as pa

from broker.archive import queries
from broker.packets.schema import SCORE

COLUMNS = pa.schema([pa.field("alert_id", pa.int64(), nullable=False), *SCORE])


@dataclass(frozen=True)
class Rescored:
    """The scores that were made of a survey's archive at `uri`. Has no open files, like the archive."""

    uri: str
    survey: str
    storage_options: Mapping[str, str] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        return f"{self.uri.rstrip('/')}/{self.survey}-rescored.lance"

    def add(self, scores: pa.Table) -> None:
        """Add rows of COLUMNS, in one commit: after a crash all of them are there, or none."""
        rows = scores.cast(COLUMNS)
        lance.write_dataset(rows, self.address, mode="append", storage_options=self._options())

    def ids(self, model: str, version: str) -> set[int]:
        """The alerts that a version has scored."""
        where = f"model = {queries.text(model)} AND version = {queries.text(version)}"
        return set(self._table(where, ["alert_id"])["alert_id"].to_pylist())

    def get(self, alert_ids: Iterable[int]) -> pa.Table:
        """Every score of these alerts, in the order in which they were made."""
        return self._table(queries.one_of("alert_id", alert_ids), COLUMNS.names)

    def _table(self, where: str, columns: list[str]) -> pa.Table:
        try:
            dataset = lance.dataset(self.address, storage_options=self._options())
        except (ValueError, FileNotFoundError) as error:
            if "not found" not in str(error).lower():
                raise
            return COLUMNS.empty_table().select(columns)  # nothing was ever scored again
        return dataset.to_table(filter=where, columns=columns)

    def _options(self) -> dict[str, str] | None:
        return dict(self.storage_options) if self.storage_options else None
