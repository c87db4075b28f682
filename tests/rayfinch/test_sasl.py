"""A source behind SASL_SSL with SCRAM: the settings of the YAML are all it takes."""

from __future__ import annotations

import shutil
import subprocess

import pytest
import yaml
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    NewTopic,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from broker.publish.outputs import Outputs
from broker.publish.publisher import Publisher
from rayfinch.config import load
from rayfinch.kafka import Unreachable, topics
from tests.conftest import missing
from tests.support.kafka import KafkaServer
from tests.support.ports import free_port

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def secured(kafka_available, tmp_path_factory):
    """(address, CA file) of a listener that wants TLS and SCRAM, beside a plain one that makes the user."""
    if not shutil.which("keytool"):
        missing("no keytool: it comes with openjdk-17-jre-headless")
    folder = tmp_path_factory.mktemp("sasl")
    store = ["-keystore", str(folder / "store.p12"), "-storepass", "changeit", "-alias", "kafka"]
    name = ["-dname", "CN=localhost", "-ext", "SAN=dns:localhost,ip:127.0.0.1"]
    subprocess.run(
        ["keytool", "-genkeypair", *store, *name, "-keyalg", "RSA", "-validity", "2"],
        check=True,
        capture_output=True,
    )
    ca = folder / "ca.pem"
    subprocess.run(
        ["keytool", "-exportcert", *store, "-rfc", "-file", str(ca)], check=True, capture_output=True
    )
    port = free_port(run=3)
    plain, controller, secure = (f"127.0.0.1:{port + i}" for i in range(3))
    properties = {
        "listeners": f"PLAINTEXT://{plain},CONTROLLER://{controller},SASL_SSL://{secure}",
        "advertised.listeners": f"PLAINTEXT://{plain},SASL_SSL://{secure}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "ssl.keystore.location": str(folder / "store.p12"),
        "ssl.keystore.password": "changeit",
    }
    with KafkaServer(folder / "kafka", port, properties) as server:
        admin = AdminClient({"bootstrap.servers": server.bootstrap})
        user = UserScramCredentialUpsertion(
            "rayfinch", ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), PASSWORD.encode()
        )
        for future in admin.alter_user_scram_credentials([user]).values():
            future.result(30)
        yield secure, str(ca)


@pytest.fixture
def settings(secured, tmp_path, monkeypatch):
    """Settings of a stream on the secured Kafka, the password from the environment."""
    address, ca = secured
    kafka = {
        "bootstrap.servers": address,
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "rayfinch",
        "ssl.ca.location": ca,
    }
    document = {
        "stream": "night",
        "survey": "ztf",
        "source": {"kafka": kafka, "topics": ["t"]},
        "publish": {"kafka": kafka},
    }
    path = tmp_path / "night.yaml"
    path.write_text(yaml.safe_dump(document))
    monkeypatch.setenv("RAYFINCH_SOURCE__KAFKA__SASL_PASSWORD", PASSWORD)
    monkeypatch.setenv("RAYFINCH_PUBLISH__KAFKA__SASL_PASSWORD", PASSWORD)
    return load(path)


def test_a_client_of_the_configuration_reads_and_writes(settings, topic):
    admin = AdminClient(settings.publish.kafka)
    admin.create_topics([NewTopic(topic, 1)])[topic].result(30)
    assert topic in topics(settings.source.kafka)
    producer = Producer(settings.publish.kafka)
    producer.produce(topic, b"packet")
    assert producer.flush(30) == 0
    consumer = Consumer({**settings.source.kafka, "group.id": "g"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    message = consumer.poll(30)
    consumer.close()
    assert message.value() == b"packet"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sasl.password": "wrong"}, "Authentication failed"),
        ({"sasl.username": "nobody"}, "Authentication failed"),
        ({"ssl.ca.location": "probe"}, "certificate verify failed"),
        ({"security.protocol": "PLAINTEXT"}, "not configured for SASL|compare security.protocol"),
    ],
)
def test_without_the_right_settings_it_is_refused_with_a_reason(settings, change, reason):
    with pytest.raises(Unreachable, match=reason):
        topics({**settings.source.kafka, **change}, timeout_s=3)


def test_a_publisher_publishes_through_it(settings, topic):
    outputs = Outputs(prefix=topic)
    publisher = Publisher(settings.publish.kafka, topic, outputs, "ztf")
    publisher.open()
    assert publisher.marker() is None
    publisher.publish([], [], {}, {"batch": 1}, lambda: None)
    assert publisher.marker() == {"batch": 1}
    publisher.close()
