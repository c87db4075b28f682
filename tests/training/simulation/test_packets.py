"""Simulated packets: the same every time, valid packets of ZTF, and physically sound."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import Any

import fastavro
import numpy as np
import pytest
from isal import igzip

from broker.packets import ztf
from broker.packets.cutouts import with_cutouts
from broker.packets.decode import decode, decode_reference
from training.simulation import packets
from training.simulation.targets import CLASSES, SUPERNOVA_SHARE, SUPERNOVAE
from training.simulation.visits import PIXEL

CUTOUTS = ("cutoutScience", "cutoutTemplate", "cutoutDifference")


def pixels(stamp: bytes) -> np.ndarray:
    data = igzip.decompress(stamp)
    cards = {data[i : i + 8].decode().strip(): data[i + 9 : i + 80] for i in range(0, 2880, 80)}
    height, width = int(cards["NAXIS2"]), int(cards["NAXIS1"])
    return np.frombuffer(data, ">f4", height * width, 2880).reshape(height, width).astype(float)


def opened(packet: bytes) -> dict[str, Any]:
    alert: Any = next(fastavro.reader(io.BytesIO(packet)))
    return alert


def noise(image: np.ndarray) -> float:
    """Robust standard deviation of a pixel."""
    image = image[np.isfinite(image)]
    return float(1.4826 * np.median(np.abs(image - np.median(image))))


@pytest.fixture(scope="module")
def simulated():
    return list(packets(300, 42))


@pytest.fixture(scope="module")
def alerts(simulated):
    return [opened(one.packet) for one in simulated]


@pytest.fixture(scope="module")
def images(alerts):
    return [[pixels(alert[name]["stampData"]) for name in CUTOUTS] for alert in alerts]


def test_the_same_seed_makes_the_same_bytes(simulated):
    assert [one.packet for one in packets(30, 42)] == [one.packet for one in simulated[:30]]
    assert not {one.truth["objectId"] for one in packets(30, 43)} & {
        one.truth["objectId"] for one in simulated
    }


def test_every_class_comes_with_its_truth(simulated, alerts):
    assert Counter(one.truth["class"] for one in simulated).keys() == set(CLASSES)
    assert len({one.truth["candid"] for one in simulated}) == len(simulated)
    for one, alert in zip(simulated, alerts, strict=True):
        assert (one.truth["candid"], one.truth["objectId"]) == (alert["candid"], alert["objectId"])
        assert one.truth["jd"] == alert["candidate"]["jd"]


def test_the_schema_is_that_of_the_survey(simulated, shared):
    """Field names, order and types of the published 4.02; in history what a visit without detection lacks."""
    folder = shared / "data" / "ztf" / "schemas" / "4.02"
    ours: Any = fastavro.reader(io.BytesIO(simulated[0].packet)).writer_schema
    records = {f["name"]: f["type"] for f in ours["fields"]}
    pairs = {
        "candidate": records["candidate"],
        "prv_candidate": records["prv_candidates"][1]["items"],
        "fp_hist": records["fp_hists"][1]["items"],
        "cutout": records["cutoutScience"][1],
    }
    for name, found in pairs.items():
        published: Any = json.loads((folder / f"{name}.avsc").read_text())
        expected = [(f["name"], f["type"]) for f in published["fields"]]
        assert [(f["name"], f["type"]) for f in found["fields"]] == expected


def test_they_decode_by_the_fast_path_as_by_the_reference(simulated, alerts):
    block = [one.packet for one in simulated[:100]]
    fast, slow = decode(ztf.SURVEY, block), decode_reference(ztf.SURVEY, block)
    assert not fast.failures
    assert not slow.failures
    assert fast.alerts.column("alert_id").to_pylist() == [one.truth["candid"] for one in simulated[:100]]
    assert fast.alerts.select(["mjd", "flux", "history"]).equals(
        slow.alerts.select(["mjd", "flux", "history"])
    )
    assert with_cutouts(fast.alerts).column("cutout_shape").to_pylist().count([63, 63]) > 90


def test_the_difference_image_has_the_light_that_the_columns_tell(simulated, alerts, images):
    """A PSF fit by hand at the centre agrees with magpsf, always bright side up; so does the truth."""
    y, x = np.mgrid[-6:7, -6:7]
    checked = 0
    for one, alert, (_, _, difference) in zip(simulated, alerts, images, strict=True):
        c = alert["candidate"]
        trailed = one.truth["parameters"].get("trail_pixels", 0) > 1
        if difference.shape != (63, 63) or one.truth["class"] == "bogus" or trailed:
            continue
        told = 10 ** (0.4 * (c["magzpsci"] - c["magpsf"]))
        box = np.nan_to_num(difference[25:38, 25:38])
        inside = box[x**2 + y**2 < 36]
        assert inside.sum() > 0, "what changed is bright, whatever isdiffpos says"
        assert inside.sum() == pytest.approx(told, abs=0.35 * told + 120 * noise(difference))
        assert (c["isdiffpos"] == "t") == (one.truth["flux_dn"] > 0)
        sign = 1 if c["isdiffpos"] == "t" else -1
        sigma = told * c["sigmapsf"] / 1.0857
        assert abs(sign * told - one.truth["flux_dn"]) < 5 * sigma + 0.3 * told * (c["elong"] > 1.2)
        checked += 1
    assert checked > 200


def test_stars_vary_both_ways_and_supernovae_and_asteroids_only_brighten(simulated, alerts):
    ways: dict[str, set[str]] = {}
    for one, alert in zip(simulated, alerts, strict=True):
        ways.setdefault(one.truth["class"], set()).add(alert["candidate"]["isdiffpos"])
    assert ways["VS"] == ways["AGN"] == {"t", "f"}
    assert ways["SN"] == ways["asteroid"] == {"t"}


def test_variable_stars_are_in_the_template_and_asteroids_are_not(simulated, alerts, images):
    for one, alert, (_, template, _) in zip(simulated, alerts, images, strict=True):
        if template.shape != (63, 63):
            continue
        centre = np.nanmax(template[30:33, 30:33]) - np.nanmedian(template)
        if one.truth["class"] == "VS":
            assert centre > 5 * noise(template)
            assert alert["candidate"]["distnr"] < 1
        if one.truth["class"] == "asteroid":
            assert not any(p["candid"] for p in alert["prv_candidates"])


def test_noise_and_sky_are_those_of_the_survey(images, ztf_packets):
    """Medians of real packets and ours within 15 %: noise a pixel in each image, and the sky."""
    real = []
    for _, packet in ztf_packets[::12]:
        alert = opened(packet)
        real.append([pixels(alert[name]["stampData"]) for name in CUTOUTS])
    for i in (0, 2):
        ours, theirs = (np.median([noise(triple[i]) for triple in some]) for some in (images, real))
        assert ours == pytest.approx(theirs, rel=0.15)
    ours, theirs = (np.median([np.nanmedian(triple[0]) for triple in some]) for some in (images, real))
    assert ours == pytest.approx(theirs, rel=0.35)
    ours, theirs = (np.median([noise(triple[1]) for triple in some]) for some in (images, real))
    assert ours == pytest.approx(theirs, rel=0.6), "the template is several times deeper"


def test_packets_are_as_large_as_real_ones(simulated, ztf_packets):
    ours, theirs = (
        np.median(sizes) for sizes in ([len(o.packet) for o in simulated], [len(p) for _, p in ztf_packets])
    )
    assert ours == pytest.approx(theirs, rel=0.25)


def test_some_stamps_are_masked_and_some_short_the_same_in_all_three(images):
    masked = [np.isnan(triple[0]).any() for triple in images]
    short = [triple[0].shape != (63, 63) for triple in images]
    assert 0.02 < np.mean(masked) < 0.25
    assert 0 < np.mean(short) < 0.06
    for science, template, difference in images:
        assert science.shape == template.shape == difference.shape
        assert (np.isnan(science) == np.isnan(difference)).all()


def test_history_is_thirty_days_of_visits_before_the_alert(simulated, alerts):
    named = {(alert["objectId"], alert["candid"]): alert["candidate"] for alert in alerts}
    met = 0
    for alert in alerts:
        jd, history = alert["candidate"]["jd"], alert["prv_candidates"] or []
        times = [p["jd"] for p in history]
        assert times == sorted(times)
        assert all(jd - 30 <= t < jd for t in times)
        assert len(alert["fp_hists"] or []) == len(history)
        for point in history:
            assert (point["magpsf"] is None) == (point["candid"] is None)
            if earlier := named.get((alert["objectId"], point["candid"])):
                assert point["magpsf"] == earlier["magpsf"]
                met += 1
        assert alert["candidate"]["ndethist"] == 1 + sum(p["candid"] is not None for p in history)
    assert met > 0, "some objects have several alerts, and the later ones tell of the earlier"


def test_catalogues_tell_of_the_sources_that_are_in_the_images(alerts, images):
    """Each nearest reference source that is bright and inside the stamp is a peak of the template there."""
    checked = 0
    for alert, (_, template, _) in zip(alerts, images, strict=True):
        c = alert["candidate"]
        if template.shape != (63, 63) or not 13 < c["magnr"] < 18 or c["distnr"] > 20:
            continue
        x = (c["ra"] - c["ranr"]) * np.cos(np.radians(c["dec"])) * 3600 / PIXEL
        y = (c["decnr"] - c["dec"]) * 3600 / PIXEL
        column, row = round(31 + x), round(31 + y)
        near = template[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
        if not np.isfinite(near).all():
            continue
        assert near.max() > np.nanmedian(template) + 10 * noise(template)
        checked += 1
    assert checked > 30


def test_rights_are_mostly_public(alerts):
    share = np.mean([alert["candidate"]["programid"] == 1 for alert in alerts])
    assert 0.85 < share < 1
    shared_with_us = [
        point["programid"]
        for alert in alerts
        for point in (alert["prv_candidates"] or []) + (alert["fp_hists"] or [])
        if alert["candidate"]["programid"] == 1
    ]
    assert set(shared_with_us) == {1}, "a public packet tells nothing of a partnership's visits"


def test_supernova_types_have_shares():
    assert len(SUPERNOVAE) == len(SUPERNOVA_SHARE)
    assert sum(SUPERNOVA_SHARE) == pytest.approx(1)


def test_the_network_trained_on_real_stamps_recognises_simulated_ones(simulated):
    """Chance would be one in five. AGN are left out: it takes half of the real ones for stars, too."""
    from models.contract import open_model, shipped_version

    table = with_cutouts(decode(ztf.SURVEY, [one.packet for one in simulated]).alerts)
    model = open_model(shipped_version("stamps"))
    said = model.score(table)
    best = np.argmax([said[name].to_numpy() for name in model.classes], axis=0)
    truth = np.array([one.truth["class"] for one in simulated])
    for name, floor in {"asteroid": 0.6, "SN": 0.5, "VS": 0.7, "bogus": 0.35}.items():
        found = np.mean(best[truth == name] == model.classes.index(name))
        assert found > floor, f"{found:.2f} of {name}"
