"""Simulated LSST alerts: the same every time, valid by every published schema, and true to their truth."""

from __future__ import annotations

import io
import json
import struct
import warnings
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from typer.testing import CliRunner

from broker.packets.decode import decode
from broker.packets.files import read_packets
from broker.packets.registry import Folder
from broker.packets.survey import survey
from rayfinch.cli import app
from training.simulation import packets as ztf_packets
from training.simulation.lsst import BANDS, FAINTER, packets
from training.simulation.lsst_images import LARGEST, SMALLEST
from training.simulation.targets import CLASSES
from training.simulation.wire import WireSchema

CUTOUTS = ("cutoutDifference", "cutoutScience", "cutoutTemplate")
IDS = (700, 701, 702, 703, 704, 800, 900, 1000, 1100)


def schema_of(folder: Path, schema_id: int) -> WireSchema:
    return WireSchema.parsed(schema_id, Folder(folder).schema(schema_id))


def opened(message: bytes, schema: WireSchema) -> dict[str, Any]:
    assert struct.unpack(">bI", message[:5]) == (0, schema.schema_id)
    stream = io.BytesIO(message[5:])
    alert: Any = fastavro.schemaless_reader(stream, schema.alert, None)
    assert not stream.read(), "nothing follows the datum"
    return alert


def hdus(stamp: bytes) -> Any:
    """Opened by astropy, which must find nothing to mend."""
    with warnings.catch_warnings(action="error"):
        found = fits.open(io.BytesIO(stamp))
        found.verify("exception")
        return found


@pytest.fixture(scope="module")
def schema(lsst_schemas):
    return schema_of(lsst_schemas, 900)


@pytest.fixture(scope="module")
def simulated(schema):
    return list(packets(150, 42, schema))


@pytest.fixture(scope="module")
def truths(simulated):
    return [one.truth for one in simulated]


@pytest.fixture(scope="module")
def alerts(simulated, schema):
    return [opened(one.packet, schema) for one in simulated]


@pytest.fixture(scope="module")
def decoded(simulated, lsst_schemas):
    return decode(survey("lsst"), [one.packet for one in simulated], Folder(lsst_schemas), cutouts=True)


def test_the_same_seed_makes_the_same_bytes(simulated, schema):
    assert [(one.packet, one.truth) for one in packets(15, 42, schema)] == [
        (one.packet, one.truth) for one in simulated[:15]
    ]
    others = {one.truth["objectId"] for one in packets(15, 43, schema)}
    assert not others & {one.truth["objectId"] for one in simulated}


def test_every_alert_decodes_and_agrees_with_its_truth(decoded, truths):
    assert not decoded.failures
    rows = decoded.alerts.to_pylist()
    assert {t["class"] for t in truths} == set(CLASSES)
    assert len({t["candid"] for t in truths}) == len(truths)
    for truth, row in zip(truths, rows, strict=True):
        assert (row["alert_id"], row["object_id"]) == (truth["candid"], truth["objectId"])
        assert row["band"] == BANDS[truth["fid"]]
        # The middle of 30 s, TAI
        assert row["mjd"] == pytest.approx(truth["jd"] - 2400000.5 + 52 / 86400, abs=1e-7)
        place = SkyCoord([row["ra"], truth["ra"]], [row["dec"], truth["dec"]], unit=units.deg)
        assert place[0].separation(place[1]).arcsec < 1
        assert abs(row["flux"]) > 5 * row["flux_err"]
        if truth["class"] != "bogus":
            assert np.sign(row["flux"]) == np.sign(truth["flux_njy"])


def test_fluxes_are_those_of_the_truth_and_of_lsst_s_sensitivity(decoded, truths):
    rows = decoded.alerts.to_pylist()
    fluxes = np.abs([row["flux"] for row in rows])
    assert np.quantile(fluxes, 0.02) > 1e3
    assert np.quantile(fluxes, 0.98) < 1e6
    pulls = [
        (row["flux"] - truth["flux_njy"]) / row["flux_err"]
        for truth, row in zip(truths, rows, strict=True)
        if truth["class"] in ("SN", "AGN")
    ]
    assert abs(np.median(pulls)) < 0.5
    assert 0.5 < np.diff(np.quantile(pulls, [0.16, 0.84]))[0] / 2 < 1.8


def test_the_targets_are_those_of_ztf_s_alerts_further_away(truths):
    ours = {t["parameters"]["mean_mag"]: t for t in truths if t["class"] == "VS"}
    theirs = [one.truth for one in ztf_packets(20, 42) if one.truth["class"] == "VS"]
    pairs = [(t, ours.get(t["parameters"]["mean_mag"] + FAINTER)) for t in theirs]
    met = [(ztf, lsst) for ztf, lsst in pairs if lsst]
    assert met, "where neither survey drew the target anew"
    for ztf, lsst in met:
        assert lsst["parameters"]["period_days"] == ztf["parameters"]["period_days"]
        here, there = (SkyCoord(t["ra"], t["dec"], unit=units.deg).galactic.b.deg for t in (lsst, ztf))
        assert here == pytest.approx(-there), "as far from the Galactic plane, in the south"


def test_the_columns_of_a_source_agree_with_one_another(alerts):
    for alert in alerts:
        source = alert["diaSource"]
        assert alert["diaSourceId"] == source["diaSourceId"]
        assert source["isNegative"] == (source["psfFlux"] < 0)
        assert source["snr"] == pytest.approx(abs(source["psfFlux"]) / source["psfFluxErr"], rel=1e-5)
        changed = source["scienceFlux"] - source["templateFlux"]
        assert changed == pytest.approx(source["psfFlux"], abs=1e-3 * abs(source["scienceFlux"]) + 1)
        assert source["timeProcessedMjdTai"] > source["midpointMjdTai"]
        assert 0 <= source["reliability"] <= 1
        assert not any(value for name, value in source.items() if "flag" in name.lower())


def test_history_is_sorted_earlier_and_of_the_same_object(alerts, decoded, truths):
    own = {alert["diaSourceId"]: alert["diaSource"] for alert in alerts}
    met = 0
    for truth, alert, row in zip(truths, alerts, decoded.alerts.to_pylist(), strict=True):
        times = [point["mjd"] for point in row["history"]]
        assert times == sorted(times)
        assert all(row["mjd"] - 30 < time < row["mjd"] for time in times)
        before = alert["prvDiaSources"] or []
        for earlier in before:
            assert str(earlier["diaObjectId"]) == truth["objectId"]
            assert abs(earlier["psfFlux"]) > 4.99 * earlier["psfFluxErr"]
            if earlier["diaSourceId"] in own:
                assert earlier == own[earlier["diaSourceId"]], "a source is told the same way later"
                met += 1
        if truth["class"] == "bogus":
            assert not before
        if alert["diaObject"]:
            first = [*before, alert["diaSource"]][0]
            assert alert["diaObject"]["nDiaSources"] == 1 + len(before)
            assert alert["diaObject"]["diaObjectId"] == first["diaSourceId"]
            assert alert["diaObject"]["firstDiaSourceMjdTai"] == first["midpointMjdTai"]
    assert met > 0, "some objects have several alerts"


def test_supernovae_and_asteroids_only_brighten_and_stars_vary_both_ways(alerts, truths):
    signs: dict[str, set[bool]] = {}
    for truth, alert in zip(truths, alerts, strict=True):
        signs.setdefault(truth["class"], set()).add(alert["diaSource"]["isNegative"])
    assert signs["SN"] == signs["asteroid"] == {False}
    assert signs["VS"] == {True, False}


def test_asteroids_have_no_dia_object_but_an_ss_source(alerts, truths):
    for truth, alert in zip(truths, alerts, strict=True):
        source, solar = alert["diaSource"], alert["ssSource"]
        if truth["class"] != "asteroid":
            assert solar is None
            assert alert["diaObject"]["diaObjectId"] == source["diaObjectId"]
            continue
        assert alert["diaObject"] is None
        assert not alert["prvDiaSources"]
        assert not alert["prvDiaForcedSources"]
        assert solar["ssObjectId"] == source["ssObjectId"] == int(truth["objectId"])
        place = SkyCoord(source["ra"], source["dec"], unit=units.deg)
        assert solar["galacticL"] == pytest.approx(place.galactic.l.deg, abs=0.01)
        assert solar["galacticB"] == pytest.approx(place.galactic.b.deg, abs=0.01)
        ecliptic = place.barycentricmeanecliptic
        assert solar["eclipticLambda"] == pytest.approx(ecliptic.lon.deg, abs=0.02)
        assert solar["eclipticBeta"] == pytest.approx(ecliptic.lat.deg, abs=0.02)


def test_stamps_are_laid_out_as_the_survey_s(alerts, lsst_containers):
    real: Any = next(fastavro.reader(io.BytesIO(lsst_containers[0][1])))
    sizes = set()
    for alert in alerts[:40]:
        for name in CUTOUTS:
            ours, theirs = hdus(alert[name]), hdus(real[name])
            assert [h.name for h in ours] == [h.name for h in theirs]
            assert [list(h.header) for h in ours] == [list(h.header) for h in theirs]
            assert [h.data.dtype for h in ours] == [h.data.dtype for h in theirs]
            assert ours[0].header["BUNIT"] == "nJy"
            assert ours[2].data.sum() == pytest.approx(1)
            assert (np.isnan(ours[0].data) == np.isnan(ours[1].data)).all()
        shapes = {hdus(alert[name])[0].data.shape for name in CUTOUTS}
        assert len(shapes) == 1, "the template is as large as the others"
        sizes |= shapes
    assert (51, 51) in sizes
    assert all(height == width and SMALLEST <= height <= LARGEST for height, width in sizes)


def test_what_changed_is_in_the_middle_of_the_difference_image(alerts, truths):
    """The stamp's PSF, fitted in the middle of the stamp, has the flux of the columns."""
    bright = 0
    for truth, alert in zip(truths, alerts, strict=True):
        image, variance, psf = (hdu.data.astype(float) for hdu in hdus(alert["cutoutDifference"]))
        source = alert["diaSource"]
        if source["snr"] < 15 or truth["class"] == "bogus" or truth["parameters"].get("trail_pixels", 0) > 1:
            continue
        middle, half = (len(image) - 1) // 2, 7
        box = (slice(middle - half, middle + half + 1),) * 2
        image, variance = image[box], variance[box]
        psf = psf[20 - half : 21 + half, 20 - half : 21 + half]
        valid = np.isfinite(image)
        norm = (psf[valid] ** 2).sum()
        flux = (image * psf)[valid].sum() / norm
        error = np.sqrt((psf**2 * variance)[valid].sum()) / norm
        assert abs(flux) > 8 * error
        assert flux == pytest.approx(source["psfFlux"], abs=0.1 * abs(source["psfFlux"]) + 3 * error)
        bright += 1
    assert bright > 30


def test_the_noise_is_what_the_variance_says(alerts):
    ratios: dict[str, list[float]] = {name: [] for name in CUTOUTS}
    for alert in alerts:
        for name in ("cutoutDifference", "cutoutTemplate"):
            image, variance, _ = (hdu.data for hdu in hdus(alert[name]))
            faint = variance < np.nanmedian(variance) * 1.1
            deviation = np.abs(image[faint] - np.nanmedian(image[faint]))
            ratios[name].append(float(1.4826 * np.median(deviation) / np.sqrt(np.nanmedian(variance))))
    assert np.median(ratios["cutoutDifference"]) == pytest.approx(1, abs=0.1)
    assert np.median(ratios["cutoutTemplate"]) == pytest.approx(1, abs=0.25)


def test_some_pixels_are_masked(decoded):
    assert 0 < decoded.counts["nan_stamps"] < 0.3 * 3 * len(decoded.alerts)


@pytest.mark.parametrize("schema_id", IDS)
def test_every_published_schema_works(schema_id, lsst_schemas):
    schema = schema_of(lsst_schemas, schema_id)
    made = list(packets(12, 8, schema))
    found = decode(survey("lsst"), [one.packet for one in made], Folder(lsst_schemas), cutouts=True)
    assert not found.failures
    rows = found.alerts.to_pylist()
    assert "asteroid" in {one.truth["class"] for one in made}
    for one, row in zip(made, rows, strict=True):
        assert (row["alert_id"], row["object_id"]) == (one.truth["candid"], one.truth["objectId"])
        alert = opened(one.packet, schema)
        if one.truth["class"] == "asteroid":
            assert alert["diaObject"] is None
            assert alert["ssSource" if schema_id >= 800 else "ssObject"] is not None
        else:
            assert {point["kind"] for point in row["history"]} >= {"forced"}
            assert alert["diaObject"] is not None


def test_the_schemas_tested_are_all_there_are(lsst_schemas):
    assert {int(file.stem) for file in lsst_schemas.glob("*.avsc")} == set(IDS)


def test_another_schema_is_refused():
    with pytest.raises(ValueError, match="schema 3 is no Avro schema"):
        WireSchema.parsed(3, '{"type": "recoil"}')
    other = {"type": "record", "name": "other", "fields": [{"name": "candid", "type": "long"}]}
    with pytest.raises(ValueError, match="schema 3 is not that of an LSST alert: it has no diaSource"):
        packets(1, 0, WireSchema.parsed(3, json.dumps(other)))


def run(*args: object):
    return CliRunner().invoke(app, ["simulate", *map(str, args)])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--survey", "lsst"], "give the folder of their ID.avsc files"),
        (["--survey", "lsst", "--schemas", "nowhere"], "there is no folder of schemas at nowhere"),
        (["--survey", "lsst", "--schemas", "."], "has no ID.avsc file"),
        (["--survey", "sdss"], "the surveys are ztf and lsst"),
        (["--schema-id", "900"], "are for --survey lsst"),
    ],
)
def test_the_command_refuses_in_one_sentence(options, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*options, "--out", "night")
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert not (tmp_path / "night").exists()


def test_the_command_writes_what_decodes(tmp_path, lsst_schemas):
    """By default of the greatest id of the folder; a tarball is the same for the same seed."""
    options = ("--survey", "lsst", "--schemas", lsst_schemas, "--alerts", 6, "--seed", 3)
    for out in ("one.tar.gz", "two.tar.gz"):
        result = run(*options, "--out", tmp_path / out)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()
    folder = tmp_path / "night"
    assert run(*options, "--schema-id", 900, "--out", folder).exit_code == 0
    for out, truth, schema_id in (
        (tmp_path / "one.tar.gz", tmp_path / "one.truth.jsonl", max(IDS)),
        (folder, folder / "truth.jsonl", 900),
    ):
        told = [json.loads(line) for line in truth.read_text().splitlines()]
        written = {Path(name).name: packet for name, packet in read_packets([out])}
        assert sorted(written) == sorted(f"{row['candid']}.avro" for row in told)
        assert {packet[:5] for packet in written.values()} == {struct.pack(">bI", 0, schema_id)}
        assert not decode(survey("lsst"), list(written.values()), Folder(lsst_schemas)).failures
