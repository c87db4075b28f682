"""What a configuration may say, how its mistakes are told, and that nobody sees its secrets."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from rayfinch.commands.config import app
from rayfinch.config import ConfigError, Settings, load
from rayfinch.kafka import unknown_settings
from rayfinch.masking import masked

CONFIGS = Path(__file__).parents[2] / "configs"
PLAIN: dict[str, Any] = {
    "stream": "night",
    "survey": "ztf",
    "source": {"kafka": {"bootstrap.servers": "a:9092"}, "topics": ["^ztf_.*"]},
    "publish": {"kafka": {"bootstrap.servers": "b:9092"}},
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a document, or a text, as a configuration's file; its path."""
    for variable in [v for v in os.environ if v.startswith("RAYFINCH_")]:
        monkeypatch.delenv(variable)

    def file(document: Any = None, **sections: Any) -> Path:
        path = tmp_path / "night.yaml"
        text = document if isinstance(document, str) else yaml.safe_dump({**(document or PLAIN), **sections})
        path.write_text(text)
        return path

    return file


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [str(p) for p in caught.value.problems]


@pytest.mark.parametrize("name", ["ztf", "lsst", "demo"])
def test_the_shipped_configurations_load(name):
    settings = load(CONFIGS / f"{name}.yaml")
    assert [m.name for m in settings.models] == ["stamps", "lightcurve"]
    assert not unknown_settings(settings)


def test_ztf_yaml_documents_every_key():
    """Every key of every section stands in configs/ztf.yaml, with its default."""

    def keys(section: dict, path: str = "") -> set[str]:
        found = set()
        for key, value in section.items():
            found |= {path + key} | (keys(value, f"{path}{key}.") if isinstance(value, dict) else set())
        return found

    document = yaml.safe_load((CONFIGS / "ztf.yaml").read_text())
    defaults = Settings.model_validate({**PLAIN, "models": document["models"][:1]}).model_dump(mode="json")
    assert keys(defaults) <= keys(document)
    assert set(defaults["models"][0]) == set(document["models"][0])
    effective = load(CONFIGS / "ztf.yaml").model_dump(mode="json")
    own = ("stream", "survey", "source", "models", "publish")
    assert {k: v for k, v in effective.items() if k not in own} == {
        k: v for k, v in defaults.items() if k not in own
    }


def test_only_stream_survey_source_and_publish_are_needed(write):
    settings = load(write())
    assert settings.batch.max_alerts == 2000
    assert settings.batch.max_bytes == 256 * 2**20
    assert settings.publish.classes is not None
    assert settings.publish.classes.packet == "slim"
    assert settings.database.url == "sqlite:///rayfinch-data/rayfinch.db"
    assert pickle.loads(pickle.dumps(settings)) == settings  # it travels to Ray's workers


def test_a_registrys_versions_are_fetched_to_the_models_folder(write):
    assert load(write()).models_folder is None  # those that Rayfinch ships
    settings = load(write(registry={}))
    assert settings.registry is not None
    assert settings.registry.uri == "sqlite:///rayfinch-data/registry.db"
    assert settings.models_folder == Path("rayfinch-data/models")
    settings = load(write(registry={"uri": "http://mlflow:5000", "poll_s": 5}, models_dir="/data/models"))
    assert settings.models_folder == Path("/data/models")
    assert (
        "registry.uri: 'file:///runs' is not sqlite:///FILE"
        in problems(write(registry={"uri": "file:///runs"}))[0]
    )


def test_an_unknown_key_is_refused_with_the_nearest_known_one(write):
    path = write(batch={"max_alert": 5}, watch_dog_s=3, topics=["a"])
    assert problems(path) == [
        "line 2: batch.max_alert: unknown key; did you mean batch.max_alerts?",
        "line 13: topics: unknown key; did you mean source.topics?",
        "line 15: watch_dog_s: unknown key; did you mean watchdog_s?",
    ]


def test_mistakes_are_told_all_at_once_each_with_its_key_and_line(write):
    path = write(
        stream="A Night",
        source={"kafka": {"bootstrap.servers": "a", "x": [1]}, "topics": ["^ztf_(", "ztf 1"], "start": "now"},
        models=[{"name": "stamps", "replicas": 0}],
        database={"url": "mysql://u:hunter2@h/d"},
        publish={"all": {"packet": "small"}},
    )
    told = "\n".join(problems(path))
    for sentence in (
        "stream: 'A Night' is not a name of lower-case letters",
        "source.kafka.x: should be a text, a number, true or false",
        "source.topics.0: '^ztf_(' is not a regular expression: missing )",
        "source.topics.1: 'ztf 1' is not a topic's name",
        "source.start: input should be 'earliest' or 'latest', not 'now'",
        "models.0.replicas: input should be greater than or equal to 1, not 0",
        "database.url: 'mysql://u:***@h/d' is not sqlite:///FILE or postgresql+psycopg://",
        "publish.kafka: is missing",
        "publish.all.packet: input should be 'full', 'no-cutouts' or 'slim', not 'small'",
    ):
        assert sentence in told


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        ({"publish": {"kafka": {}}}, "bootstrap.servers is missing"),
        ({"source": {**PLAIN["source"], "topics": []}}, "at least 1 item"),
        ({"source": {**PLAIN["source"], "schemas": "a", "registry": {"url": "b"}}}, "exclude each other"),
        ({"source": {**PLAIN["source"], "registry": {"x": "b"}}}, "registry.url is missing"),
        ({"models": [{"name": "stamps"}, {"name": "stamps"}]}, "stamps is listed twice"),
    ],
)
def test_what_contradicts_itself_is_refused(write, sections, sentence):
    assert sentence in problems(write(**sections))[0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty or not a mapping"),
        ("- a\n- b\n", "is empty or not a mapping"),
        ("stream: a\nsource: [\n", "line 3: is not YAML"),
        ("stream: a\nstream: b\n", "stream: written twice, in lines 1 and 2; keep one"),
    ],
)
def test_what_is_no_mapping_is_refused(write, text, sentence):
    assert sentence in problems(write(text))[0]


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"none.yaml: cannot be read: No such file"):
        load(tmp_path / "none.yaml")


def test_the_environment_overrides_the_file(write, monkeypatch):
    for variable, value in {
        "BATCH__MAX_ALERTS": "500",
        "BATCH__MAX_BYTES": "64MiB",
        "SOURCE__TOPICS": "ztf_20260101_programid1, ^ztf_2026",
        "SOURCE__KAFKA__SASL_PASSWORD": "1234",
        "SOURCE__KAFKA__LOG_LEVEL": "3",
        "SOURCE__REGISTRY__URL": "http://registry",
        "SOURCE__REGISTRY__BASIC_AUTH_USER_INFO": "me:pw",
        "ARCHIVE__STORAGE_OPTIONS__AWS_ACCESS_KEY_ID": "AK",
        "MODELS": '[{"name": "stamps", "version": 3}]',
        "STREAM": "other",
        "PUBLISH__ALL__PACKET": "slim",
    }.items():
        monkeypatch.setenv(f"RAYFINCH_{variable}", value)
    settings = load(write())
    assert (settings.batch.max_alerts, settings.batch.max_bytes) == (500, 64 * 2**20)
    assert settings.source.topics == ["ztf_20260101_programid1", "^ztf_2026"]
    assert settings.source.kafka == {"bootstrap.servers": "a:9092", "sasl.password": "1234", "log_level": "3"}
    assert settings.source.registry == {"url": "http://registry", "basic.auth.user.info": "me:pw"}
    assert settings.archive.storage_options == {"aws_access_key_id": "AK"}
    assert settings.models[0].version == "3"
    assert settings.stream == "other"
    assert settings.publish.all is not None
    assert settings.publish.all.packet == "slim"


def test_what_the_caller_sets_overrides_the_environment(write, monkeypatch):
    monkeypatch.setenv("RAYFINCH_BATCH__MAX_ALERTS", "500")
    overrides = {"batch": {"max_alerts": 7}, "publish": {"kafka": {"bootstrap.servers": "c:1"}}}
    settings = load(write(batch={"in_flight": 3}), overrides)
    assert (settings.batch.max_alerts, settings.batch.in_flight) == (7, 3)
    assert settings.publish.kafka["bootstrap.servers"] == "c:1"


def test_a_mistake_in_the_environment_names_the_variable(write, monkeypatch):
    monkeypatch.setenv("RAYFINCH_BATCH__MAX_ALERTS", "many")
    assert problems(write())[0].startswith("RAYFINCH_BATCH__MAX_ALERTS: batch.max_alerts: input should be a")
    monkeypatch.delenv("RAYFINCH_BATCH__MAX_ALERTS")
    monkeypatch.setenv("RAYFINCH_BATHC__MAX_ALERTS", "5")
    with pytest.raises(ConfigError, match="RAYFINCH_BATHC__MAX_ALERTS: no such section"):
        load(write())


def test_any_setting_of_librdkafka_passes_and_others_are_told(write):
    kafka = {"bootstrap.servers": "a:1", "security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512"}
    accepted = {**kafka, "sasl.username": "u", "sasl.password": "p", "fetch.max.bytes": 1000000}
    source = {**PLAIN["source"], "kafka": accepted}
    settings = load(write(source=source))
    assert settings.source.kafka == accepted
    assert unknown_settings(settings) == []
    refused = load(write(source={**PLAIN["source"], "kafka": {**accepted, "sasl.pasword": "p"}}))
    assert [str(p) for p in unknown_settings(refused)] == [
        'source.kafka: No such configuration property: "sasl.pasword"'
    ]


SECRETS = {
    "source": {
        "kafka": {
            "bootstrap.servers": "a:9092",
            "sasl.username": "me",
            "sasl.password": "hunter2",
            "ssl.key.pem": "hunter2",
            "ssl.key.password": "hunter2",
            "ssl.key.location": "/etc/key.pem",
            "sasl.oauthbearer.client.secret": "hunter2",
            "sasl.oauthbearer.token.endpoint.url": "https://me:hunter2@login/",
        },
        "topics": ["t"],
        "registry": {"url": "https://me:hunter2@registry", "basic.auth.user.info": "me:hunter2"},
    },
    "archive": {"uri": "s3://b", "storage_options": {"aws_secret_access_key": "hunter2", "region": "eu"}},
    "database": {"url": "postgresql+psycopg://me:hunter2@host/db?sslpassword=hunter2"},
}


def test_secrets_are_masked_wherever_settings_are_printed(write):
    settings = load(write(**SECRETS))
    shown = masked(settings.model_dump(mode="json"))
    assert settings.source.kafka["sasl.password"] == "hunter2"
    for text in (json.dumps(shown), repr(settings), str(settings.source), f"{settings}"):
        assert "hunter2" not in text
    assert shown["source"]["kafka"]["sasl.username"] == "me"
    assert shown["source"]["kafka"]["ssl.key.location"] == "/etc/key.pem"
    assert shown["source"]["kafka"]["sasl.oauthbearer.token.endpoint.url"] == "https://me:***@login/"
    assert shown["archive"]["storage_options"] == {"aws_secret_access_key": "***", "region": "eu"}
    assert shown["database"]["url"] == "postgresql+psycopg://me:***@host/db?sslpassword=***"


def test_a_secret_of_the_wrong_type_is_not_printed(write):
    kafka = {"bootstrap.servers": "a:1", "sasl.password": ["hunter2"]}
    assert "hunter2" not in "".join(problems(write(source={"kafka": kafka, "topics": ["t"]})))


def test_config_show_prints_the_effective_configuration(write, monkeypatch):
    monkeypatch.setenv("RAYFINCH_BATCH__MAX_ALERTS", "500")
    path = str(write(**SECRETS))
    as_yaml, as_json = (CliRunner().invoke(app, ["show", path, *more]) for more in ([], ["--json"]))
    assert as_yaml.exit_code == as_json.exit_code == 0
    assert yaml.safe_load(as_yaml.stdout) == json.loads(as_json.stdout)
    assert json.loads(as_json.stdout)["batch"]["max_alerts"] == 500
    assert "hunter2" not in as_yaml.stdout + as_json.stdout


def test_config_check_says_what_is_wrong_where(write):
    good = CliRunner().invoke(app, ["check", str(write())])
    assert (good.exit_code, good.stdout) == (0, f"{write()}: ok\n")
    bad = CliRunner().invoke(app, ["check", str(write(batch={"max_alert": 1})), "--json"])
    assert bad.exit_code == 2
    assert json.loads(bad.stdout)["problems"] == [
        {
            "where": "batch.max_alert",
            "what": "unknown key; did you mean batch.max_alerts?",
            "line": 2,
            "variable": None,
        }
    ]
