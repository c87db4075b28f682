"""What is published, byte by byte, against fastavro's reading of the packets that came in."""

import io
import json
from dataclasses import replace

import fastavro
import pyarrow as pa
import pytest

from broker.packets.decode import decode
from broker.packets.registry import Folder
from broker.packets.schema import SCORES as SCORES_TYPE
from broker.packets.schema import datum
from broker.packets.survey import survey as survey_of
from broker.publish.encode import Outputs, TopicRule, encode, output_schemas
from broker.publish.schemas import extended
from tests.publish.tables import FAILED, INGESTED, LIGHTCURVE, STAMPS, read, row, table, writer_schemas

ONLY_ALL = Outputs(classes=None)
SCORES = [
    {
        "model": "stamps",
        "version": "1",
        "top_class": "SN",
        "probability": 0.75,
        "classes": [
            {"class": name, "probability": p}
            for name, p in zip(STAMPS["classes"], STAMPS["probabilities"], strict=True)
        ],
        "reason": None,
    },
    {
        "model": "lightcurve",
        "version": "3",
        "top_class": "SLSN-I",
        "probability": 0.5,
        "classes": [
            {"class": name, "probability": p}
            for name, p in zip(LIGHTCURVE["classes"], LIGHTCURVE["probabilities"], strict=True)
        ],
        "reason": None,
    },
]


def headers(record):
    return json.loads(record["headers"])


def decoded(records: pa.Table):
    """Each record's alert, by the schema that its header names."""
    schemas = output_schemas(records)
    return [read(schemas[headers(r)["schema"]], r["value"]) for r in records.to_pylist()]


def published(originals, outputs=ONLY_ALL, **changes):
    return encode(table([row(o, **changes) for o in originals]), writer_schemas(originals), outputs)


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_a_full_packet_is_the_original_datum_and_our_fields_after_it(survey, request):
    originals = request.getfixturevalue(survey)
    records = published(originals)
    assert len(records) == len(originals)
    for original, value, alert in zip(originals, records["value"].to_pylist(), decoded(records), strict=True):
        assert value[: len(original.datum)] == original.datum
        assert alert.pop("rayfinch_ingested_at") == INGESTED
        assert alert.pop("rayfinch_scores") == SCORES
        assert repr(alert) == repr(original.alert)  # repr, because NaN is not equal to itself


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_a_packet_without_cutouts_is_the_rest_of_it(survey, request):
    originals = request.getfixturevalue(survey)
    records = published(originals, Outputs(all=TopicRule("no-cutouts"), classes=None))
    for original, alert in zip(originals, decoded(records), strict=True):
        assert alert.pop("rayfinch_ingested_at") == INGESTED
        assert alert.pop("rayfinch_scores") == SCORES
        rest = {name: value for name, value in original.alert.items() if not name.startswith("cutout")}
        assert repr(alert) == repr(rest)


def test_a_slim_packet_is_a_record_of_our_own(ztf):
    (alert,) = decoded(published(ztf[:1], Outputs(all=TopicRule("slim"), classes=None), flux_err=2.5))
    expected = row(ztf[0])
    assert alert == {
        **{name: expected[name] for name in ("survey", "alert_id", "object_id", "mjd", "ra", "dec", "band")},
        "flux": 1234.5,
        "flux_err": 2.5,
        "rights": "public",
        "rayfinch_ingested_at": INGESTED,
        "rayfinch_scores": SCORES,
    }


@pytest.mark.parametrize("packet", ["full", "no-cutouts", "slim"])
def test_what_may_be_null_is_null(ztf, packet):
    outputs = Outputs(all=TopicRule(packet), classes=None)
    (alert,) = decoded(published(ztf[:1], outputs, flux=None, flux_err=None, ingested_at=None, scores=None))
    assert alert["rayfinch_ingested_at"] is None
    assert alert["rayfinch_scores"] == []
    if packet == "slim":
        assert alert["flux"] is alert["flux_err"] is None


@pytest.mark.parametrize("alert_id", [0, -1, 63, 64, 2**53 + 1, 2**63 - 1, -(2**63)])
def test_int64_ids_are_intact(ztf, alert_id):
    records = published(ztf[:1], Outputs(all=TopicRule("slim"), classes=None), alert_id=alert_id)
    assert decoded(records)[0]["alert_id"] == alert_id


def test_a_packet_whose_stamps_are_null(ztf):
    alert = {**ztf[0].alert, "cutoutScience": None, "cutoutDifference": None}
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(json.loads(ztf[0].schema_json)), alert)
    original = ztf[0]._replace(datum=stream.getvalue(), alert=alert)
    for packet in ("full", "no-cutouts"):
        (read_back,) = decoded(published([original], Outputs(all=TopicRule(packet), classes=None)))
        assert read_back["candidate"] == alert["candidate"]
        assert packet == "no-cutouts" or read_back["cutoutTemplate"] == alert["cutoutTemplate"]


def test_a_model_that_failed_says_why_and_makes_no_topic(ztf):
    records = published(ztf[:1], Outputs(), scores=[STAMPS, FAILED])
    assert records["topic"].to_pylist() == ["rayfinch.ztf.all", "rayfinch.ztf.stamps.sn"]
    failed = decoded(records)[0]["rayfinch_scores"][1]
    assert failed == {
        "model": "lightcurve",
        "version": "3",
        "top_class": None,
        "probability": None,
        "classes": [],
        "reason": "no answer in 10 s",
    }


def test_a_probability_that_is_no_number_is_never_the_top(ztf):
    nan = float("nan")
    some = {**STAMPS, "probabilities": [nan, 0.25, None, 0.5, nan]}
    none = {**STAMPS, "probabilities": [nan] * 5}
    first, second = decoded(published(ztf[:1], scores=[some, none]))[0]["rayfinch_scores"]
    assert (first["top_class"], first["probability"]) == ("VS", 0.5)
    assert (second["top_class"], second["probability"]) == (None, None)


def test_classes_without_their_probabilities_are_refused(ztf):
    with pytest.raises(ValueError, match="stamps version 1"):
        published(ztf[:1], scores=[{**STAMPS, "probabilities": [0.5, 0.5]}])


def test_an_alert_goes_to_its_top_classes_above_their_thresholds(ztf):
    def topics(**rules):
        return published(ztf[:1], Outputs(**rules))["topic"].to_pylist()

    sn, slsn = "rayfinch.ztf.stamps.sn", "rayfinch.ztf.lightcurve.slsn-i"
    assert topics() == ["rayfinch.ztf.all", sn, slsn]
    assert topics(threshold=0.6) == ["rayfinch.ztf.all", sn]
    assert topics(threshold=0.6, thresholds={"lightcurve": 0.4}) == ["rayfinch.ztf.all", sn, slsn]
    assert topics(threshold=0.8, all=None) == []
    assert topics(classes=None, topics={"ztf.stamps.*": TopicRule("full")}) == ["rayfinch.ztf.all", sn]


@pytest.mark.parametrize("rights", ["partnership", "caltech", "PUBLIC", "public ", ""])
def test_what_is_not_public_is_in_restricted_topics_only(mixed, rights):
    rules = Outputs(
        topics={"ztf.stamps.sn": TopicRule("full", "fink"), "*.lightcurve.*": TopicRule("no-cutouts")}
    )
    records = encode(
        table([row(o, rights="public" if i % 3 else rights) for i, o in enumerate(mixed)]),
        writer_schemas(mixed),
        rules,
    ).to_pylist()
    restricted = {str(row(o)["object_id"]) for i, o in enumerate(mixed) if i % 3 == 0}
    public = {str(row(o)["object_id"]) for i, o in enumerate(mixed) if i % 3}
    assert len(records) == 3 * len(mixed)
    for i, record in enumerate(records):
        assert (".restricted." in record["topic"]) == (i // 3 % 3 == 0)
    assert {r["key"].decode() for r in records if ".restricted.all" in r["topic"]} == restricted
    assert {r["key"].decode() for r in records if r["topic"].endswith(("ztf.all", "lsst.all"))} == public


def test_rows_keep_their_order_whatever_their_schemas_and_chunks(mixed):
    rows = table([row(o) for o in mixed])
    pieces = pa.concat_tables([rows.slice(0, 5), rows.slice(5, 1), rows.slice(6)])
    records = encode(pieces, writer_schemas(mixed), ONLY_ALL)
    assert records["key"].to_pylist() == [row(o)["object_id"].encode() for o in mixed]
    assert [v[: len(o.datum)] for v, o in zip(records["value"].to_pylist(), mixed, strict=True)] == [
        o.datum for o in mixed
    ]
    for o, record in zip(mixed, records.to_pylist(), strict=True):
        archived = row(o)
        assert headers(record) == {
            "schema": extended(o.schema_json, archived["survey"], "full").id,
            "survey": archived["survey"],
            "packet_schema": archived["packet_schema"],
            "batch": archived["batch"],
        }


def test_a_table_that_has_no_batch_yet_has_no_such_header(ztf):
    rows = table([row(ztf[0])]).drop_columns(["batch"])
    (record,) = encode(rows, writer_schemas(ztf[:1]), ONLY_ALL).to_pylist()
    assert set(headers(record)) == {"schema", "survey", "packet_schema"}


def test_an_empty_table_makes_no_records():
    records = encode(table([]), {}, Outputs())
    assert len(records) == 0
    assert output_schemas(records) == {}


def test_the_datum_is_the_one_that_the_archive_rebuilds(mixed):
    for original in mixed:
        assert datum(row(original)) == original.datum


def test_fink_framing_has_the_schema_as_the_key_and_the_survey_s_ids(mixed):
    for packet in ("full", "no-cutouts", "slim"):
        records = published(mixed, replace(ONLY_ALL, all=TopicRule(packet, "fink")))
        for o, record in zip(mixed, records.to_pylist(), strict=True):
            alert = read(record["key"].decode(), record["value"])
            ids = ("objectId", "candid") if row(o)["survey"] == "ztf" else ("diaSourceId",)
            assert [alert[name] for name in ids] == [o.alert[name] for name in ids]


def test_an_object_s_alerts_share_a_partition_in_either_framing(ztf):
    plain, fink = (
        published(ztf[:50], Outputs(all=TopicRule("slim", framing), classes=None))
        for framing in ("plain", "fink")
    )
    assert plain["shard"] == fink["shard"]
    assert len(set(plain["shard"].to_pylist())) > 10


def test_a_writer_schema_that_is_missing_is_named(ztf):
    with pytest.raises(KeyError, match=row(ztf[0])["packet_schema"]):
        encode(table([row(ztf[0])]), {}, ONLY_ALL)


def test_a_stamp_that_is_missing_is_named(ztf):
    with pytest.raises(
        ValueError, match=f"alert {ztf[0].alert['candid']} of ztf: it lacks the cutout_template"
    ):
        published(ztf[:1], cutout_template=None)


def test_the_decoder_s_own_tables_are_published_byte_for_byte(
    ztf_packets, ztf, lsst_wire, lsst, lsst_schemas
):
    for survey, packets, originals in (("ztf", ztf_packets[::25], ztf[::25]), ("lsst", lsst_wire, lsst[:70])):
        found = decode(survey_of(survey), [packet for _, packet in packets], Folder(lsst_schemas))
        scores = pa.array([[STAMPS]] * len(found.alerts), SCORES_TYPE)
        records = encode(found.alerts.append_column("scores", scores), found.schemas, ONLY_ALL)
        assert len(records) == len(originals)
        for original, value in zip(originals, records["value"].to_pylist(), strict=True):
            assert value[: len(original.datum)] == original.datum


def test_what_scores_in_the_shadow_leaves_the_house_nowhere(ztf):
    """The archive's column `shadow` is read by nothing that publishes."""
    originals = ztf[:3]
    alerts = table([row(o) for o in originals])
    secret = {"model": "m", "version": "challenger", "classes": ["a"], "probabilities": [1.0], "reason": None}
    shadowed = alerts.append_column("shadow", pa.array([[secret]] * 3, SCORES_TYPE))
    outputs = Outputs(prefix="p")
    plain = encode(alerts, writer_schemas(originals), outputs)
    assert encode(shadowed, writer_schemas(originals), outputs) == plain
    assert not any(b"challenger" in value for value in plain["value"].to_pylist())
