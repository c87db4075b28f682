"""Training and the stream see the same alert: real packets against the same alerts of the data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from broker.packets import lsst, ztf
from broker.packets.cutouts import with_cutouts
from broker.packets.decode import decode
from models import columns
from models.contract import Model, open_model, shipped_version
from models.features import packet_features
from models.testing import values
from training import dataset


@pytest.fixture(scope="module")
def networks() -> dict[str, Model]:
    return {name: open_model(shipped_version(name)) for name in ("stamps", "lightcurve")}


@pytest.fixture(scope="module")
def alerts(ztf_packets: list[tuple[str, bytes]]) -> pa.Table:
    return with_cutouts(decode(ztf.SURVEY, [packet for _, packet in ztf_packets[:100]]).alerts)


def test_the_same_alert_gives_the_same_inputs_and_scores(
    alerts: pa.Table, networks: dict[str, Model], shared: Path
) -> None:
    found = dataset.stamps(shared / "data")
    at = {alert: i for i, alert in enumerate(found.table["alert_id"].to_pylist())}
    pairs = [(i, at[alert]) for i, alert in enumerate(alerts["alert_id"].to_pylist()) if alert in at]
    assert len(pairs) >= 20
    decoded, stored = (
        table.take(list(rows))
        for table, rows in zip((alerts, found.table), zip(*pairs, strict=True), strict=True)
    )
    np.testing.assert_allclose(packet_features(decoded), packet_features(stored), rtol=1e-3, atol=1e-3)
    pixels = columns.cutouts(decoded), columns.cutouts(stored)
    np.testing.assert_array_equal(*map(np.isnan, pixels))
    scores = [values(networks["stamps"].score(table)) for table in (decoded, stored)]
    np.testing.assert_allclose(
        *scores, atol=0.03
    )  # the data set's pixels are rounded to a fraction of a sigma


def test_every_real_packet_of_both_surveys_gets_both_scores(
    alerts: pa.Table, networks: dict[str, Model], lsst_containers: list[tuple[str, bytes]]
) -> None:
    packets = [packet for _, packet in lsst_containers[50:90]]  # of LSSTCam and of HSC
    for table in (alerts, with_cutouts(decode(lsst.SURVEY, packets).alerts)):
        for model in networks.values():
            assert np.isfinite(values(model.score(table))).all()
