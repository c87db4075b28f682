"""Versions are followed beside the stream: its own faults refuse a version, what is Ray's is tried again."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.folders import write_aliases
from models.manifest import ModelError
from serve import versions
from serve.scoring import Deployed
from serve.versions import ServedModels


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServedModels:
    """A model whose champion is 1, and which a batch has pinned; without its thread."""
    write_aliases(tmp_path, {"champion": "1"})
    monkeypatch.setattr(ServedModels, "_follow", lambda self: None)
    found = ServedModels("s", {"m": Deployed("m", tmp_path)})
    assert found.pin() == {"m": "1"}
    return found


def answers(monkeypatch: pytest.MonkeyPatch, *errors: Exception | None) -> list[str]:
    """Let the loading of a version end so, one time after another; which versions were asked for."""
    asked, left = [], list(errors)

    def load(app: str, version: str, replicas: int) -> None:
        asked.append(version)
        if (error := left.pop(0)) is not None:
            raise error

    monkeypatch.setattr(versions, "_load_everywhere", load)
    return asked


def test_what_ray_cannot_do_now_is_tried_again(models, tmp_path, monkeypatch):
    answers(monkeypatch, TimeoutError("no replica"), None)
    write_aliases(tmp_path, {"champion": "2"})
    with pytest.raises(TimeoutError):
        models.look()
    assert models.pin() == {"m": "1"}
    models.look()
    assert models.pin() == {"m": "2"}
    assert models.news() == ["model m moves from 1 to 2"]
    assert models.news() == []


def test_a_version_that_cannot_be_loaded_is_asked_for_once(models, tmp_path, monkeypatch):
    asked = answers(monkeypatch, ModelError("weights are gone"), None)
    write_aliases(tmp_path, {"champion": "2"})
    models.look()
    models.look()
    assert asked == ["2"]
    assert models.pin() == {"m": "1"}
    assert models.news() == ["model m: 2 is refused: it stays at 1: weights are gone"]
    write_aliases(tmp_path, {"champion": "3"})
    models.look()
    assert models.pin() == {"m": "3"}


def test_aliases_that_cannot_be_read_change_nothing(models, tmp_path):
    (tmp_path / "aliases.json").write_text("{")
    models.look()
    models.look()
    assert models.pin() == {"m": "1"}
    [told] = models.news()
    assert "its folder is refused" in told
    assert "cannot be read as JSON" in told
