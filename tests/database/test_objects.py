"""Alerts summed up to objects: pure functions of the alert table."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from sqlalchemy import select

from broker.database.objects import object_rows, top_scores, upsert
from broker.database.tables import objects
from broker.packets.schema import SCORES

STAMPS = {"model": "stamps", "version": "1", "classes": ["SN", "VS"], "probabilities": [0.25, 0.75]}
SILENT = {"model": 'the "other"', "version": "2", "reason": "it's not there"}


def tops(*scores):
    return [json.loads(text) for text in top_scores(pa.array(scores, SCORES))]


def test_the_top_class_of_each_model_is_kept_with_its_version():
    [[top]] = tops([STAMPS])
    assert top == {"model": "stamps", "version": "1", "class": "VS", "probability": 0.75, "reason": None}


def test_a_model_that_could_not_score_says_why():
    [[_, silent]] = tops([STAMPS, SILENT])
    assert silent == {
        "model": 'the "other"',
        "version": "2",
        "class": None,
        "probability": None,
        "reason": "it's not there",
    }


def test_a_probability_that_is_no_number_is_none():
    assert tops([{**STAMPS, "probabilities": [float("nan"), 0.5]}])[0][0]["probability"] is None


def test_alerts_without_scores_have_an_empty_list():
    assert tops([], None) == [[], []]
    assert tops() == []


@pytest.mark.parametrize("start", [0, 1, 2])
def test_a_piece_of_a_table_says_the_same_as_the_whole(start):
    column = pa.array([[STAMPS], [SILENT, STAMPS], [{**STAMPS, "probabilities": [0.9, 0.1]}]], SCORES)
    assert top_scores(column.slice(start)) == top_scores(column)[start:]


def table(*rows):
    common = {"survey": "ztf", "ra": 10.0, "dec": -5.0, "hpx29": 7, "rights": "public", "scores": []}
    full = [{**common, **row} for row in rows]
    scores = pa.array([row.pop("scores") for row in full], SCORES)
    return pa.Table.from_pylist(full).append_column("scores", scores)


def test_the_latest_alert_by_time_gives_position_and_scores_whatever_the_order():
    late = {"alert_id": 1, "object_id": "a", "mjd": 9.0, "ra": 11.0, "scores": [STAMPS], "rights": "ztf:2"}
    early = {"alert_id": 2, "object_id": "a", "mjd": 5.0}
    [row] = object_rows(table(late, early))
    assert (row["first_mjd"], row["last_mjd"], row["n_alerts"], row["n_public"]) == (5.0, 9.0, 2, 1)
    assert (row["ra"], row["last_alert_id"]) == (11.0, 1)
    assert json.loads(row["last_scores"])[0]["class"] == "VS"


def test_of_two_alerts_at_one_time_the_higher_id_is_the_later():
    rows = [{"alert_id": i, "object_id": "a", "mjd": 5.0} for i in (3, 9, 4)]
    assert object_rows(table(*rows))[0]["last_alert_id"] == 9


def test_many_objects_are_added_and_found_as_they_were_given(engine):
    given = object_rows(
        table(
            *(
                {"alert_id": 2**62 + i, "object_id": f"ZTF{i:05d}", "mjd": 6e4 + i / 7, "ra": i / 3}
                for i in range(3000)
            )
        )
    )
    for _ in range(2):
        with engine.begin() as db:
            upsert(db, given)
    with engine.connect() as db:
        found = db.execute(select(objects).order_by(objects.c.object_id)).mappings().all()
    for row, expected in zip(found, given, strict=True):
        assert dict(row) == {**expected, "last_scores": [], "n_alerts": 2, "n_public": 2}
