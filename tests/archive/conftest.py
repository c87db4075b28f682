"""Real alerts as the loop hands them to the archive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from broker.archive.archive import Archive
from broker.packets.decode import Decoded, decode
from broker.packets.schema import SCORES
from broker.packets.survey import survey
from tests.conftest import Packets


def tagged(alerts: pa.Table, batch: str) -> pa.Table:
    """An alert table with the columns that the archive has besides."""
    score = {
        "model": "stamps",
        "version": "1",
        "classes": ["SN", "bogus"],
        "probabilities": [0.75, 0.25],
        "reason": None,
    }
    alerts = alerts.append_column("scores", pa.array([[score]] * len(alerts), SCORES))
    return alerts.append_column("batch", pa.repeat(pa.scalar(batch), len(alerts)))


@pytest.fixture(scope="session")
def ztf(ztf_packets: Packets) -> Decoded:
    """Sixty packets of schema 3.2/3.3 and, at the end, the newer ones."""
    return decode(survey("ztf"), [packet for _, packet in ztf_packets[:60]])


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(str(tmp_path / "archive"), "ztf")


@pytest.fixture
def keep(archive: Archive) -> Callable[[pa.Table, str], None]:
    """Archive a table as one batch."""

    def keep(alerts: pa.Table, batch: str) -> None:
        rows = tagged(alerts, batch)
        archive.prepare(rows.schema)
        archive.commit(archive.write(rows), batch, lambda: None)

    return keep
