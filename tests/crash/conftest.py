"""What the crash tests send: real packets, and one that is none among them."""

from __future__ import annotations

import pytest

from broker.packets.decode import decode
from broker.packets.survey import survey


@pytest.fixture(scope="session")
def packets(ztf_packets: list[tuple[str, bytes]]) -> list[bytes]:
    return [b for _, b in ztf_packets[:150]] + [b"Obj\x01 not a packet"]


@pytest.fixture(scope="session")
def alert_ids(packets: list[bytes]) -> list[int]:
    return decode(survey("ztf"), packets).alerts["alert_id"].to_pylist()
