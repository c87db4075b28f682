"""A batch is there once: whoever tries twice, sleeps, dies or compacts meanwhile."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import lance
import pyarrow as pa
import pytest
from lance.optimize import Compaction

from broker.archive import commits, upkeep
from broker.archive.archive import Archive
from broker.packets.decode import Decoded
from tests.archive.conftest import tagged

Keep = Callable[[pa.Table, str], None]


def nothing() -> None:
    pass


def alerts_of(archive: Archive) -> int:
    return len(archive.get(where="true", columns=["alert_id"]))


def test_a_batch_that_is_there_is_not_committed_again(ztf: Decoded, archive: Archive, keep: Keep) -> None:
    keep(ztf.alerts, "s/1")
    again = archive.write(tagged(ztf.alerts, "s/1"))
    assert not archive.commit(again, "s/1", nothing)
    assert alerts_of(archive) == len(ztf.alerts)


def test_nothing_is_seen_before_the_commit(ztf: Decoded, archive: Archive, keep: Keep) -> None:
    keep(ztf.alerts.slice(0, 10), "s/1")
    archive.write(tagged(ztf.alerts, "s/2"))
    assert not archive.find("s/2")
    assert alerts_of(archive) == 10


class LeaseLost(Exception):
    pass


def test_a_lost_lease_stops_the_commit(ztf: Decoded, archive: Archive, keep: Keep) -> None:
    def fence() -> None:
        raise LeaseLost

    keep(ztf.alerts, "s/1")
    with pytest.raises(LeaseLost):
        archive.commit(archive.write(tagged(ztf.alerts, "s/2")), "s/2", fence)
    assert not archive.find("s/2")


@pytest.mark.parametrize("first", [True, False], ids=["the archive's first batch", "a later one"])
@pytest.mark.parametrize("meanwhile", ["nothing more", "more batches", "compaction", "all is cleaned"])
def test_a_driver_that_slept_after_its_check_cannot_repeat_its_successors_batch(
    first: bool, meanwhile: str, ztf: Decoded, archive: Archive, keep: Keep
) -> None:
    rows = tagged(ztf.alerts, "s/5")
    archive.prepare(rows.schema)
    if not first:
        keep(ztf.alerts.slice(0, 5), "s/3")
        keep(ztf.alerts.slice(5, 5), "s/4")
    mine, theirs = archive.write(rows), archive.write(rows)
    asked = []

    def fence() -> None:
        asked.append(1)
        if len(asked) > 1:
            return
        # between this driver's check and its commit, its successor takes over
        assert archive.commit(theirs, "s/5", nothing)
        if meanwhile != "nothing more":
            for number in range(6, 9):
                keep(ztf.alerts.slice(0, 3), f"s/{number}")
        if meanwhile == "compaction":
            archive.compact()
            keep(ztf.alerts.slice(0, 3), "s/9")
        if meanwhile == "all is cleaned":
            time.sleep(0.01)
            upkeep.compact(archive.address, None, timedelta(milliseconds=1))

    assert not archive.commit(mine, "s/5", fence)
    assert len(asked) == 2
    assert len(archive.get(where="batch = 's/5'", columns=["alert_id"])) == len(rows)


def test_nor_where_a_compaction_failed_and_left_a_gap_of_ids(
    ztf: Decoded, archive: Archive, keep: Keep
) -> None:
    for number in range(1, 7):
        keep(ztf.alerts.slice(0, 3), f"s/{number}")

    def joined(first: int, last: int) -> tuple[lance.LanceDataset, list[Any]]:
        dataset = archive._open()
        others = [n for n in range(1, 7) if not first <= n <= last]
        options = {"target_rows_per_fragment": 1000, "excluded_fragment_ids": others}
        return dataset, [task.execute(dataset) for task in Compaction.plan(dataset, options).tasks]

    (one, done), (two, again) = joined(1, 2), joined(1, 2)
    Compaction.commit(one, done)
    with pytest.raises(OSError, match="conflict"):
        Compaction.commit(two, again)  # the id it had reserved stays unused
    mine, theirs = (archive.write(tagged(ztf.alerts, "s/7")) for _ in range(2))
    asked = []

    def fence() -> None:
        asked.append(1)
        if len(asked) == 1:
            Compaction.commit(*joined(3, 4))
            assert archive.commit(theirs, "s/7", nothing)

    assert not archive.commit(mine, "s/7", fence)
    assert len(archive.get(where="batch = 's/7'", columns=["alert_id"])) == len(ztf.alerts)


def test_the_record_is_made_of_the_rows_where_others_cleaned_it_away(
    ztf: Decoded, archive: Archive, keep: Keep
) -> None:
    keep(ztf.alerts.slice(0, 3), "s/7")
    keep(ztf.alerts.slice(3, 3), "t/2")
    archive._open().update_config({"somebody": "else"})
    time.sleep(0.01)
    archive._open().cleanup_old_versions(older_than=timedelta(milliseconds=1))
    assert [archive.find(b) for b in ("s/7", "t/2", "t/3")] == [True, True, False]
    keep(ztf.alerts.slice(3, 3), "t/3")
    assert [archive.find(b) for b in ("s/7", "t/2", "t/3")] == [True, True, True]


def _commit_all(uri: str, number: int, rows: pa.Table, start: float) -> None:
    archive = Archive(uri, "ztf")
    batches = [f"s/{n}" for n in range(1, 7)]
    written = {b: archive.write(tagged(rows, b)) for b in batches}
    own = f"other{number}/1"
    time.sleep(max(0.0, start - time.time()))
    for batch in batches:
        archive.commit(written[batch], batch, nothing)
    archive.commit(archive.write(tagged(rows, own)), own, nothing)


def test_processes_that_commit_the_same_batches_at_once_leave_each_once(
    ztf: Decoded, archive: Archive
) -> None:
    rows = ztf.alerts.slice(0, 4)
    archive.prepare(tagged(rows, "s/1").schema)
    context = multiprocessing.get_context("spawn")
    start = time.time() + 4
    writers = [context.Process(target=_commit_all, args=(archive.uri, n, rows, start)) for n in range(3)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        archive.compact()
        time.sleep(0.05)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    batches = archive.get(where="true", columns=["batch"])["batch"].to_pylist()
    expected = [f"s/{n}" for n in range(1, 7)] + [f"other{n}/1" for n in range(3)]
    assert sorted(batches) == sorted(b for b in expected for _ in range(4))


def _commit_for_ever(uri: str, rows: pa.Table) -> None:
    archive = Archive(uri, "ztf")
    for number in range(1, 10_000):
        batch = f"s/{number}"
        archive.commit(archive.write(tagged(rows, batch)), batch, nothing)


def test_a_killed_driver_leaves_whole_batches_only(ztf: Decoded, archive: Archive) -> None:
    rows = ztf.alerts.slice(0, 4)
    archive.prepare(tagged(rows, "s/1").schema)
    context = multiprocessing.get_context("spawn")
    writer = context.Process(target=_commit_for_ever, args=(archive.uri, rows))
    writer.start()
    while not archive.find("s/3"):
        time.sleep(0.02)
    os.kill(writer.pid or 0, signal.SIGKILL)
    writer.join()
    batches = archive.get(where="true", columns=["batch"])["batch"].to_pylist()
    assert all(batches.count(batch) == 4 for batch in set(batches))
    last = max(int(batch.partition("/")[2]) for batch in batches)
    assert archive.find(f"s/{last}")
    assert not archive.find(f"s/{last + 1}")
    archive.compact()
    assert archive.commit(archive.write(tagged(rows, f"s/{last + 1}")), f"s/{last + 1}", nothing)
    assert alerts_of(archive) == len(batches) + 4


def test_batches_are_known_after_all_versions_are_cleaned_away(
    ztf: Decoded, archive: Archive, keep: Keep
) -> None:
    for number in (1, 2, 4):
        keep(ztf.alerts.slice(number, 3), f"s/{number}")
    keep(ztf.alerts.slice(0, 2), "t/9")
    time.sleep(0.01)
    done = upkeep.compact(archive.address, None, timedelta(milliseconds=1))
    assert done["fragments"] == 1
    assert commits.record(archive._open()) == commits.Record({"s": 4, "t": 9}, last=4)
    upkeep.compact(archive.address, None, timedelta(milliseconds=1))
    assert [archive.find(f"s/{n}") for n in range(1, 6)] == [True, True, False, True, False]
    assert len(archive.read_batch("s/2")) == 3
    keep(ztf.alerts.slice(0, 2), "s/3")  # out of order, and yet known
    assert archive.find("s/3")
    assert not archive.find("u/1")


def test_compaction_that_rewrites_indices_hides_no_batch(ztf: Decoded, archive: Archive, keep: Keep) -> None:
    keep(ztf.alerts.slice(0, 3), "s/1")
    archive.compact()
    keep(ztf.alerts.slice(3, 3), "s/2")
    time.sleep(0.01)
    upkeep.compact(archive.address, None, timedelta(milliseconds=1))
    keep(ztf.alerts.slice(6, 3), "s/3")
    time.sleep(0.01)
    assert upkeep.compact(archive.address, None, timedelta(milliseconds=1))["fragments"] == 1
    assert [archive.find(f"s/{n}") for n in range(1, 5)] == [True, True, True, False]
    assert len(archive.get(alert_ids=ztf.alerts["alert_id"].to_pylist()[:9])) == 9


@pytest.mark.parametrize(
    ("sizes", "joined"),
    [
        ([], []),
        ([1000, 10, 10], [1, 2]),
        ([1000, 300, 300], [0, 1, 2]),
        ([40_000, 10, 10, None], [1, 2]),
        ([10, 10, None, None], [0, 1]),
    ],
)
def test_new_fragments_are_joined_and_large_ones_left(sizes: list[int | None], joined: list[int]) -> None:
    assert list(upkeep.worth_joining(sizes)) == joined
