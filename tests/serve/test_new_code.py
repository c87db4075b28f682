"""A version that brings new code gets replicas of its own beside those that serve."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray import serve

from models.contract import brought
from serve import versions
from serve.scoring import Deployed, deploy
from serve.versions import ServedModels
from tests.serve.test_replicas import scored
from tests.support.deployment import eventually
from tests.support.distribution import install

SOURCE = """
from models.contract import scores
from models.manifest import read_manifest


class Sure:
    def __init__(self, said):
        self.name, self.version, self.precondition = said.name, said.version, said.precondition
        self.classes, self.inputs = said.classes, said.inputs

    @classmethod
    def load(cls, folder, device="cpu"):
        return cls(read_manifest(folder))

    def score(self, table):
        return scores(self.classes, [[VERDICT, 1 - VERDICT]] * len(table), [True] * len(table))
"""


class Authors:
    """They release their distribution, and a version that wants it."""

    def __init__(self, site: Path, folder: Path, topic: str) -> None:
        self.site, self.folder = site, folder / "sure"
        self.module = topic.replace("-", "_")

    def release(self, version: str, verdict: float) -> None:
        install(
            self.site, self.module, version, f"VERDICT = {verdict}\n{SOURCE}", {"sure": f"{self.module}:Sure"}
        )

    def version(self, version: str) -> Path:
        to = self.folder / version
        to.mkdir(parents=True)
        said = {
            "name": "sure",
            "version": version,
            "architecture": f"{self.module}:Sure",
            "classes": ["yes", "no"],
            "inputs": ["flux"],
        }
        (to / "model.json").write_text(json.dumps(said))
        return to


@pytest.fixture
def authors(site: Path, tmp_path: Path, topic: str) -> Authors:
    return Authors(site, tmp_path, topic)


def test_a_version_says_which_distributions_it_brings(authors: Authors):
    authors.release("1.0", 0.25)
    assert brought(authors.version("1")) == f"{authors.module}-1.0"


@pytest.fixture
def models(authors: Authors, topic: str, ray_cluster: str) -> Iterator[ServedModels]:
    authors.release("1.0", 0.25)
    authors.version("1")
    found = {"sure": Deployed("sure", authors.folder, timeout_s=30)}
    deploy(topic, found)
    yield ServedModels(topic, found)
    for app in applications(topic):
        serve.delete(app)


def applications(topic: str) -> list[str]:
    return [app for app in serve.status().applications if app.startswith(f"stream-{topic}-")]


def test_new_code_is_started_beside_the_old_which_ends_when_no_batch_asks_it(
    models, authors, topic, ztf_packets, monkeypatch
):
    packets = [packet for _, packet in ztf_packets[:5]]

    def verdict(version: str) -> float:
        entries = scored(models, {"sure": version}, packets)
        assert [e["reason"] for e in entries] == [None] * 5
        return entries[0]["probabilities"][0]

    assert models.pin() == {"sure": "1"}
    assert verdict("1") == 0.25
    [before] = applications(topic)

    authors.release("2.0", 0.75)
    authors.version("2")
    while models.pin() == {"sure": "1"}:
        assert verdict("1") == 0.25, "the champion scores on while the new code is started"
    assert (verdict("2"), verdict("1")) == (0.75, 0.25), "a batch that has pinned the former gets its code"

    monkeypatch.setattr(versions, "RETIRED_S", 0.0)
    eventually(lambda: before not in applications(topic))
    assert verdict("2") == 0.75


def test_new_code_that_does_not_start_is_refused_and_what_served_goes_on(models, authors, topic, ztf_packets):
    assert models.pin() == {"sure": "1"}
    install(
        authors.site,
        authors.module,
        "2.0",
        "raise OSError('no such library')",
        {"x": f"{authors.module}:Sure"},
    )
    authors.version("2")
    eventually(lambda: any("2 is refused" in told for told in models.news()), 90)
    assert models.pin() == {"sure": "1"}
    eventually(lambda: len(applications(topic)) == 1)
    [entry] = scored(models, {"sure": "1"}, [ztf_packets[0][1]])
    assert entry["probabilities"][0] == 0.25
