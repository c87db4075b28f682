"""A stream's folders follow the registry's aliases, in a process of its own that ends with the stream."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from models.contract import shipped_version
from models.folders import CHAMPION, RegistryError, read_aliases
from models.memory import MemoryRegistry
from models.registry import Registry
from rayfinch import reconciler
from rayfinch.config import load
from rayfinch.wiring import deployed
from tests.support.deployment import eventually
from tests.support.versions import Versions

CONFIG = Path(__file__).parents[2] / "configs" / "ztf.yaml"


def test_an_alias_that_moves_reaches_the_folder_that_the_stream_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the registry knows the model, what we ship serves; from the first promotion on, its champion."""
    monkeypatch.chdir(tmp_path)
    registry = Registry(f"sqlite:///{tmp_path / 'registry.db'}")
    registry.register(shipped_version("stamps"))
    settings = load(CONFIG, {"registry": {"uri": registry.uri, "poll_s": 0.2}})
    process = reconciler.start(settings)
    assert process is not None
    try:
        model = deployed(settings)["lightcurve"]
        assert model.current() == shipped_version("lightcurve").name
        registry.register(Versions("lightcurve", tmp_path / "made").make("7"))
        registry.alias("lightcurve", CHAMPION, "7")
        eventually(lambda: model.current() == "7", 30)
        assert (model.folder / "7" / "model.json").exists()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)


def test_without_a_registry_nothing_is_started() -> None:
    assert reconciler.start(load(CONFIG)) is None


class Silent(MemoryRegistry):
    """Does not answer about one model."""

    def aliases(self, name: str) -> dict[str, str]:
        if name == "stamps":
            raise RegistryError("the registry does not answer")
        return super().aliases(name)


def test_what_cannot_be_synced_is_told_once_and_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Silent()
    folder = shipped_version("lightcurve")
    registry.register(folder)
    registry.alias("lightcurve", CHAMPION, folder.name)
    parents = iter([1, 1, 1, 2])  # it has the same parent three times, and then another
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    reconciler.follow(lambda: registry, ["stamps", "lightcurve"], tmp_path, 0.0, 1)
    assert read_aliases(tmp_path / "lightcurve") == {CHAMPION: folder.name}
    assert [r.message for r in caplog.records].count(
        "the registry: stamps: RegistryError: the registry does not answer"
    ) == 1
