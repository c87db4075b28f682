"""What happens to a source while the stream runs: each with nothing lost, nothing doubled, and an alarm."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions
from ray.data._internal.stats import STATS_ACTOR_NAME, STATS_ACTOR_NAMESPACE

from broker.packets.decode import decode
from broker.packets.survey import survey
from broker.stream.planning import choose, due
from broker.stream.topics import RECREATED
from rayfinch import wiring
from tests.support.deployment import Deployment, eventually, ray_processes
from tests.support.running import Running

Packets = list[tuple[str, bytes]]


def ids(packets: list[bytes]) -> list[int]:
    return decode(survey("ztf"), packets).alerts["alert_id"].to_pylist()


@pytest.fixture
def deploy(tmp_path: Path, kafka: str, topic: str, ray_cluster: str) -> Callable[..., Deployment]:
    def make(**options: Any) -> Deployment:
        return Deployment(tmp_path, kafka, kafka, topic, ray_cluster, stream=topic, **options)

    return make


@pytest.fixture
def admin(kafka: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka})


@pytest.fixture(scope="module")
def packets(ztf_packets: Packets) -> list[bytes]:
    return [packet for _, packet in ztf_packets[300:380]]


def test_real_packets_of_several_schemas_arrive_once(deploy, packets):
    deployment = deploy()
    deployment.send(packets)
    with Running(deployment) as running:
        running.until(80)
    deployment.audit().assert_exactly_once(ids(packets))
    assert running.count("dead_letters") == 0


def test_ray_keeps_metrics_of_as_many_datasets_as_run_at_once(deploy, packets, topic):
    """It forgets none: with one id a batch, its memory would grow for ever."""
    deployment = deploy()
    with Running(deployment) as running:
        for i in range(6):
            deployment.send(packets[i * 5 : i * 5 + 5])
            running.until(i * 5 + 5)
    known = ray.get(ray.get_actor(STATS_ACTOR_NAME, STATS_ACTOR_NAMESPACE).get_datasets.remote())
    ours = {name for name in known if topic in name}
    assert len(ours) == 2, "in_flight of them"


def test_an_alert_that_is_sent_again_is_kept_once_and_counted(deploy, packets):
    deployment = deploy()
    deployment.send(packets[:30] + packets[10:20])
    with Running(deployment) as running:
        running.until(30)
        deployment.send(packets[:5])
        eventually(lambda: running.count("resent") == 15)
    deployment.audit().assert_exactly_once(ids(packets[:30]))


def test_a_packet_that_is_none_becomes_a_dead_letter_and_its_neighbours_go_on(deploy, packets):
    deployment = deploy()
    deployment.send([*packets[:10], b"rubbish", b"", *packets[10:20]])
    with Running(deployment) as running:
        running.until(20)
    audit = deployment.audit()
    audit.assert_exactly_once(ids(packets[:20]), dead_letters=2)
    assert {value for _, _, value in audit.in_topic("deadletters")} == {b"rubbish", b""}


def test_a_batch_whose_workers_keep_dying_is_decoded_in_isolation(deploy, packets):
    deployment = deploy()
    deployment.send([*packets[:10], b"rubbish", *packets[10:20]], partitions=1)
    ledger = deployment.ledger()
    with Running(deployment) as running:
        end = time.monotonic() + 60
        while not running.outcomes and time.monotonic() < end:
            if all(plan.attempt < 2 for plan in ledger.open_plans()):
                for process in ray_processes("MapBatches(Work)"):
                    process.kill()
        running.until(20)
        assert running.outcomes[0]["attempt"] > 1
    deployment.audit().assert_exactly_once(ids(packets[:20]), dead_letters=1)


def test_a_dead_letter_that_is_asked_for_again_goes_through_the_same_door(deploy, packets):
    deployment = deploy()
    deployment.send([b"still rubbish", *packets[:5]])
    with Running(deployment) as running:
        running.until(5)
        ledger = deployment.ledger()
        [(row, letter)] = ledger.dead_letters()
        assert letter.packet == b"still rubbish"
        ledger.retry([row])
        eventually(lambda: running.count("dead_letters") == 2)
        eventually(lambda: not ledger.retries())
    assert [row for row, _ in deployment.ledger().dead_letters()] == [row], "it is dead again, once"


def test_the_next_night_and_an_added_partition_are_read_from_their_beginning(deploy, packets, admin, topic):
    deployment = deploy(topics=[rf"^{topic}_\d{{8}}_programid1$"])
    deployment.send(packets[:20], f"{topic}_20250101_programid1", partitions=1)
    with Running(deployment) as running:
        running.until(20)
        deployment.send(packets[20:40], f"{topic}_20250102_programid1", partitions=1)
        running.until(40)
        night = f"{topic}_20250102_programid1"
        admin.create_partitions([NewPartitions(night, 2)])[night].result()
        eventually(lambda: len(admin.list_topics(timeout=10).topics[night].partitions) == 2)
        deployment.send(packets[40:60], night, partitions=2)
        running.until(60)
    deployment.audit().assert_exactly_once(ids(packets[:60]))


def test_expired_offsets_are_a_gap_with_an_alarm_and_the_stream_goes_on(deploy, packets, admin):
    deployment = deploy()
    deployment.send(packets[:30], partitions=1)
    [deleted] = admin.delete_records([TopicPartition(deployment.topic, 0, 12)]).values()
    deleted.result()
    with Running(deployment) as running:
        running.until(18)
    deployment.audit().assert_exactly_once(ids(packets[12:30]))
    [gap] = deployment.ledger().gaps()
    assert (gap.topic, gap.first, gap.end) == (deployment.topic, 0, 12)
    assert "gap" in running.events()


def test_a_recreated_topic_starts_again_at_zero(deploy, packets, admin):
    deployment = deploy()
    deployment.send(packets[:20], partitions=1)
    with Running(deployment) as running:
        running.until(20)
        admin.delete_topics([deployment.topic])[deployment.topic].result()
        eventually(lambda: "topic_vanished" in running.events())
        eventually(lambda: deployment.topic not in admin.list_topics(timeout=10).topics)
        deployment.send(packets[20:30], partitions=1)
        running.until(30)
    deployment.audit().assert_exactly_once(ids(packets[:30]))
    assert "topic_recreated" in running.events()


def test_a_plan_of_a_topic_that_was_recreated_before_it_ran_is_a_gap(deploy, packets, admin):
    deployment = deploy()
    deployment.send(packets[:20], partitions=1)
    stream = wiring.stream(deployment.loaded)  # of a driver that dies with its first plan
    lease = stream.ledger.acquire("dead:1", 60, False)
    plan = stream.ledger.plan(lease, choose(due(stream.source.partitions(), {}), 60), {})
    assert len(plan) == 20
    stream.ledger.release(lease)
    admin.delete_topics([deployment.topic])[deployment.topic].result()
    eventually(lambda: deployment.topic not in admin.list_topics(timeout=10).topics)
    deployment.send(packets[20:30], partitions=1)
    with Running(deployment) as running:
        running.until(10)
    deployment.audit().assert_exactly_once(ids(packets[20:30]))
    assert [(g.first, g.end, g.reason) for g in deployment.ledger().gaps()] == [(0, 20, RECREATED)]


def test_a_start_at_latest_leaves_what_was_there_and_takes_what_comes(deploy, packets):
    deployment = deploy(settings={"source": {"start": "latest"}})
    deployment.send(packets[:10])
    with Running(deployment) as running:
        eventually(lambda: bool(deployment.ledger().offsets()))
        deployment.send(packets[10:20])
        running.until(10)
    deployment.audit().assert_exactly_once(ids(packets[10:20]))


def test_a_source_without_a_matching_topic_is_waited_for_with_an_alarm(deploy, packets):
    deployment = deploy()
    with Running(deployment) as running:
        eventually(lambda: "no_topics" in running.events())
        deployment.send(packets[:5])
        running.until(5)
    deployment.audit().assert_exactly_once(ids(packets[:5]))
