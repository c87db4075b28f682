"""Topics that come with the night, grow partitions, vanish and come again."""

import time

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from broker.stream.source import KafkaSource, SourceError


@pytest.fixture
def admin(kafka: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka})


def make(admin: AdminClient, name: str, partitions: int = 1) -> None:
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result()


def eventually(what, seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def test_a_pattern_finds_the_next_night_by_itself(kafka, admin, topic):
    source = KafkaSource({"bootstrap.servers": kafka}, [rf"^{topic}_\d{{8}}_programid1$"], refresh_s=0.1)
    make(admin, f"{topic}_20250101_programid1")
    make(admin, f"{topic}_20250101_programid2")
    eventually(lambda: set(source.topic_ids(fresh=True)) == {f"{topic}_20250101_programid1"})
    make(admin, f"{topic}_20250102_programid1", partitions=3)
    eventually(lambda: len(source.partitions()) == 4)


def test_an_added_partition_is_seen(kafka, admin, topic):
    make(admin, topic)
    source = KafkaSource({"bootstrap.servers": kafka}, [topic], refresh_s=0.1)
    eventually(lambda: len(source.partitions()) == 1)
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result()
    eventually(lambda: {p.partition for p in source.partitions()} == {0, 1, 2})


def test_a_recreated_topic_has_another_id(kafka, admin, topic):
    make(admin, topic)
    source = KafkaSource({"bootstrap.servers": kafka}, [topic], refresh_s=0.1)
    eventually(lambda: topic in source.topic_ids(fresh=True))
    before = source.topic_ids()[topic]
    admin.delete_topics([topic])[topic].result()
    eventually(lambda: not source.topic_ids(fresh=True))
    assert source.partitions() == []
    make(admin, topic)
    eventually(lambda: topic in source.topic_ids(fresh=True))
    assert source.topic_ids()[topic] != before


def test_the_end_offset_moves_with_what_is_produced(kafka, admin, topic):
    make(admin, topic)
    source = KafkaSource({"bootstrap.servers": kafka}, [topic])
    eventually(lambda: [p.high for p in source.partitions()] == [0])
    producer = Producer({"bootstrap.servers": kafka})
    for _ in range(7):
        producer.produce(topic, b"x")
    producer.flush(20)
    assert [p.high for p in source.partitions()] == [7]


def test_a_cluster_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr("broker.stream.source.ANSWER_S", 0.5)
    source = KafkaSource({"bootstrap.servers": "127.0.0.1:9"}, ["a"])
    with pytest.raises(SourceError, match=r"127\.0\.0\.1:9 does not answer"):
        source.partitions()
