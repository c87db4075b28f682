"""Chaos: who is struck and when, what a verdict says; a driver ends with its Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.stream.failpoint import POINTS
from rayfinch.bench import equal
from rayfinch.bench.judge import Held
from rayfinch.chaos.targets import TARGETS, Strike, chosen, schedule
from rayfinch.chaos.verdict import Hit, doubled, figures, lost, not_recovered, slow
from rayfinch.cli import app

ROOT = Path(__file__).parents[2]


def test_each_target_gets_its_share():
    shares = Counter(strike.target for strike in schedule(100, list(TARGETS), 1))
    assert shares.keys() == TARGETS.keys()
    assert max(shares.values()) - min(shares.values()) <= 1
    assert shares.total() == 100


def test_the_same_seed_gives_the_same_strikes_and_another_one_others():
    assert schedule(50, list(TARGETS), 7) == schedule(50, list(TARGETS), 7)
    assert schedule(50, list(TARGETS), 7) != schedule(50, list(TARGETS), 8)


def test_the_fail_points_take_turns():
    strikes = schedule(len(POINTS), ["failpoint"], 3)
    assert sorted(strike.point for strike in strikes) == sorted(POINTS)
    assert all(not strike.point for strike in schedule(5, ["driver"], 3))


def test_targets_are_chosen_by_name_and_a_wrong_one_is_told_the_right_ones():
    assert chosen("") == list(TARGETS)
    assert chosen("own, driver,own") == ["own", "driver"]
    with pytest.raises(ValueError, match="no target 'kafka': there are driver, failpoint, task"):
        chosen("own,kafka")


def hit(target: str, recovery_s: float | None, reason: str = "") -> Hit:
    return Hit(Strike(1, target, 1.0, 0.5), 10.0, recovery_s, reason)


def test_a_verdict_counts_what_is_lost_doubled_and_how_long_it_took():
    held = [Held("the archive", [1, 2, 2]), Held("the database", [1, 2, 3])]
    hits = [hit("task", 1.0), hit("task", 2.0), hit("task", 9.0), hit("own", None, "no batch")]
    assert lost({1, 2, 3}, held) == {3}
    assert doubled(held) == {2}
    line = figures(hits, {1, 2, 3}, held, None, {"full": "no Linux"})
    assert (line["kills"], line["lost"], line["doubled"], line["not_recovered"]) == (4, 1, 1, 1)
    assert line["recovery_median_s"] == {"task": 2.0}
    assert line["topics_equal_archive"] is True
    assert not_recovered(hits) == ["strike 1 on own at 10 s: no batch"]


def test_a_median_above_its_bar_is_told():
    assert slow([hit("task", 2.9), hit("driver", 14.0)]) == []
    assert slow([hit("task", 3.5)]) == ["task: the median recovery of 3.5 s is above 3 s"]


def test_topics_that_lack_a_record_or_have_one_twice_do_not_equal_the_archive():
    wanted = equal.digests([("all", b"a", b"1"), ("all", b"b", b"2")])
    assert equal.difference(equal.digests([("all", b"b", b"2"), ("all", b"a", b"1")]), wanted) is None
    found = equal.digests([("all", b"a", b"1"), ("all", b"a", b"1"), ("all", b"", b"b2")])
    assert equal.difference(found, wanted) == (
        "the topics do not equal the archive: 1 records are missing, 2 too many"
    )


def test_the_command_lists_its_targets_and_refuses_others():
    listed = CliRunner().invoke(app, ["chaos", "--targets", "list", "--json"])
    assert json.loads(listed.stdout).keys() == TARGETS.keys()
    refused = CliRunner().invoke(app, ["chaos", "--targets", "kafka"])
    assert refused.exit_code == 2
    assert "no target 'kafka'" in refused.output


def test_a_driver_dies_at_the_point_that_is_written_for_it(tmp_path: Path):
    code = (
        "from broker.stream.failpoint import failpoint\n"
        "failpoint('run.before'); print('alive', flush=True); failpoint('run.after'); print('never')"
    )
    file = tmp_path / "failpoint"
    file.write_text("run.after")
    env = {**os.environ, "RAYFINCH_FAILPOINT": f"@{file}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "alive\n")
    assert not file.exists()


DRIVER = """
import sys, time
from rayfinch.config import load
from rayfinch.wiring import start_ray
start_ray(load(sys.argv[1]).ray)
import psutil
raylet = next(p for p in psutil.Process().children() if p.name() == sys.argv[2])
print(raylet.pid, flush=True)
time.sleep(120)
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("process", "what"), [("raylet", "raylet"), ("gcs_server", "GCS")])
def test_a_driver_ends_with_a_sentence_when_its_ray_is_gone(process: str, what: str):
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    command = [sys.executable, "-c", DRIVER, str(ROOT / "configs" / "ztf.yaml"), process]
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as driver:
        try:
            assert driver.stdout is not None
            pid = driver.stdout.readline()
            assert pid.strip().isdigit(), driver.communicate()
            os.kill(int(pid), signal.SIGKILL)
            _, said = driver.communicate(timeout=40)
        finally:
            driver.kill()
    assert driver.returncode == 1
    assert f"Ray's {what} at" in said
    assert "start it again when Ray is back" in said
