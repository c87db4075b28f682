"""Hostile packets: the same for the same seed, of every kind; and a small campaign through a whole stream."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest

from broker.packets.decode import decode
from broker.packets.registry import Folder
from broker.packets.survey import PacketError, survey
from rayfinch.fuzz import lsst
from rayfinch.fuzz.campaign import NEIGHBOURS, Result, judge, messages
from rayfinch.fuzz.leaves import leaves
from rayfinch.fuzz.mutations import MUTATIONS, mutate
from rayfinch.fuzz.packet import Base, base
from rayfinch.trial.audit import Audit
from training.simulation import packets


@pytest.fixture(scope="module")
def bases() -> list[Base]:
    return [base(simulated.packet, None) for simulated in packets(4, 1)]


@pytest.fixture(scope="module")
def schemas(tmp_path_factory) -> Folder:
    folder = tmp_path_factory.mktemp("schemas")
    (folder / f"{lsst.SCHEMA_ID}.avsc").write_text(lsst.schema_json())
    return Folder(folder)


# -- packets taken apart


def test_the_leaves_tile_the_datum(bases):
    one = bases[0]
    places = [(leaf.start, leaf.end) for leaf in one.leaves]
    assert places[0][0] == 0
    assert places[-1][1] == len(one.datum)
    assert all(end == start for (_, end), (start, _) in pairwise(places))


def test_real_packets_are_taken_apart(ztf_packets, lsst_wire, lsst_schemas):
    for _, packet in [*ztf_packets[::100], *lsst_wire[::20]]:
        one = base(packet, Folder(lsst_schemas))
        assert one.leaves[-1].end == len(one.datum)


def test_a_datum_that_is_no_whole_one_is_refused(bases):
    with pytest.raises(PacketError, match="must be a whole one"):
        leaves(bases[0].schema, bases[0].datum[:-1])


def test_a_packet_with_another_id_is_otherwise_the_same(bases):
    one = bases[0]
    rows = decode(survey("ztf"), [one.framed(one.datum), one.framed(one.edited([], 77))]).alerts.to_pylist()
    assert rows[1]["alert_id"] == 77
    for column in ("object_id", "ra", "dec", "mjd", "flux", "history", "cutout_science"):
        assert rows[0][column] == rows[1][column]


def test_simulated_lsst_packets_are_lsst_packets(schemas):
    made = list(lsst.packets(5, 1))
    decoded = decode(survey("lsst"), made, schemas, cutouts=True)
    assert not decoded.failures
    assert len(decoded.alerts) == 5
    assert all(name.startswith("9.0/") for name in decoded.alerts["packet_schema"].to_pylist())


# -- mutations


def test_the_same_seed_makes_the_same_packets(bases):
    assert list(messages(bases, 60, 5)) == list(messages(bases, 60, 5))
    assert [m.value for m in messages(bases, 60, 5)] != [m.value for m in messages(bases, 60, 6)]


def test_every_mutation_is_drawn_and_most_change_the_packet(bases):
    drawn = [mutate(bases[i % 4], 5, i) for i in range(600)]
    assert {m.name for m in drawn} == set(MUTATIONS)
    whole = {one.framed(one.edited([], 5)) for one in bases}
    assert sum(m.value in whole for m in drawn) < 60


def test_a_healthy_packet_follows_every_fourth_mutant(bases):
    sent = list(messages(bases, 12, 1))
    assert [i for i, m in enumerate(sent) if m.mutation is None] == [4, 9, 14]
    assert len({m.alert_id for m in sent}) == len(sent) == 12 + 12 // NEIGHBOURS


@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_no_mutation_harms_its_neighbours_in_a_block(bases, name):
    """Decoded in one call: whatever a mutant is, the healthy packets around it are alerts."""
    import random

    good = [one.framed(one.edited([], 10 + i)) for i, one in enumerate(bases)]
    bad = [MUTATIONS[name](bases[i % 4], 100 + i, random.Random(f"{name}{i}")) or b"" for i in range(6)]
    block = [*good[:2], *bad[:3], good[2], *bad[3:], good[3]]
    decoded = decode(survey("ztf"), block, cutouts=True)
    assert {10, 11, 12, 13} <= set(decoded.alerts["alert_id"].to_pylist())
    assert len(decoded.alerts) + len(decoded.failures) == len(block)
    assert all(failure.reason for failure in decoded.failures)


# -- judgement


def found(**changes) -> Audit:
    counts = Counter(alerts=30, resent=2, dead_letters=68) + Counter()
    fields = {
        "alert_ids": Counter(range(30)),
        "missing": 0,
        "extra": 0,
        "letters_published": 68,
        "letters_kept": 68,
        "wrong_objects": 0,
        "open_plans": 0,
        "batches": 5,
        "attempts": 6,
        "counts": counts,
    }
    return Audit(**{**fields, **changes})


def test_a_campaign_of_which_everything_is_accounted_for_is_good():
    result = Result("ztf", packets=80, healthy=20)
    judge(result, found(), 100, set())
    assert result.good
    assert (result.decoded, result.resent, result.dead_letters) == (10, 2, 68)
    assert result.second_attempts == 1


@pytest.mark.parametrize(
    ("sent", "harmed", "changes", "says"),
    [
        (101, set(), {}, "101 messages were sent"),
        (100, {5}, {}, None),
        (100, set(), {"missing": 1}, "1 records of archived alerts are missing"),
        (100, set(), {"letters_kept": 67}, "68 dead letters, the database 67"),
        (100, set(), {"open_plans": 1}, "1 batches are not done"),
    ],
)
def test_what_is_wrong_is_said(sent, harmed, changes, says):
    result = Result("ztf", packets=80, healthy=20)
    judge(result, found(**changes), sent, harmed)
    assert not result.good
    assert says is None or any(says in fault for fault in result.faults)


@pytest.mark.timeout(400)
def test_a_small_campaign_of_both_surveys(kafka, tmp_path):
    command = [sys.executable, "-m", "rayfinch", "fuzz", "--packets", "60", "--bootstrap", kafka, "--json"]
    run = subprocess.run([*command, "--data", str(tmp_path)], capture_output=True, text=True, timeout=380)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    told = json.loads(run.stdout.splitlines()[-1])
    assert (told["crashes"], told["hangs"], told["neighbours_harmed"]) == (0, 0, 0)
    assert told["packets"] == 60 == told["decoded"] + told["resent"] + told["dead_letters"]
    assert told["accounted"] is True
