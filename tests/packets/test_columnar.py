"""Joined bodies, and what the fast reader does with bytes that do not follow their schema: it ends."""

from __future__ import annotations

import pytest

from broker.packets import columnar
from broker.packets.columnar import Misaligned
from broker.packets.panics import told_panics
from broker.packets.survey import PacketError, survey

pytestmark = pytest.mark.timeout(30)  # a reader that hangs does so for ever

SCHEMA = '{"type": "record", "name": "r", "fields": [{"name": "a", "type": "long"}]}'


@pytest.fixture(scope="module")
def data(ztf_packets):
    found = [survey("ztf").split(packet, None) for name, packet in ztf_packets if "20181128" in name]
    return found[:200]


def test_rows_come_in_the_bodies_order_however_many(data):
    bodies = [datum.body for datum in data] * 3
    ids = columnar.decode(data[0].schema.json, bodies)["candid"]
    assert len(ids) == 600
    assert ids[200:400].equals(ids[:200])


@pytest.mark.parametrize("left_over", [1, 16, 5000])
def test_a_body_that_ends_early_is_an_error_and_no_endless_loop(data, left_over):
    bodies = [*(datum.body for datum in data[:5]), data[5].body + bytes(left_over)]
    with pytest.raises(Misaligned, match="ends elsewhere"):
        columnar.decode(data[0].schema.json, bodies)


@pytest.mark.parametrize("body", [b"", b"\xff" * 9, b"\xff" * 40, b"\x02\x02"])
def test_a_body_that_is_no_datum_is_an_error(body):
    with pytest.raises(PacketError):
        columnar.decode(SCHEMA, [b"\x02", body, b"\x04"])


def test_a_schema_with_a_name_twice_is_refused():
    field = '{"name": "a", "type": "long"}'
    twice = f'{{"type": "record", "name": "r", "fields": [{field}, {field}]}}'
    with pytest.raises(PacketError, match="two fields of the same name"):
        columnar.inlined(twice)


def test_a_panic_of_native_code_is_the_packets_fault():
    panic = type("PanicException", (BaseException,), {})
    with pytest.raises(PacketError, match="panicked: no way"), told_panics():
        raise panic("no way")
    with pytest.raises(KeyboardInterrupt), told_panics():
        raise KeyboardInterrupt
