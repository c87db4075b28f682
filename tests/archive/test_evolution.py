"""A survey's next schema only needs to come; what it says is kept beside what the older ones said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from broker.archive.archive import Archive, ArchiveError
from broker.packets.decode import Decoded
from tests.archive.conftest import tagged

Keep = Callable[[pa.Table, str], None]


def with_source(alerts: pa.Table, fields: dict[str, pa.DataType], rows: list[dict[str, Any]]) -> pa.Table:
    kind = pa.struct(list(fields.items()))
    source = pa.field("source", kind, nullable=False)
    at = alerts.column_names.index("source")
    return alerts.slice(0, len(rows)).set_column(at, source, pa.array(rows, kind))


def sources(archive: Archive, batch: str) -> list[dict[str, Any]]:
    return archive.read_batch(batch)["source"].to_pylist()


def test_fields_are_added_and_read_as_null_where_they_were_not(
    ztf: Decoded, archive: Archive, keep: Keep
) -> None:
    keep(with_source(ztf.alerts, {"a": pa.int32()}, [{"a": 1}, {"a": None}]), "s/1")
    both = {"a": pa.int32(), "b": pa.string(), "c": pa.struct([("d", pa.float64())])}
    keep(with_source(ztf.alerts, both, [{"a": 3, "b": "x", "c": {"d": 0.5}}]), "s/2")
    deeper = {"c": pa.struct([("d", pa.float64()), ("e", pa.int32())])}
    keep(with_source(ztf.alerts, deeper, [{"c": {"d": 1.5, "e": 7}}]), "s/3")
    keep(with_source(ztf.alerts, {"b": pa.string()}, [{"b": "old again"}]), "s/4")
    archive.compact()
    none = {"d": None, "e": None}
    assert [{k: v for k, v in s.items() if v not in (None, none)} for s in sources(archive, "s/1")] == [
        {"a": 1},
        {},
    ]
    assert sources(archive, "s/2") == [{"a": 3, "b": "x", "c": {"d": 0.5, "e": None}}]
    assert sources(archive, "s/3") == [{"a": None, "b": None, "c": {"d": 1.5, "e": 7}}]
    assert sources(archive, "s/4")[0]["b"] == "old again"


def test_numbers_grow_within_their_kind(ztf: Decoded, archive: Archive, keep: Keep) -> None:
    keep(with_source(ztf.alerts, {"n": pa.int32(), "f": pa.float32()}, [{"n": 1, "f": 0.5}]), "s/1")
    wide = {"n": pa.int64(), "f": pa.float64()}
    keep(with_source(ztf.alerts, wide, [{"n": 2**53 + 1, "f": 0.1}]), "s/2")
    keep(with_source(ztf.alerts, {"n": pa.int32(), "f": pa.float32()}, [{"n": 2, "f": 0.25}]), "s/3")
    assert sources(archive, "s/1") == [{"n": 1, "f": 0.5}]
    assert sources(archive, "s/2") == [{"n": 2**53 + 1, "f": 0.1}]
    assert sources(archive, "s/3") == [{"n": 2, "f": 0.25}]


def test_a_field_of_another_kind_goes_on_under_a_second_name(
    ztf: Decoded, archive: Archive, keep: Keep
) -> None:
    keep(with_source(ztf.alerts, {"n": pa.int64()}, [{"n": 2**53 + 1}]), "s/1")
    keep(with_source(ztf.alerts, {"n": pa.float64()}, [{"n": 1.5}]), "s/2")
    keep(with_source(ztf.alerts, {"n": pa.string()}, [{"n": "many"}]), "s/3")
    keep(with_source(ztf.alerts, {"n": pa.float64()}, [{"n": 2.5}]), "s/4")
    assert sources(archive, "s/1")[0]["n"] == 2**53 + 1
    assert sources(archive, "s/2")[0]["n@double"] == 1.5
    assert sources(archive, "s/3")[0]["n@string"] == "many"
    assert sources(archive, "s/4")[0]["n@double"] == 2.5


def test_a_table_that_was_not_prepared_for_is_refused(ztf: Decoded, archive: Archive, keep: Keep) -> None:
    keep(with_source(ztf.alerts, {"a": pa.int32()}, [{"a": 1}]), "s/1")
    with pytest.raises(ArchiveError, match=r"no column source\.b: prepare it"):
        archive.write(tagged(with_source(ztf.alerts, {"b": pa.int32()}, [{"b": 1}]), "s/2"))


def test_fragments_of_columns_that_changed_since_are_refused(
    ztf: Decoded, archive: Archive, keep: Keep
) -> None:
    narrow = with_source(ztf.alerts, {"n": pa.int32()}, [{"n": 1}])
    keep(narrow, "s/1")
    written = archive.write(tagged(narrow, "s/2"))
    keep(with_source(ztf.alerts, {"n": pa.int64()}, [{"n": 2**40}]), "t/1")
    with pytest.raises(ArchiveError, match="write them again"):
        archive.commit(written, "s/2", lambda: None)
