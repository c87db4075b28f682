"""A survey is one file: a third one needs no other to be touched."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import broker.packets
from broker.packets.check import check, survey_of
from broker.packets.decode import decode
from broker.packets.schema import assert_alerts
from broker.packets.survey import survey, surveys
from tests.packets import made

ATLAS = '''
"""ATLAS: magnitudes of the difference image, MJD in UTC at mid-exposure, bands c and o."""

import polars as pl

from broker.packets import container
from broker.packets.lightcurve import FLUX_PER_MAG, magnitude_flux
from broker.packets.times import MJD_OF_JD, tai_mjd


class Atlas:
    name = "atlas"

    def recognises(self, fields):
        return {"dophot_id", "mjd"} <= fields

    def split(self, packet, schemas):
        return container.split(packet, schemas)

    def alerts(self, frame, schema):
        flux = magnitude_flux(pl.col("mag"))
        return frame.select(
            alert_id="dophot_id",
            object_id=pl.format("ATLAS{}", "object"),
            mjd=pl.Series(tai_mjd(frame["mjd"].to_numpy() + MJD_OF_JD)),
            ra="ra",
            dec="dec",
            band=pl.col("filter").replace_strict({"c": "g", "o": "r"}, default=None),
            flux=flux,
            flux_err=flux * pl.col("dmag") * FLUX_PER_MAG,
            history=pl.Series([[]] * frame.height, dtype=HISTORY),
            source=pl.struct("mag", "dmag", "filter"),
            rights=pl.lit("public"),
            version=pl.lit("1.0"),
            cutout_science="science",
            cutout_template=pl.lit(None, pl.Binary),
            cutout_difference="difference",
        )


POINT = {"mjd": pl.Float64, "band": pl.String, "flux": pl.Float64, "flux_err": pl.Float64, "kind": pl.String}
HISTORY = pl.List(pl.Struct(POINT))
SURVEY = Atlas()
'''
SCHEMA = {
    "type": "record",
    "name": "atlas",
    "fields": [
        {"name": "dophot_id", "type": "long"},
        {"name": "object", "type": "string"},
        *({"name": name, "type": "double"} for name in ("mjd", "ra", "dec", "mag", "dmag")),
        {"name": "filter", "type": "string"},
        {"name": "science", "type": ["null", "bytes"]},
        {"name": "difference", "type": ["null", "bytes"]},
    ],
}
ALERT = {
    "dophot_id": 7,
    "object": "24abc",
    "mjd": 60000.0,
    "ra": 10.0,
    "dec": -20.0,
    "mag": 20.0,
    "dmag": 0.1,
    "filter": "o",
    "science": made.stamp((40, 40)),
    "difference": made.stamp((40, 40), gzipped=False),
}


@pytest.fixture
def atlas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "atlas.py").write_text(ATLAS)
    monkeypatch.setattr(broker.packets, "__path__", [*broker.packets.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    yield survey("atlas")
    monkeypatch.delitem(importlib.import_module("sys").modules, "broker.packets.atlas")
    monkeypatch.delattr(broker.packets, "atlas", raising=False)


def test_a_third_survey_decodes_to_the_same_table(atlas):
    decoded = decode(atlas, [made.container(SCHEMA, ALERT)] * 3, cutouts=True)
    assert decoded.failures == []
    assert_alerts(decoded.alerts.schema)
    row = decoded.alerts.drop(["cutouts"]).to_pylist()[0]
    assert (row["survey"], row["alert_id"], row["object_id"], row["band"]) == ("atlas", 7, "ATLAS24abc", "r")
    assert row["mjd"] == pytest.approx(60000 + 37 / 86400, abs=1e-9)
    assert row["flux"] == pytest.approx(36310.0)
    assert row["cutout_shape"] == [40, 40]
    assert row["packet_cuts"][1] == -1
    assert row["packet_schema"].startswith("1.0/")


def test_and_is_recognised_among_the_others(atlas):
    packet = made.container(SCHEMA, ALERT)
    assert survey_of(packet, None) is atlas
    *_, report = check([("one", packet)])
    assert (report.decoded, report.mismatched, report.unreadable) == (1, {}, {})


def test_the_surveys_there_are():
    assert [s.name for s in surveys()] == ["lsst", "ztf"]


def test_an_unknown_survey_is_told_from_the_known():
    with pytest.raises(LookupError, match="no survey 'skymapper'; known are lsst, ztf"):
        survey("skymapper")
    with pytest.raises(LookupError, match="no survey 'container'"):
        survey("container")
