"""Labelled alerts have the columns that the stream has, in its units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from broker.packets.schema import ALERTS, CUTOUT_TENSOR
from models import columns
from training import dataset
from training.dataset import DatasetError


def test_columns_are_those_of_the_alert_table(little: Path) -> None:
    for found in (dataset.stamps(little), dataset.light_curves(little)):
        for name in set(found.table.column_names) & set(ALERTS.names) - {"source"}:
            assert found.table.schema.field(name).type == ALERTS.field(name).type
        assert len(found.table) == len(found.labels) == len(found.groups)
    assert dataset.stamps(little).table.schema.field("cutouts").type == CUTOUT_TENSOR


def test_stamps_are_unpacked_padded_and_labelled(little: Path) -> None:
    found = dataset.stamps(little)
    assert found.left_out == {"TDE": 1, "other": 1, dataset.ALTERED: 1}
    assert sorted(set(found.labels)) == ["AGN", "SN", "VS", "asteroid", "bogus"]
    assert (found.labels == "VS").sum() > (found.labels == "SN").sum(), "cataclysmic variables are VS"
    images = columns.cutouts(found.table)
    assert np.isnan(images[0, 0]).sum() == 1, "the one pixel that is marked as none"
    assert np.isnan(images[1, 0]).all(axis=1).sum() == 12, "a stamp of 51 lines, in the middle"
    assert np.isnan(images[1, 0, :6]).all()
    assert not np.isnan(images[1, 0, 6]).any()


def test_alerts_whose_position_was_overwritten_are_left_out(little: Path) -> None:
    assert "ZTF1" in dataset.stamps(little).groups
    assert dataset.stamps(little).table["ra"].to_pylist().count(3.38) == 0


def test_labels_do_not_travel_in_the_source_columns(little: Path) -> None:
    names = {field.name for field in dataset.stamps(little).table.schema.field("source").type}
    assert not names & {"label", "label_source", "name_type", "gcvs_type", "alerce_paul", "mpc", "nprv"}


def test_fluxes_are_signed_nanojansky(little: Path) -> None:
    row = dataset.stamps(little).table.select(["flux", "flux_err", "source", "mjd"]).to_pylist()[0]
    source = row["source"]
    sign = 1 if source["isdiffpos"] == "t" else -1
    assert row["flux"] == pytest.approx(sign * 3631e9 * 10 ** (-0.4 * source["magpsf"]))
    assert row["flux_err"] == pytest.approx(abs(row["flux"]) * source["sigmapsf"] * np.log(10) / 2.5)
    assert row["mjd"] == pytest.approx(source["jd"] - 2400000.5 + 52 / 86400)


def test_a_light_curve_is_an_alert_at_its_last_detection(little: Path) -> None:
    found = dataset.light_curves(little)
    assert found.left_out == {"SN Ibn": 1}
    row = found.table.slice(3, 1).to_pylist()[0]
    assert row["mjd"] == pytest.approx(59000 + 30 + 52 / 86400)
    history = row["history"]
    assert [p["kind"] for p in history] == ["limit"] * 3 + ["detection"] * 7
    assert [p["flux"] is None for p in history] == [True] * 3 + [False] * 7
    assert all(p["mjd"] < row["mjd"] for p in history)


def test_missing_or_mismatched_files_are_told(little: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no stamps/alerts\.parquet and no stamps/stamps\.npz"):
        dataset.stamps(tmp_path)
    (tmp_path / "stamps").mkdir()
    (tmp_path / "stamps" / "alerts.parquet").write_bytes((little / "stamps" / "alerts.parquet").read_bytes())
    with np.load(little / "stamps" / "stamps.npz") as z:
        np.savez(tmp_path / "stamps" / "stamps.npz", **{**z, "candid": z["candid"][::-1]})
    with pytest.raises(DatasetError, match="not of the same alerts"):
        dataset.stamps(tmp_path)


def test_the_real_data_sets(shared: Path) -> None:
    stamps = dataset.stamps(shared / "data")
    assert {name: int((stamps.labels == name).sum()) for name in sorted(set(stamps.labels))} == {
        "AGN": 21,
        "SN": 146,
        "VS": 484,
        "asteroid": 263,
        "bogus": 152,
    }
    curves = dataset.light_curves(shared / "data")
    assert len(curves) == len(set(curves.groups)) == 5872
    assert sum(curves.left_out.values()) == 6084 - 5872
