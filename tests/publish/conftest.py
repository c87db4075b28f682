"""Fixtures: real packets taken apart, and a Kafka's topics as a consumer sees them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.publish.tables import Original, original


@pytest.fixture(scope="session")
def ztf(ztf_packets: list[tuple[str, bytes]]) -> list[Original]:
    """All real ZTF packets: schemas 3.2, 3.3, 4.01 and four that Spark rewrote."""
    return [original(packet) for _, packet in ztf_packets]


@pytest.fixture(scope="session")
def lsst(
    lsst_wire: list[tuple[str, bytes]], lsst_containers: list[tuple[str, bytes]], lsst_schemas: Path
) -> list[Original]:
    """All real LSST packets: schema 9.0 as it travels, and three that Spark rewrote."""
    return [original(packet, lsst_schemas) for _, packet in lsst_wire + lsst_containers]


@pytest.fixture(scope="session")
def mixed(ztf: list[Original], lsst: list[Original]) -> list[Original]:
    """A few packets of every writer schema there is, taken in turns."""
    by_schema: dict[str, list[Original]] = {}
    for packet in ztf + lsst:
        by_schema.setdefault(packet.schema_json, []).append(packet)
    return [packets[i] for i in range(4) for packets in by_schema.values() if i < len(packets)]
