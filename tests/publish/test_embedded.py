"""The Publisher on the embedded Kafka: it takes transactions, though it isolates nothing."""

import pytest

from broker.publish.encode import Outputs, encode
from broker.publish.publisher import Publisher
from broker.publish.reader import Schemas, decode
from rayfinch.embedded import PRODUCER, EmbeddedKafka
from tests.publish.tables import row, table, writer_schemas
from tests.publish.topics import messages


@pytest.fixture(scope="module")
def embedded():
    with EmbeddedKafka() as server:
        yield {"bootstrap.servers": server.bootstrap, **PRODUCER}


def test_batches_are_published_and_the_marker_is_found_by_the_next_publisher(embedded, ztf, topic):
    outputs = Outputs(prefix=topic)
    records = encode(table([row(o) for o in ztf[:20]]), writer_schemas(ztf[:20]), outputs)
    publisher = Publisher(embedded, topic, outputs, "ztf")
    publisher.open()
    assert publisher.marker() is None
    for batch in range(3):
        publisher.publish([records], [], {}, {"batch": batch}, lambda: None)
    assert publisher.marker() == {"batch": 2}
    publisher.close()

    successor = Publisher(embedded, topic, outputs, "ztf")
    successor.open()
    assert successor.marker() == {"batch": 2}
    successor.close()

    schemas = Schemas(embedded, topic)
    found = [decode(m, schemas) for m in messages(embedded, f"{topic}.ztf.all")]
    assert len(found) == 60
    assert {a["candid"] for a in found} == {o.alert["candid"] for o in ztf[:20]}
