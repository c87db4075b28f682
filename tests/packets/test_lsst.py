"""Real LSST packets to the alert table: wire format and containers, stars and asteroids."""

from __future__ import annotations

import pickle

import pytest

from broker.packets import schema
from broker.packets.decode import Decoded, decode, decode_reference
from broker.packets.registry import Folder
from broker.packets.survey import survey

LSST = survey("lsst")


@pytest.fixture(scope="module")
def wire(lsst_wire, lsst_schemas) -> Decoded:
    return decode(LSST, [packet for _, packet in lsst_wire], Folder(lsst_schemas), cutouts=True)


@pytest.fixture(scope="module")
def containers(lsst_containers) -> Decoded:
    return decode(LSST, [packet for _, packet in lsst_containers], cutouts=True)


def rows(decoded: Decoded) -> dict[int, dict]:
    return {row["alert_id"]: row for row in decoded.alerts.drop(["cutouts"]).to_pylist()}


def test_every_real_packet_is_an_alert(wire, containers):
    assert wire.failures == []
    assert containers.failures == []
    assert wire.alerts.num_rows == 70
    assert containers.alerts.num_rows == 204
    assert "slow_packets" not in {**wire.counts, **containers.counts}
    schema.assert_alerts(wire.alerts.schema)
    schema.assert_alerts(containers.alerts.schema)


def test_a_detection_with_history(wire):
    row = rows(wire)[169298433314652171]
    assert row["object_id"] == "169298432639893512"
    assert (row["mjd"], row["band"]) == (60924.33268375296, "i")
    assert (row["ra"], row["dec"]) == (10.198214024125951, -43.83016491871225)
    assert (row["flux"], row["flux_err"]) == (362229.40625, 1325.226318359375)
    assert row["history"] == [
        {
            "mjd": 60924.33041372549,
            "band": "i",
            "flux": 376298.0,
            "flux_err": 1354.367919921875,
            "kind": "detection",
        }
    ]
    assert row["rights"] == "public"
    assert row["packet_schema"].startswith("9.0/")


@pytest.mark.parametrize("form", ["wire", "containers"])
def test_a_solar_system_source_without_dia_object_is_its_ss_object(form, request):
    found = rows(request.getfixturevalue(form))
    objects = {i: found[i]["object_id"] for i in (169298432645136561, 169298432757858307, 169298433291583519)}
    assert objects == {
        169298432645136561: "21164719644750924",
        169298432757858307: "21164715316492612",
        169298433291583519: "21164723922809665",
    }


def test_int64_ids_are_intact(wire, lsst_wire):
    names = [int(name.rpartition("/")[2].removesuffix(".wire")) for name, _ in lsst_wire]
    assert wire.alerts["alert_id"].to_pylist() == names
    assert all(i > 2**53 for i in names)


def test_the_wire_and_the_container_of_an_alert_say_the_same(wire, containers):
    one, other = rows(wire), rows(containers)
    for alert_id, row in one.items():
        same = other[alert_id]
        for column in (
            "object_id",
            "mjd",
            "ra",
            "dec",
            "hpx29",
            "flux",
            "flux_err",
            "history",
            *schema.CUTOUTS,
        ):
            assert row[column] == same[column]


def test_packets_are_rebuilt_byte_by_byte(wire, lsst_wire):
    for row, (_, packet) in zip(wire.alerts.drop(["cutouts"]).to_pylist(), lsst_wire, strict=True):
        assert schema.datum(row) == packet[5:]


def test_fast_path_and_reference_agree(lsst_wire, lsst_containers, lsst_schemas):
    packets = [packet for _, packet in [*lsst_wire[::7], *lsst_containers[::20]]]
    fast = decode(LSST, packets, Folder(lsst_schemas))
    slow = decode_reference(LSST, packets, Folder(lsst_schemas))
    assert fast.alerts.equals(slow.alerts.cast(fast.alerts.schema))


def test_a_packet_of_an_unknown_schema_fails_alone(lsst_wire, lsst_schemas):
    good = lsst_wire[0][1]
    unknown = b"\0" + (4711).to_bytes(4, "big") + good[5:]
    decoded = decode(LSST, [good, unknown, good], Folder(lsst_schemas))
    assert decoded.index.tolist() == [0, 2]
    assert [f.index for f in decoded.failures] == [1]
    assert "schema 4711 is unknown" in decoded.failures[0].reason


def test_wire_format_without_schemas_names_the_remedy(lsst_wire):
    decoded = decode(LSST, [lsst_wire[0][1]])
    assert "900" in decoded.failures[0].reason
    assert "--schemas" in decoded.failures[0].reason


def test_a_schema_source_travels_to_workers(lsst_schemas):
    source = Folder(lsst_schemas)
    source.schema(900)
    assert pickle.loads(pickle.dumps(source)).schema(900) == source.schema(900)
