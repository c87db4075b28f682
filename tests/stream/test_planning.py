"""Which offsets make a batch."""

from hypothesis import given
from hypothesis import strategies as st

from broker.stream.plan import Range
from broker.stream.planning import Partition, choose, chunks, due

ranges_of_partitions = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 3000)), max_size=12).map(
    lambda pairs: [Range("t", "id", p, first, first + n) for p, (first, n) in enumerate(pairs)]
)


def test_due_is_what_lies_behind_the_last_plan():
    partitions = [Partition("a", "1", 0, high=10), Partition("a", "1", 1, high=4)]
    assert due(partitions, {("a", "1", 0): 7, ("a", "1", 1): 4}) == [Range("a", "1", 0, 7, 10)]


def test_a_recreated_topic_starts_at_zero_whatever_its_former_self_had():
    assert due([Partition("a", "new", 0, high=3)], {("a", "old", 0): 900}) == [Range("a", "new", 0, 0, 3)]


def test_a_new_night_and_a_new_partition_are_due_from_their_beginning():
    partitions = [Partition("night2", "2", 0, high=5), Partition("night1", "1", 1, high=2)]
    assert due(partitions, {("night1", "1", 0): 9}) == [
        Range("night1", "1", 1, 0, 2),
        Range("night2", "2", 0, 0, 5),
    ]


def test_a_source_that_shows_less_than_was_planned_has_nothing_due():
    """As a Kafka does for a moment after a crash."""
    assert due([Partition("a", "1", 0, high=5)], {("a", "1", 0): 7}) == []


def test_a_long_partition_leaves_room_for_the_short_ones():
    long, short = Range("t", "i", 0, 0, 10_000), Range("t", "i", 1, 5, 8)
    assert choose([long, short], 100) == (Range("t", "i", 0, 0, 97), short)


@given(ranges_of_partitions, st.integers(1, 5000))
def test_a_batch_is_full_or_takes_all_and_never_more(ranges, limit):
    chosen = choose(ranges, limit)
    waiting = sum(map(len, ranges))
    assert sum(map(len, chosen)) == min(waiting, limit)
    whole = {r.partition: r for r in ranges}
    for r in chosen:
        assert r.first == whole[r.partition].first
        assert r.first < r.end <= whole[r.partition].end


@given(ranges_of_partitions, st.integers(1, 700))
def test_chunks_hold_every_offset_once_and_in_order(ranges, size):
    pieces = chunks(ranges, size)
    assert all(0 < sum(map(len, piece)) <= size for piece in pieces)
    offsets = [(r.partition, o) for piece in pieces for r in piece for o in range(r.first, r.end)]
    assert offsets == [(r.partition, o) for r in ranges for o in range(r.first, r.end)]
