"""The Publisher on a real Kafka: what consumers see, and what they never see."""

import json
from threading import Timer
from typing import get_args

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from broker.publish.encode import Outputs, TopicRule, encode
from broker.publish.outputs import Framing, Packet
from broker.publish.publisher import Fenced, Publisher, PublishError
from broker.publish.reader import Schemas, UnknownSchema, decode
from broker.stream.plan import DeadLetter
from tests.publish.tables import row, table, writer_schemas
from tests.publish.topics import messages, names, settings

LETTER = DeadLetter("ztf_20260101_programid1", "topic-id", 3, 2**40, "bad magic: b'\\x00'", b"\x00packet")


def fence():
    """A lease that is still held."""


class Night:
    """A stream's publisher on a cluster of many tests: topics of its own, and records of real packets."""

    def __init__(self, kafka, prefix, originals, **rules):
        self.kafka = {"bootstrap.servers": kafka}
        self.originals = originals
        self.outputs = Outputs(prefix=prefix, **rules)
        self.stream = f"{prefix}-ztf"
        self.opened = []

    def publisher(self, stream=None, timeout_s=20, **settings_):
        kafka = {**self.kafka, **settings_}
        publisher = Publisher(kafka, stream or self.stream, self.outputs, "ztf", timeout_s=timeout_s)
        publisher.open()
        self.opened.append(publisher)
        return publisher

    def records(self, n=3, **changes):
        originals = self.originals[:n]
        return encode(table([row(o, **changes) for o in originals]), writer_schemas(originals), self.outputs)

    def messages(self, name, **how):
        return messages(self.kafka, f"{self.outputs.prefix}.{name}", **how)


@pytest.fixture
def night(kafka, topic, mixed):
    ztf = [o for o in mixed if "candid" in o.alert]
    night = Night(kafka, topic, ztf, partitions=2)
    yield night
    for publisher in night.opened:
        publisher.close()


def test_a_batch_arrives_whole_and_can_be_read_with_the_published_schemas(night):
    marker = {"stream": night.stream, "batch": 1, "ranges": [], "counts": {"alerts": 12}}
    publisher = night.publisher()
    publisher.publish([night.records(8), night.records(12).slice(24)], [LETTER], {}, marker, fence)

    schemas = Schemas(night.kafka, night.outputs.prefix)
    alerts = [decode(m, schemas) for m in night.messages("ztf.all")]
    by_id = {a["candid"]: a for a in alerts}
    assert len(alerts) == len(by_id) == 12
    for original in night.originals[:12]:
        alert = by_id[original.alert["candid"]]
        assert repr({name: alert[name] for name in original.alert}) == repr(original.alert)
        assert [s["top_class"] for s in alert["rayfinch_scores"]] == ["SN", "SLSN-I"]
    slim = [decode(m, schemas) for m in night.messages("ztf.stamps.sn")]
    assert {a["alert_id"] for a in slim} == by_id.keys()
    assert publisher.marker() == marker
    assert {m.key() for m in night.messages("schemas")} == {
        dict(m.headers())["schema"] for name in ("ztf.all", "ztf.stamps.sn") for m in night.messages(name)
    }


def test_a_dead_letter_has_the_packet_and_where_it_stood(night):
    night.publisher().publish([], [LETTER], {}, {"batch": 1}, fence)
    (message,) = night.messages("ztf.deadletters")
    assert message.value() == LETTER.packet
    assert {name: value.decode() for name, value in message.headers()} == {
        "reason": LETTER.reason,
        "topic": LETTER.topic,
        "topic_id": LETTER.topic_id,
        "partition": "3",
        "offset": str(2**40),
    }


def test_topics_are_made_when_they_are_first_needed(night):
    publisher = night.publisher()
    assert names(night.kafka, night.outputs.prefix) == {"schemas", "batches", "ztf.deadletters"}
    publisher.publish([night.records(1)], [], {}, {"batch": 1}, fence)
    publisher.publish([night.records(1, rights="caltech")], [], {}, {"batch": 2}, fence)
    assert names(night.kafka, night.outputs.prefix) == {
        *("schemas", "batches", "ztf.deadletters", "ztf.all", "ztf.stamps.sn", "ztf.lightcurve.slsn-i"),
        *("ztf.restricted.all", "ztf.restricted.stamps.sn", "ztf.restricted.lightcurve.slsn-i"),
    }
    for name, policy in (("schemas", "compact"), ("batches", "compact"), ("ztf.all", "delete")):
        found = settings(night.kafka, f"{night.outputs.prefix}.{name}")
        assert (found["cleanup.policy"], found["max.message.bytes"]) == (policy, str(16 * 2**20))


def test_restricted_alerts_are_never_in_public_topics(night):
    rights = ["public", "partnership", "caltech"]
    originals = night.originals[:12]
    rows = [row(o, rights=rights[i % 3]) for i, o in enumerate(originals)]
    night.publisher().publish(
        [encode(table(rows), writer_schemas(originals), night.outputs)], [], {}, {"batch": 1}, fence
    )
    schemas = Schemas(night.kafka, night.outputs.prefix)
    seen = {
        name: {a.get("candid") or a["alert_id"] for a in (decode(m, schemas) for m in night.messages(name))}
        for name in names(night.kafka, night.outputs.prefix)
        if name not in ("schemas", "batches", "ztf.deadletters")
    }
    public = {o.alert["candid"] for i, o in enumerate(originals) if i % 3 == 0}
    rest = {o.alert["candid"] for o in originals} - public
    assert seen == {
        f"ztf.{part}{name}": ids
        for part, ids in (("", public), ("restricted.", rest))
        for name in ("all", "stamps.sn", "lightcurve.slsn-i")
    }


def test_a_fence_that_raises_leaves_nothing_to_see(night):
    publisher = night.publisher()
    publisher.publish([night.records(2)], [], {}, {"batch": 1}, fence)

    def lost():
        raise PermissionError("the lease is lost")

    with pytest.raises(PermissionError, match="the lease is lost"):
        publisher.publish([night.records(12)], [LETTER], {}, {"batch": 2}, lost)
    assert publisher.marker() == {"batch": 1}
    assert len(night.messages("ztf.all")) == 2
    assert night.messages("ztf.deadletters") == []
    assert len(night.messages("ztf.all", isolation="read_uncommitted")) == 14

    # The publisher is as good as new, and sends again the schemas that the aborted transaction took with it.
    publisher.publish([night.records(12)], [LETTER], {}, {"batch": 2}, fence)
    assert publisher.marker() == {"batch": 2}
    schemas = Schemas(night.kafka, night.outputs.prefix)
    assert len([decode(m, schemas) for m in night.messages("ztf.all")]) == 14


def test_a_record_without_a_place_of_its_own_is_no_record(night, monkeypatch):
    """As when the cluster takes one for the repetition of another: it confirms both."""
    publisher = night.publisher()
    with monkeypatch.context() as patch:
        patch.setattr(publisher, "_arrived", lambda error, record: publisher._places.add(("t", 0, 0)))
        with pytest.raises(PublishError, match=r"confirmed \d+ records, but has 1"):
            publisher.publish([night.records(1)], [LETTER], {}, {"batch": 1}, fence)
    assert publisher.marker() is None
    assert night.messages("ztf.all") == []


def test_a_topic_that_was_just_made_lacks_no_record(night):
    """With several requests under way, every third such topic does, and the commit succeeds."""
    hasty = {"transactional.id": night.stream, "linger.ms": 0, "batch.num.messages": 2}
    producer = Producer({**night.publisher().kafka, **hasty})
    producer.init_transactions(20)
    admin = AdminClient(night.kafka)
    for name in (f"{night.outputs.prefix}.{i}" for i in range(8)):
        admin.create_topics([NewTopic(name, 6, 1)])[name].result()
        producer.begin_transaction()
        for i in range(60):
            producer.produce(name, b"record", partition=i % 6)
        producer.commit_transaction(20)
        assert len(messages(night.kafka, name)) == 60


def test_records_that_cannot_be_made_leave_nothing_to_see(night):
    def records():
        yield night.records(2)
        raise ValueError("no such stamp")

    publisher = night.publisher()
    with pytest.raises(ValueError, match="no such stamp"):
        publisher.publish(records(), [], {}, {"batch": 1}, fence)
    assert night.messages("ztf.all") == []
    assert publisher.marker() is None


def test_a_second_publisher_of_a_stream_fences_the_first_and_drops_what_it_left_open(night):
    first = night.publisher()
    first.publish([night.records(1)], [], {}, {"batch": 1}, fence)
    successor = []

    def sleeps_through_its_successor_s_start():
        successor.append(night.publisher())
        assert successor[0].marker() == {"batch": 1}

    with pytest.raises(Fenced, match="another publisher of this stream has taken over"):
        first.publish([night.records(5)], [], {}, {"batch": 2}, sleeps_through_its_successor_s_start)
    with pytest.raises(PublishError, match="not open"):
        first.publish([night.records(5)], [], {}, {"batch": 2}, fence)
    assert successor[0].marker() == {"batch": 1}
    successor[0].publish([night.records(2)], [], {}, {"batch": 2}, fence)
    assert successor[0].marker() == {"batch": 2}
    assert len(night.messages("ztf.all")) == 3


def test_a_marker_behind_another_stream_s_open_transaction_is_waited_for(night):
    """A consumer of committed records sees nothing behind an open transaction: not even what is committed."""
    publisher = night.publisher()
    other = Producer({**night.kafka, "transactional.id": f"{night.stream}-other"})
    other.init_transactions()
    other.begin_transaction()
    other.produce(night.outputs.batches, b'{"batch": 99}', b"other")
    other.flush()
    publisher.publish([], [], {}, {"batch": 1}, fence)
    assert night.messages("batches", whole=False) == []
    ending = Timer(0.5, other.abort_transaction)
    ending.start()
    assert publisher.marker() == {"batch": 1}
    ending.join()


def test_streams_share_the_topic_of_markers(night):
    one, two = night.publisher("one"), night.publisher("two")
    for batch in range(3):
        one.publish([], [], {}, {"batch": batch}, fence)
    assert two.marker() is None
    two.publish([], [], {}, {"batch": 7}, fence)
    assert one.marker() == {"batch": 2}
    assert night.publisher("one").marker() == {"batch": 2}


def test_a_marker_far_from_the_end_is_found(night, monkeypatch):
    monkeypatch.setattr("broker.publish.publisher.RECENT", 2)
    night.publisher("old").publish([], [], {}, {"batch": 5}, fence)
    busy = night.publisher("busy")
    for batch in range(4):
        busy.publish([], [], {}, {"batch": batch}, fence)
    assert night.publisher("old").marker() == {"batch": 5}


def test_schemas_are_published_once(night):
    for batch in range(2):
        publisher = night.publisher()
        for n in (1, 2):
            publisher.publish([night.records(n)], [], {"0" * 16: '"string"'}, {"batch": 2 * batch + n}, fence)
    keys = [m.key().decode() for m in night.messages("schemas")]
    assert len(keys) == len(set(keys)) == 4  # two writer schemas, slim, and the one that was given


def test_an_object_s_alerts_stay_in_one_partition(night):
    publisher = night.publisher()
    for batch in range(2):
        publisher.publish([night.records(20)], [], {}, {"batch": batch}, fence)
    partitions: dict[bytes, set[int]] = {}
    for message in night.messages("ztf.all"):
        partitions.setdefault(message.key(), set()).add(message.partition())
    assert all(len(p) == 1 for p in partitions.values())
    assert set.union(*partitions.values()) == {0, 1}


def test_a_packet_of_many_megabytes_passes(night):
    letter = DeadLetter("t", "id", 0, 0, "too large a stamp", bytes(12 * 2**20))
    night.publisher().publish([], [letter], {}, {"batch": 1}, fence)
    assert [len(m.value()) for m in night.messages("ztf.deadletters")] == [12 * 2**20]


def test_more_records_than_the_queue_holds_wait_for_it(night):
    publisher = night.publisher(**{"queue.buffering.max.messages": 10})
    publisher.publish([night.records(20)] * 3, [], {}, {"batch": 1}, fence)
    assert len(night.messages("ztf.all")) == 60


def test_a_topic_that_was_deleted_is_made_again(night):
    publisher = night.publisher(timeout_s=5)  # the time after which the lost topic shows
    publisher.publish([night.records(1)], [], {}, {"batch": 1}, fence)
    name = f"{night.outputs.prefix}.ztf.all"
    publisher._topics.admin.delete_topics([name])[name].result(10)
    for _ in range(3):
        try:
            publisher.publish([night.records(1)], [], {}, {"batch": 2}, fence)
            break
        except PublishError:
            publisher.open()
    assert publisher.marker() == {"batch": 2}
    assert len(night.messages("ztf.all")) == 1


def test_a_cluster_that_is_not_there_is_an_error_in_one_sentence(topic):
    publisher = Publisher(
        {"bootstrap.servers": "127.0.0.1:9"}, "s", Outputs(prefix=topic), "ztf", timeout_s=1
    )
    with pytest.raises(PublishError, match="stream s cannot publish"):
        publisher.open()
    with pytest.raises(PublishError, match="not open"):
        publisher.marker()


def test_a_schema_that_nobody_published_is_an_error_in_one_sentence(night):
    night.publisher()
    with pytest.raises(UnknownSchema, match="has no schema 0123"):
        Schemas(night.kafka, night.outputs.prefix, timeout_s=0.5)["0123"]


def test_a_message_that_is_no_alert_is_refused(night):
    night.publisher().publish([], [], {}, {"batch": 1}, fence)
    (message,) = night.messages("batches")
    assert json.loads(message.value()) == {"batch": 1}
    with pytest.raises(ValueError, match="has no header 'schema'"):
        decode(message, {})


def test_every_framing_and_packet_is_read_alike(night):
    schemas = Schemas(night.kafka, night.outputs.prefix)
    for batch, packet in enumerate(get_args(Packet)):
        for framing in get_args(Framing):
            name = f"ztf.{packet}-{framing}"
            rules = Outputs(prefix=f"{night.outputs.prefix}", all=TopicRule(packet, framing), classes=None)
            records = encode(table([row(night.originals[0])]), writer_schemas(night.originals[:1]), rules)
            renamed = records.set_column(
                0, records.schema.field("topic"), [[f"{night.outputs.prefix}.{name}"]]
            )
            night.publisher().publish([renamed], [], {}, {"batch": batch}, fence)
            (message,) = night.messages(name)
            alert = decode(message, schemas)
            assert night.originals[0].alert["candid"] in (alert.get("candid"), alert.get("alert_id"))
