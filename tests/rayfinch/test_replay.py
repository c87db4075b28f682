"""Replay: real packets go to Kafka byte for byte and in order; repetitions are new alerts of new objects."""

from __future__ import annotations

import io
import json
from itertools import islice
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import Consumer, TopicPartition
from typer.testing import CliRunner

from rayfinch.cli import app
from rayfinch.embedded import EmbeddedKafka
from rayfinch.fresh import Names, Original, fresh_id
from rayfinch.marks import Framer, read_varint, varint
from rayfinch.replay import ReplayError, messages, replay

IDENTITY = {"objectId", "candid", "jd", "jdstarthist", "jdendhist", "alertId", "diaSourceId", "diaObjectId"}
IDENTITY |= {"parentDiaSourceId", "ssObjectId", "diaForcedSourceId", "midpointMjdTai", "radecMjdTai"}
IDENTITY |= {"firstDiaSourceMjdTai", "lastDiaSourceMjdTai", "validityStartMjdTai", "timeProcessedMjdTai"}
IDENTITY |= {"timeWithdrawnMjdTai"}


def container(packet: bytes) -> dict[str, Any]:
    alert: Any
    (alert,) = fastavro.reader(io.BytesIO(packet))
    return alert


def without_identity(value):
    if isinstance(value, dict):
        return {k: without_identity(v) for k, v in value.items() if k not in IDENTITY}
    if isinstance(value, list):
        return [without_identity(v) for v in value]
    return "NaN" if value != value else value


def received(bootstrap: str, topic: str, partition: int = 0) -> list[tuple[Any, Any]]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic, "message.max.bytes": 20 << 20})
    _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
    consumer.assign([TopicPartition(topic, partition, 0)])
    got: list[tuple[Any, Any]] = []
    while len(got) < end:
        some = consumer.consume(end - len(got), timeout=10)
        assert some, f"only {len(got)} of {end} messages came"
        got += [(m.key(), m.value()) for m in some]
    consumer.close()
    return got


@pytest.fixture(scope="module")
def embedded():
    with EmbeddedKafka() as kafka:
        yield kafka.bootstrap


def test_the_embedded_kafka_gives_the_same_bytes_back_in_order(embedded, ztf_packets, topic):
    packets = [p for _, p in ztf_packets[:40]]
    sent = replay(messages(packets), embedded, topic)
    assert (sent.messages, sent.bytes, sent.unreadable) == (40, sum(map(len, packets)), 0)
    got = received(embedded, topic)
    assert [value for _, value in got] == packets
    assert [key.decode() for key, _ in got] == [container(p)["objectId"] for p in packets]


def test_a_real_kafka_gives_the_same_bytes_back_in_order(kafka, ztf_packets, lsst_wire, lsst_schemas, topic):
    packets = [p for _, p in ztf_packets[:40] + lsst_wire[:10]]
    sent = replay(messages(packets, schemas=lsst_schemas), kafka, topic)
    assert (sent.messages, sent.unreadable) == (50, 0)
    assert [value for _, value in received(kafka, topic)] == packets


def test_every_real_packet_is_taken_apart_and_put_together_again(
    ztf_packets, lsst_wire, lsst_containers, lsst_schemas
):
    framer = Framer(lsst_schemas)
    for name, packet in ztf_packets + lsst_wire + lsst_containers:
        frame = framer.frame(packet)
        assert frame.with_datum(frame.datum) == packet, name


def test_repetitions_with_fresh_ids_are_new_alerts_of_new_objects(ztf_packets):
    packets = [p for _, p in ztf_packets[::20]]
    old = [container(p) for p in packets]
    seen_alerts, names = {a["candid"] for a in old}, {a["objectId"] for a in old}
    n_objects = len(names)
    stream = messages(packets, fresh_ids=True, repeat=3)
    for repetition in (1, 2, 3):
        for before, message in zip(old, islice(stream, len(old)), strict=True):
            alert = container(message.value)
            assert message.key == alert["objectId"].encode()
            assert alert["candid"] == alert["candidate"]["candid"]
            assert alert["candid"] not in seen_alerts
            assert len(alert["objectId"]) == 12
            assert alert["objectId"][:5] == before["objectId"][:5]
            assert alert["candidate"]["jd"] == pytest.approx(before["candidate"]["jd"] + repetition, abs=1e-7)
            for was, point in zip(before["prv_candidates"] or [], alert["prv_candidates"] or [], strict=True):
                assert point["jd"] == pytest.approx(was["jd"] + repetition, abs=1e-7)
                assert (point["candid"] is None) == (was["candid"] is None)
            assert without_identity(alert) == without_identity(before)
            seen_alerts.add(alert["candid"])
            names.add(alert["objectId"])
    assert next(stream, None) is None
    assert len(names) == 4 * n_objects


def test_alerts_of_one_object_stay_together_and_are_named_by_its_history(ztf_packets):
    """The history of a later alert names the fresh id that the earlier alert got."""
    alerts = [container(p) for _, p in ztf_packets]
    fresh = [container(m.value) for m in messages([p for _, p in ztf_packets], fresh_ids=True)]
    pairs = dict(zip((a["candid"] for a in alerts), (a["candid"] for a in fresh), strict=True))
    objects: dict[str, set[str]] = {}
    named = 0
    for before, after in zip(alerts, fresh, strict=True):
        objects.setdefault(before["objectId"], set()).add(after["objectId"])
        for was, point in zip(before["prv_candidates"] or [], after["prv_candidates"] or [], strict=True):
            if was["candid"] in pairs:
                assert point["candid"] == pairs[was["candid"]]
                named += 1
    assert all(len(new) == 1 for new in objects.values())
    assert named > 0


def test_fresh_lsst_packets_keep_their_framing_and_schema(lsst_wire, lsst_schemas):
    packets = [p for _, p in lsst_wire]
    schema = fastavro.parse_schema(json.loads((lsst_schemas / "900.avsc").read_text()))
    seen: set[int] = set()
    keys: set[bytes | None] = set()
    solar_system = 0
    for before, message in zip(
        packets * 2, messages(packets, schemas=lsst_schemas, fresh_ids=True, repeat=2), strict=True
    ):
        assert message.value[:5] == before[:5]
        old: Any = fastavro.schemaless_reader(io.BytesIO(before[5:]), schema)
        new: Any = fastavro.schemaless_reader(io.BytesIO(message.value[5:]), schema)
        assert new["diaSourceId"] == new["diaSource"]["diaSourceId"] not in seen
        source = new["diaSource"]
        solar_system += new["diaObject"] is None
        assert message.key == str(source["diaObjectId"] or source["ssObjectId"]).encode()
        assert source["midpointMjdTai"] > old["diaSource"]["midpointMjdTai"] + 0.9
        assert without_identity(new) == without_identity(old)
        seen.add(new["diaSourceId"])
        keys.add(message.key)
    assert len(seen) == 140
    assert solar_system == 8


def test_a_deflated_container_stays_deflated(ztf_packets):
    reader = fastavro.reader(io.BytesIO(ztf_packets[0][1]))
    out = io.BytesIO()
    fastavro.writer(out, reader.writer_schema, list(reader), codec="deflate")
    original = Original(out.getvalue(), Framer(), Names(1))
    again: Any = fastavro.reader(io.BytesIO(original.fresh(1, 1.0).value))
    assert again.codec == "deflate"
    assert next(again)["objectId"] != container(ztf_packets[0][1])["objectId"]


def test_what_cannot_be_read_goes_as_it_is_without_a_key():
    poison = [b"", b"no packet", b"Obj\x01\x02", b"\0\0\0\x03\x84rest"]
    got = list(messages(poison, fresh_ids=True, repeat=2))
    assert [m.value for m in got] == poison * 2
    assert {m.key for m in got} == {None}
    assert "schemas" in (Original(poison[3], Framer(), Names(1)).unreadable or "")


def test_a_count_begins_again_at_the_end_and_may_stop_in_the_middle(ztf_packets):
    packets = [p for _, p in ztf_packets[:3]]
    assert [m.value for m in messages(packets, count=7)] == (packets * 3)[:7]
    assert list(messages([], count=7)) == []


def test_another_first_repetition_gives_other_identities(ztf_packets):
    packets = [p for _, p in ztf_packets[:30]]
    one = {m.key for m in messages(packets, fresh_ids=True, repeat=2)}
    assert one == {m.key for m in messages(packets, fresh_ids=True, repeat=2)}, "a replay can be repeated"
    assert not one & {m.key for m in messages(packets, fresh_ids=True, repeat=2, first=3)}


def test_fresh_names_never_meet():
    names = Names(first=1)
    old = [f"ZTF18{a}{b}aaaaa".encode() for a in "abcdefgh" for b in "abcdefgh"]
    for name in old:
        names.number(name)
    assert len({names.fresh(name, k) for k in range(1, 1001) for name in old}) == 64_000


@pytest.mark.parametrize("value", [0, 1, -1, 63, 64, 2475433850215010007, 2**63 - 1, -(2**63)])
def test_varints_are_those_of_avro(value):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, {"type": "long"}, value)
    assert varint(value) == out.getvalue()
    assert read_varint(varint(value), 0) == (value, len(varint(value)))


def test_no_id_stays_no_id():
    assert [fresh_id(v, 5) for v in (0, -1)] == [0, -1]
    assert 2**60 <= fresh_id(1, 5) < 2**61


def test_the_rate_is_kept(embedded, topic):
    sent = replay(messages([b"x"], count=60), embedded, topic, rate=100)
    assert 0.5 < sent.seconds < 1.5


def test_an_unreachable_kafka_is_told(topic):
    with pytest.raises(ReplayError, match="cannot send to"):
        replay(messages([b"x"]), "127.0.0.1:1", topic, kafka={"log_level": 0}, wait_s=1)


def run(*args: object):
    return CliRunner().invoke(app, ["replay", *map(str, args)])


def test_the_command_sends_files_and_says_so(embedded, ztf_packets, topic, tmp_path: Path):
    for i, (_, packet) in enumerate(ztf_packets[:5]):
        (tmp_path / f"{i}.avro").write_bytes(packet)
    arguments = (tmp_path, "--topic", topic, "--bootstrap", embedded, "--fresh-ids", "--repeat", 2)
    result = run(*arguments, "--partitions", 1, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["messages"] == 10
    assert len({container(value)["candid"] for _, value in received(embedded, topic)}) == 10


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (("--repeat", 2, "--count", 3), "not both"),
        (("--rate", 0), "above 0"),
        (("--kafka", "linger"), "KEY=VALUE"),
        ((), "holds no packets"),
    ],
)
def test_bad_usage_is_told_in_a_sentence(tmp_path: Path, extra, said):
    result = run(tmp_path, "--topic", "t", *extra)
    assert result.exit_code == 2
    assert said in result.stderr
