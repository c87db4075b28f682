"""Real ZTF packets to the alert table: these are the numbers."""

from __future__ import annotations

import io
import math

import fastavro
import numpy as np
import pytest
from astropy.time import Time

from broker.packets import schema
from broker.packets.decode import Decoded, decode, decode_reference
from broker.packets.survey import survey
from broker.packets.ztf import SURVEY

ZTF = survey("ztf")


@pytest.fixture(scope="module")
def decoded(ztf_packets) -> Decoded:
    return decode(ZTF, [packet for _, packet in ztf_packets], cutouts=True)


@pytest.fixture(scope="module")
def rows(decoded) -> dict[int, dict]:
    return {row["alert_id"]: row for row in decoded.alerts.drop(["cutouts"]).to_pylist()}


def test_the_survey_is_found_by_its_name():
    assert survey("ztf") is SURVEY


def test_every_real_packet_is_an_alert_in_the_packets_order(decoded, ztf_packets):
    assert decoded.failures == []
    assert decoded.index.tolist() == list(range(1144))
    names = [int(name.rpartition("/")[2].removesuffix(".avro")) for name, _ in ztf_packets]
    assert decoded.alerts["alert_id"].to_pylist() == names
    schema.assert_alerts(decoded.alerts.schema)


def test_all_of_them_go_the_fast_way(decoded):
    assert "slow_packets" not in decoded.counts


def test_a_detection_is_a_signed_flux_at_mid_exposure_in_tai(rows):
    """isdiffpos f, magpsf 14.283452987670898, sigmapsf 0.038736678659915924, jd 2458451.7519213 (UTC)."""
    row = rows[697251920015010010]
    assert row["object_id"] == "ZTF18abyouwp"
    assert row["survey"] == "ztf"
    assert (row["ra"], row["dec"], row["band"], row["rights"]) == (26.8566983, -26.9677112, "g", "public")
    assert row["flux"] == pytest.approx(-7024979.38)
    assert row["flux_err"] == pytest.approx(250635.806)
    assert row["mjd"] == pytest.approx(58451.2519213 + (37 + 15) / 86400, abs=1e-9)
    assert row["packet_schema"].startswith("3.2/")


def test_times_agree_with_astropy(decoded):
    source = decoded.alerts["source"].combine_chunks()
    jd = source.field("jd").to_numpy(zero_copy_only=False)
    tai = Time(jd, format="jd", scale="utc").tai.mjd + 15 / 86400
    assert np.abs(decoded.alerts["mjd"].to_numpy() - tai).max() < 1e-9


def test_history_has_detections_and_limits_in_order_of_time(rows):
    """The last three of prv_candidates: limit in r, detection in g of 15.4542 +- 0.0586, limit in r."""
    limit, detection, last = rows[697251920015010010]["history"][-3:]
    assert (limit["kind"], limit["band"], limit["flux"]) == ("limit", "r", None)
    assert limit["flux_err"] == pytest.approx(3631e9 * 10 ** (-0.4 * 19.113300323486328) / 5)
    assert (detection["kind"], detection["band"]) == ("detection", "g")
    flux = 3631e9 * 10 ** (-0.4 * 15.45419979095459)
    assert detection["flux"] == pytest.approx(flux)
    assert detection["flux_err"] == pytest.approx(flux * 0.05859300121665001 * math.log(10) / 2.5)
    assert detection["mjd"] == pytest.approx(58437.2298727 + 52 / 86400, abs=1e-9)
    assert last["kind"] == "limit"


def test_forced_photometry_is_counts_times_each_points_zero_point(rows, ztf_packets):
    packet = next(p for name, p in ztf_packets if "2475433850015015001" in name)
    points = next(fastavro.reader(io.BytesIO(packet)))["fp_hists"]
    own = rows[2475433850015015001]["mjd"]
    expected = sorted(
        (p["jd"] - 2400000.5 + 52 / 86400, p["forcediffimflux"] * 3631e9 * 10 ** (-0.4 * p["magzpsci"]))
        for p in points
        if p["forcediffimflux"] > -99999
    )
    forced = [p for p in rows[2475433850015015001]["history"] if p["kind"] == "forced"]
    assert [(p["mjd"], p["flux"]) for p in forced] == [
        (pytest.approx(mjd, abs=1e-9), pytest.approx(flux)) for mjd, flux in expected if mjd < own - 1e-9
    ]
    assert len(forced) == 7
    assert all(p["flux_err"] > 0 for p in forced)


def test_history_lies_before_the_alerts_own_detection(rows):
    for row in rows.values():
        times = [point["mjd"] for point in row["history"]]
        assert times == sorted(times)
        assert all(mjd < row["mjd"] for mjd in times)


def test_source_is_the_surveys_candidate_untouched(rows, ztf_packets):
    for k in (0, 350, 500, 1143):
        candidate = next(fastavro.reader(io.BytesIO(ztf_packets[k][1])))["candidate"]
        source = rows[candidate["candid"]]["source"]
        assert {name: source[name] for name in candidate} == candidate


def test_the_packet_is_rebuilt_byte_by_byte(decoded, ztf_packets):
    rows = decoded.alerts.select([*schema.CUTOUTS, "packet", "packet_cuts"]).to_pylist()
    for row, (_, packet) in zip(rows, ztf_packets, strict=True):
        assert schema.datum(row) == ZTF.split(packet, None).body
        assert len(row["packet"]) < len(packet) / 2
        assert min(row["packet_cuts"]) > 0


def test_every_writer_schema_comes_with_its_json(decoded, ztf_packets):
    assert set(decoded.schemas) == set(decoded.alerts["packet_schema"].to_pylist())
    for _, packet in ztf_packets[::100]:
        json = fastavro.reader(io.BytesIO(packet)).metadata["avro.schema"]
        assert json in decoded.schemas.values()


def test_fast_path_and_reference_agree_on_a_mixture_of_schemas(ztf_packets):
    packets = [packet for _, packet in ztf_packets[::60]]
    fast, slow = decode(ZTF, packets), decode_reference(ZTF, packets)
    assert slow.counts == {"slow_packets": len(packets)}
    assert fast.alerts.equals(slow.alerts.cast(fast.alerts.schema))


def test_healpix_pixels_are_those_of_the_positions(rows):
    import hpgeom

    ra, dec = hpgeom.pixel_to_angle(1 << 29, rows[697251920015010010]["hpx29"])
    assert ra == pytest.approx(26.8566983, abs=1e-7)
    assert dec == pytest.approx(-26.9677112, abs=1e-7)


def test_no_packets_give_an_empty_alert_table():
    none = decode(ZTF, [], cutouts=True)
    assert none.alerts.num_rows == 0
    assert len(none.index) == 0
    schema.assert_alerts(none.alerts.schema)
