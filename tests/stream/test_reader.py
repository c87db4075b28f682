"""A range is read to its last offset, whatever stands there; what is gone is told."""

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from broker.stream.plan import Range
from broker.stream.reader import EXPIRED, read
from broker.stream.source import KafkaSource, SourceError


def fill(kafka: str, topic: str, values: list[bytes], partition: int = 0, **conf: object) -> None:
    producer = Producer({"bootstrap.servers": kafka, **conf})
    for value in values:
        producer.produce(topic, value, partition=partition)
    assert producer.flush(20) == 0


@pytest.fixture
def admin(kafka: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka})


@pytest.fixture
def made(admin: AdminClient, topic: str) -> str:
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result()
    return topic


def test_it_reads_exactly_the_range(kafka, made):
    fill(kafka, made, [b"%d" % i for i in range(50)])
    found = read({"bootstrap.servers": kafka}, [Range(made, "x", 0, 10, 20)])
    assert found.values == [b"%d" % i for i in range(10, 20)]
    assert found.places == [(made, "x", 0, i) for i in range(10, 20)]
    assert all(t > 1_500_000_000_000 for t in found.timestamps)
    assert not found.gaps


def test_it_reads_several_partitions_at_once_and_again(kafka, made):
    fill(kafka, made, [b"a%d" % i for i in range(30)], partition=0)
    fill(kafka, made, [b"b%d" % i for i in range(5)], partition=1)
    for _ in range(2):
        found = read({"bootstrap.servers": kafka}, [Range(made, "x", 0, 0, 30), Range(made, "x", 1, 2, 5)])
        assert sorted(found.values) == sorted([b"a%d" % i for i in range(30)] + [b"b2", b"b3", b"b4"])


def test_it_ends_at_control_records_and_hides_what_was_aborted(kafka, made):
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": made})
    producer.init_transactions(20)
    for keep in (True, False, True):
        producer.begin_transaction()
        for i in range(3):
            producer.produce(made, b"%d %d" % (keep, i), partition=0)
        producer.flush(20)
        producer.commit_transaction(20) if keep else producer.abort_transaction(20)
    [end] = [
        p.high for p in KafkaSource({"bootstrap.servers": kafka}, [made]).partitions() if p.partition == 0
    ]
    assert end == 12, "nine records and three control records"
    found = read({"bootstrap.servers": kafka}, [Range(made, "x", 0, 0, end)])
    assert found.values == [b"1 0", b"1 1", b"1 2"] * 2
    assert not found.gaps


def test_expired_offsets_are_a_gap_and_the_rest_is_read(kafka, made, admin):
    fill(kafka, made, [b"%d" % i for i in range(20)])
    [deleted] = admin.delete_records([TopicPartition(made, 0, 8)]).values()
    assert deleted.result().low_watermark == 8
    found = read({"bootstrap.servers": kafka}, [Range(made, "x", 0, 3, 12)])
    assert found.values == [b"%d" % i for i in range(8, 12)]
    assert [(g.first, g.end, g.reason) for g in found.gaps] == [(3, 8, EXPIRED)]


def test_a_range_that_expired_whole_is_one_gap(kafka, made, admin):
    fill(kafka, made, [b"%d" % i for i in range(20)])
    [deleted] = admin.delete_records([TopicPartition(made, 0, 15)]).values()
    deleted.result()
    found = read({"bootstrap.servers": kafka}, [Range(made, "x", 0, 3, 12)])
    assert found.values == []
    assert [(g.first, g.end) for g in found.gaps] == [(3, 12)]


def test_a_source_that_does_not_answer_is_an_error_and_no_gap():
    with pytest.raises(SourceError, match=r"nothing arrived for 1 s from nowhere\[0\] at 0..5"):
        read({"bootstrap.servers": "127.0.0.1:9"}, [Range("nowhere", "x", 0, 0, 5)], timeout_s=1)
