"""Histories of the stamps' alerts, joined from packets and light curves."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from models.fusion import CLASSES
from training import dataset, frozen, histories


@pytest.fixture(scope="module")
def fused(shared):
    return histories.fused(shared / "data")


def test_a_light_curve_gives_the_history_that_the_packet_carries(shared) -> None:
    """So that nothing tells where a history was taken from."""
    data = shared / "data"
    found = dataset.stamps(data)
    alerts = found.table.select(["alert_id", "mjd"]).to_pylist()
    packets = histories._of_packets(data, {alert["alert_id"] for alert in alerts})
    curves = histories._curves(data, set(found.groups.tolist()))
    same = []
    for alert, name in zip(alerts, found.groups, strict=True):
        packet, curve = packets.get(alert["alert_id"]), curves.get(name)
        if packet and curve is not None:
            made = histories._before(curve, alert["mjd"])
            same.append(Counter(p["kind"] for p in packet) == Counter(p["kind"] for p in made))
    assert len(same) >= 10
    assert np.mean(same) > 0.8


def test_supernovae_have_their_type_and_those_without_are_left_out_and_counted(fused, shared) -> None:
    count = Counter(fused.labels.tolist())
    assert set(count) == {"asteroid", "AGN", "VS", "bogus", "Ia", "II", "Ibc", "IIn", "SLSN-I"}
    types = ("Ia", "II", "Ibc", "IIn", "SLSN-I")
    assert fused.left_out[histories.UNTYPED] == 146 - sum(count[name] for name in types)
    packets = {f"ztf/{path.name}" for path in (shared / "data" / "ztf").glob("*.tar.gz")}
    assert set(fused.files) == {*dataset.STAMPS, *dataset.LIGHT_CURVES, *packets}, "with their digests"


def test_a_history_ends_before_its_alert_and_goes_a_month_back(fused) -> None:
    history = fused.table["history"].combine_chunks()
    row = np.repeat(np.arange(len(fused)), history.value_lengths().to_numpy())
    days = history.values.field("mjd").to_numpy() - fused.table["mjd"].to_numpy()[row]
    assert len(days) > 5000
    assert np.mean((days < 0) & (days > -31)) > 0.99, "but for a few packets that somebody else rewrote"


def test_without_packets_and_light_curves_there_is_no_history(little) -> None:
    found = histories.with_histories(dataset.stamps(little), little / "nowhere")
    assert found.table["history"].combine_chunks().value_lengths().to_numpy().max() == 0


def test_a_network_of_both_is_judged_by_a_folder_of_both(little) -> None:
    found = frozen.read(little, CLASSES, complete=False)
    assert set(found.files) == {*dataset.STAMPS, *dataset.LIGHT_CURVES}
    assert found.table["cutouts"].null_count == 0
    assert found.table["history"].combine_chunks().value_lengths().to_numpy().max() > 0
    assert {"asteroid", "VS"} < set(found.labels.tolist()) <= set(CLASSES)
