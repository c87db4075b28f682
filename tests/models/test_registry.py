"""The registry on a real MLflow: what is registered stays as it was, and every move of an alias is kept."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.folders import RegistryError, contents, digest, read_aliases, sync, write_aliases
from models.history import Move, champions
from models.manifest import WEIGHTS, ModelError, read_manifest
from models.memory import MemoryRegistry
from models.registry import Registry


@pytest.fixture(params=["mlflow", "memory"])
def any_registry(request):
    """The real one and its double: they must not be told apart."""
    return request.getfixturevalue("registry") if request.param == "mlflow" else MemoryRegistry()


def test_a_version_is_registered_once_with_who_when_and_its_metrics(any_registry, versions):
    folder = versions.make("2026.1")
    made = any_registry.register(folder, "from the sprint")
    assert (made.name, made.version, made.number) == (versions.name, "2026.1", 1)
    assert made.metrics["macro_f1"] == read_manifest(folder).metrics["held_out"]["macro_f1"]
    assert made.note == "from the sprint"
    assert "@" in made.who
    assert made.digest == digest(folder)
    assert any_registry.register(folder) == made  # the same files again: nothing happens
    assert any_registry.versions(versions.name) == [made]
    assert versions.name in any_registry.names()


def test_other_files_under_a_registered_version_are_refused(any_registry, versions):
    folder = versions.make("1")
    any_registry.register(folder)
    (folder / "README.md").write_text("changed")
    with pytest.raises(RegistryError, match=r"registered .*with other files.* versions never change"):
        any_registry.register(folder)


def test_aliases_move_and_every_move_is_kept(any_registry, versions):
    name = versions.name
    for version in ("1", "2", "3"):
        any_registry.register(versions.make(version))
    any_registry.promote(name, "1", "the first")
    any_registry.alias(name, "challenger", "2", how="challenge")
    any_registry.promote(name, "2", how="force", decision={"passed": False, "reasons": ["too slow"]})
    assert any_registry.aliases(name) == {"champion": "2"}  # it challenges no longer
    any_registry.promote(name, "3")
    assert any_registry.rollback(name, "it was worse").after == "2"
    assert any_registry.rollback(name).after == "1"
    with pytest.raises(RegistryError, match="no champion before 1"):
        any_registry.rollback(name)
    history = any_registry.history(name)
    assert [(m.alias, m.before, m.after, m.how) for m in history] == [
        ("champion", None, "1", "promote"),
        ("challenger", None, "2", "challenge"),
        ("champion", "1", "2", "force"),
        ("challenger", "2", None, "force"),
        ("champion", "2", "3", "promote"),
        ("champion", "3", "2", "rollback"),
        ("champion", "2", "1", "rollback"),
    ]
    assert history[2].forced
    assert history[2].decision == {"passed": False, "reasons": ["too slow"]}
    assert history[5].note == "it was worse"
    assert all("@" in move.who and move.when.endswith("Z") for move in history)


def test_a_version_is_found_by_its_own_name_or_by_what_it_is(any_registry, versions):
    name = versions.name
    for version in ("1", "2b"):
        any_registry.register(versions.make(version))
    any_registry.promote(name, "1")
    assert any_registry.find(name, "champion").version == "1"
    assert any_registry.find(name, "latest").version == "2b"
    with pytest.raises(RegistryError, match="has no challenger"):
        any_registry.find(name, "challenger")
    with pytest.raises(RegistryError, match=r"@3 is not registered in .* there are 1, 2b"):
        any_registry.alias(name, "champion", "3")
    with pytest.raises(RegistryError, match="no model 'nobody' is registered"):
        any_registry.versions("nobody")


def test_sync_makes_the_folder_that_a_stream_reads(any_registry, versions, tmp_path):
    name = versions.name
    for version in ("1", "2"):
        any_registry.register(versions.make(version))
    any_registry.promote(name, "1")
    (first,) = sync(any_registry, [name], tmp_path / "models")
    assert (first.aliases, first.problems) == ({"champion": "1"}, ())
    any_registry.alias(name, "challenger", "2")
    sync(any_registry, [name], tmp_path / "models")
    folder = tmp_path / "models" / name
    assert read_aliases(folder) == {"champion": "1", "challenger": "2"}
    assert {p.name for p in folder.iterdir()} == {"aliases.json", "1", "2"}
    assert digest(folder / "2") == any_registry.find(name, "2").digest
    any_registry.alias(name, "challenger", None)
    sync(any_registry, [name], tmp_path / "models")
    assert read_aliases(folder) == {"champion": "1"}


def test_what_was_spoilt_in_the_registry_is_not_served(registry, versions, tmp_path):
    """Somebody's hand in the artifacts: the challenger stays away, the champion stays."""
    name = versions.name
    for version in ("1", "2"):
        registry.register(versions.make(version))
    registry.promote(name, "1")
    registry.alias(name, "challenger", "2")
    artifacts = Path(registry.uri.removeprefix("sqlite:///")).with_name("registry-artifacts")
    stored = {
        tuple(json.loads(p.read_text())[k] for k in ("name", "version")): p
        for p in artifacts.rglob("model.json")
    }
    weights = stored[name, "2"].with_name(WEIGHTS)
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    (found,) = sync(registry, [name], tmp_path / "models")
    assert found.aliases == read_aliases(tmp_path / "models" / name) == {"champion": "1"}
    assert f"{name}@2 as it was registered: its digest is" in found.problems[0]
    assert not (tmp_path / "models" / name / "2").exists()


def test_a_folder_with_another_version_of_that_name_is_told(registry, versions, tmp_path):
    registry.register(versions.make("1"))
    folder = registry.fetch(versions.name, "1", tmp_path / "models")
    (folder / "README.md").write_text("not what was registered")
    with pytest.raises(RegistryError, match="take the folder away to fetch it again"):
        registry.fetch(versions.name, "1", tmp_path / "models")


def test_a_version_that_does_not_open_is_not_registered(registry, versions):
    folder = versions.make("1")
    (folder / "weights.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="cannot be read as safetensors"):
        registry.register(folder)
    assert versions.name not in registry.names()


def test_a_version_is_plain_data(versions, tmp_path):
    folder = versions.make("1")
    assert [p.name for p in contents(folder)] == ["golden.arrow", "model.json", "weights.safetensors"]
    printed = subprocess.run(
        "sha256sum * | sha256sum", shell=True, cwd=folder, capture_output=True, text=True
    )
    assert printed.stdout.split()[0] == digest(folder)
    for name, make in {
        "weights.pkl": lambda p: p.write_bytes(b""),
        "setup.py": lambda p: p.write_text(""),
        "more": lambda p: p.mkdir(),
        "link.json": lambda p: p.symlink_to("/etc/passwd"),
    }.items():
        make(folder / name)
        with pytest.raises(ModelError, match=rf"/{name} (does not belong to|is not a plain file)"):
            contents(folder)
        (folder / name).rmdir() if name == "more" else (folder / name).unlink()


@pytest.mark.parametrize("version", ["latest", "champion", "challenger"])
def test_a_version_cannot_be_called_what_means_something_else(registry, versions, version):
    with pytest.raises(ModelError, match=f"cannot be called '{version}'"):
        registry.register(versions.make(version))


def test_two_who_register_or_move_at_the_same_time_lose_nothing(registry, versions):
    """Each with a connection of its own, as on two machines."""
    name, folder = versions.name, versions.make("1")
    registry.register(folder)
    folders = [versions.make("2"), versions.make("3")]
    both = [Registry(registry.uri), Registry(registry.uri)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda r, f: r.register(f), both, folders))
        list(pool.map(lambda r, v: r.alias(name, "challenger", v), both, ("2", "3")))
    assert {v.version for v in registry.versions(name)} == {"1", "2", "3"}
    assert {m.after for m in registry.history(name)} == {"2", "3"}


def test_a_registry_that_is_not_there_is_a_sentence(tmp_path):
    nowhere = Registry(f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(RegistryError, match=r"no registry is in .*none.db yet: rayfinch models register"):
        nowhere.names()
    (tmp_path / "text.db").write_text("not a database")
    with pytest.raises(RegistryError, match="cannot be opened"):
        Registry(f"sqlite:///{tmp_path}/text.db").names()
    with pytest.raises(RegistryError, match=r"http://127.0.0.1:9 does not answer"):
        Registry("http://127.0.0.1:9").names()


def test_nothing_imports_mlflow_before_it_is_needed():
    script = "import models.registry, models.folders, sys; print('mlflow' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "False\n"


def test_aliases_are_replaced_in_one_step(tmp_path):
    write_aliases(tmp_path, {"champion": "1"})
    write_aliases(tmp_path, {"champion": "2", "challenger": "3"})
    assert json.loads((tmp_path / "aliases.json").read_text()) == {"champion": "2", "challenger": "3"}
    assert [p.name for p in tmp_path.iterdir()] == ["aliases.json"]
    (tmp_path / "aliases.json").write_text("[]")
    with pytest.raises(ModelError, match=r"aliases.json must be a JSON object"):
        read_aliases(tmp_path)


def test_champions_are_stacked_and_rollbacks_unstack_them():
    def moves(*steps: tuple[str, str]) -> list[Move]:
        return [Move("champion", None, after, "me", "now", how=how) for how, after in steps]

    done = moves(("promote", "1"), ("promote", "2"), ("rollback", "1"), ("force", "3"))
    assert champions(done, "3") == ["1", "3"]
    again = moves(("promote", "1"), ("promote", "2"), ("promote", "1"))
    assert champions(again, "1") == ["1", "2", "1"]
    # A move that was written down, but whose alias did not follow (the machine went down between).
    assert champions(moves(("promote", "1"), ("promote", "2")), "1") == ["1"]
