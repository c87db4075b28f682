"""The doctor finds what is missing, says how to mend it, and changes nothing."""

from __future__ import annotations

import json
import resource
from collections import namedtuple
from functools import partial
from pathlib import Path

import pytest
import yaml
from confluent_kafka.admin import AdminClient, NewTopic
from typer.testing import CliRunner

from models.contract import shipped_version
from models.registry import Registry
from rayfinch import deployment, machine
from rayfinch.checks import guarded
from rayfinch.cli import app
from rayfinch.config import Settings, load
from rayfinch.kafka import topics
from tests.support.ports import free_port


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Nothing here takes a second to answer."""
    monkeypatch.setattr(deployment, "topics", partial(topics, timeout_s=1))


@pytest.fixture
def settings(tmp_path):
    """Settings of a deployment in `tmp_path` of which nothing runs; keyword arguments replace sections."""

    def made(**sections) -> Settings:
        nowhere = {"bootstrap.servers": f"127.0.0.1:{free_port()}"}
        document = {
            "stream": "night",
            "survey": "ztf",
            "source": {"kafka": nowhere, "topics": ["^ztf_.*"]},
            "publish": {"kafka": nowhere},
            "archive": {"uri": str(tmp_path / "archive")},
            "database": {"url": f"sqlite:///{tmp_path}/rayfinch.db"},
            **sections,
        }
        path = tmp_path / "night.yaml"
        path.write_text(yaml.safe_dump(document))
        return load(path)

    return made


def test_an_old_python_fails():
    check = machine.python((3, 10, 4))
    assert (check.state, check.found) == ("failure", "3.10.4")
    assert "Python 3.11 or newer" in check.mend


def test_packages_are_compared_with_the_lock(tmp_path, monkeypatch):
    lock = tmp_path / "constraints.txt"
    lock.write_text("# a comment\nSQLAlchemy==1.0\n")
    monkeypatch.setattr(machine, "_requirements", lambda: ["sqlalchemy", "typer"])
    other = machine.packages(lock)
    assert other.state == "warning"
    assert "(tested: 1.0)" in other.found
    monkeypatch.setattr(machine, "_requirements", lambda: ["sqlalchemy", "no-such-package"])
    absent = machine.packages(lock)
    assert (absent.state, absent.found) == ("failure", "missing: no-such-package")
    assert absent.mend == "pip install -c constraints.txt -e ."


def test_little_memory_shared_memory_disk_and_files_are_told(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage(100 * machine.GIB, 0, 2 * machine.GIB))
    assert machine.disk(tmp_path).state == "failure"  # 98 % full: Ray stops
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage(20 * machine.GIB, 0, 2 * machine.GIB))
    assert machine.disk(tmp_path).state == "warning"
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage(64 * 2**20, 0, 0))
    assert "--shm-size" in machine.shared_memory(tmp_path).mend
    monkeypatch.setattr(machine.resource, "getrlimit", lambda _: (1024, 1 << 20))
    assert machine.open_files().mend == "ulimit -n 4096"
    assert machine.resource is resource


def test_what_only_tests_need_is_never_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.shutil, "which", lambda _: None)
    monkeypatch.setenv("RAYFINCH_KAFKA", str(tmp_path / "none"))
    assert machine.java().state == machine.test_kafka().state == "warning"
    assert "RAYFINCH_KAFKA" in machine.test_kafka().mend


def test_a_check_that_breaks_does_not_stop_the_others():
    def broken():
        raise RuntimeError("postgresql://u:hunter2@h\nis odd")

    check = guarded("odd", broken)
    assert (check.state, check.found) == ("failure", "RuntimeError: postgresql://u:***@h is odd")


def test_a_cluster_that_does_not_answer_fails_with_its_reason(settings):
    check = deployment.own_kafka(settings())
    assert check.state == "failure"
    assert "Connection refused" in check.found


def test_the_source_must_show_topics_that_match(settings, kafka, topic):
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(f"{topic}-night", 1)])[f"{topic}-night"].result(30)
    server = {"bootstrap.servers": kafka}
    found = deployment.source(settings(source={"kafka": server, "topics": [f"^{topic}-.*"]}))
    assert (found.state, found.found) == ("ok", f"{kafka}: 1 topics match, such as {topic}-night")
    absent = deployment.source(settings(source={"kafka": server, "topics": [f"{topic}-n"]}))
    assert absent.state == "warning"
    assert "the stream waits" in absent.mend


def test_lsst_packets_need_schemas(settings, tmp_path, lsst_schemas):
    source = {"kafka": {"bootstrap.servers": "a:1"}, "topics": ["t"]}
    assert deployment.schemas(settings(survey="lsst", source=source)).state == "warning"
    assert deployment.schemas(settings(source={**source, "schemas": str(tmp_path)})).state == "failure"
    folder = deployment.schemas(settings(source={**source, "schemas": str(lsst_schemas)}))
    assert (folder.state, folder.found.split()[0]) == ("ok", "9")
    url = f"http://127.0.0.1:{free_port()}"
    assert deployment.schemas(settings(source={**source, "registry": {"url": url}})).state == "failure"


def test_the_database_is_reached_and_its_tables_are_compared(settings, tmp_path, fresh_postgres_url):
    from broker.database.engine import connect

    assert deployment.database(settings()).state == "ok"
    assert not (tmp_path / "rayfinch.db").exists()  # it looked, and made nothing
    on_postgres = settings(database={"url": fresh_postgres_url})
    assert "empty" in deployment.database(on_postgres).found
    connect(fresh_postgres_url).dispose()
    assert "at revision" in deployment.database(on_postgres).found
    connect(f"sqlite:///{tmp_path}/rayfinch.db").dispose()
    assert "at revision" in deployment.database(settings()).found


def test_a_database_that_is_not_there_fails_without_its_password(settings):
    url = f"postgresql+psycopg://me:hunter2@127.0.0.1:{free_port()}/db"
    check = deployment.database(settings(database={"url": url}))
    assert check.state == "failure"
    assert "hunter2" not in check.found
    assert "refused" in check.found.lower()


def test_the_archive_must_take_files(settings, tmp_path, monkeypatch):
    assert deployment.archive(settings()).state == "ok"
    assert not (tmp_path / "archive").exists()

    def refuses(dir: Path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(deployment.tempfile, "TemporaryFile", refuses)
    check = deployment.archive(settings())
    assert (check.state, check.found) == ("failure", f"{tmp_path}: Permission denied")


def test_models_must_load(settings, tmp_path):
    shipped = settings(models=[{"name": "stamps"}])
    assert "asteroid" in deployment.model(shipped, "stamps").found
    none = settings(models=[{"name": "stamps"}], models_dir=str(tmp_path))
    assert deployment.model(none, "stamps").state == "failure"


def test_the_registry_must_answer_and_know_a_champion_of_each_model(settings, tmp_path):
    wanted = settings(registry={"uri": f"sqlite:///{tmp_path}/registry.db"}, models=[{"name": "lightcurve"}])
    check = deployment.registry(wanted)
    assert check.state == "failure"
    assert "no registry is in" in check.found
    store = Registry(wanted.registry.uri)
    folder = shipped_version("lightcurve")
    store.register(folder)
    check = deployment.registry(wanted)
    assert (check.state, check.mend) == ("warning", "rayfinch models promote NAME@VERSION")
    assert "no champion of lightcurve" in check.found
    store.alias("lightcurve", "champion", folder.name)
    check = deployment.registry(wanted)
    assert check.state == "ok"
    assert f"lightcurve@{folder.name}" in check.found


def test_a_gpu_that_is_not_here_fails(settings):
    assert deployment.gpu(settings(models=[{"name": "stamps", "gpus": 64}])).state == "failure"
    assert deployment.gpu(settings(models=[{"name": "stamps"}])).state == "ok"


def test_the_cluster_to_join_must_be_there(settings, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert deployment.cluster(settings()).state == "ok"
    assert "no Ray runs here" in deployment.cluster(settings(ray={"address": "auto"})).found
    away = settings(ray={"address": f"ray://127.0.0.1:{free_port()}"})
    assert deployment.cluster(away).state == "failure"


def test_the_command_exits_1_when_something_fails(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "examine", lambda: iter([machine.python()]))
    well = CliRunner().invoke(app, ["doctor"])
    assert (well.exit_code, well.stdout.splitlines()[-1]) == (0, "all is well")
    settings()
    ill = CliRunner().invoke(app, ["doctor", str(tmp_path / "night.yaml"), "--json"])
    assert ill.exit_code == 1
    checks = {c["name"]: c for c in json.loads(ill.stdout)["checks"]}
    assert checks["source"]["state"] == "failure"
    assert checks["archive"]["state"] == "ok"


def test_a_configuration_that_is_wrong_is_one_of_the_findings(tmp_path):
    (tmp_path / "bad.yaml").write_text("stream: x\n")
    ill = CliRunner().invoke(app, ["doctor", str(tmp_path / "bad.yaml")])
    assert ill.exit_code == 1
    assert "FAIL  config" in ill.stdout
