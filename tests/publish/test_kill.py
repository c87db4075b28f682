"""kill -9 around the commit: a batch is published whole, or not at all, and the marker tells which."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from broker.publish.outputs import Outputs
from broker.publish.publisher import Publisher
from tests.publish.topics import messages

ROOT = Path(__file__).parents[2]

# A stream that publishes batch 1 and dies with batch 2 at the given moment.
PROGRAM = """
import os, signal, sys
import pyarrow as pa
from broker.publish.encode import RECORDS, Outputs
from broker.publish.publisher import Publisher
from broker.stream.plan import DeadLetter

kafka, prefix, moment = sys.argv[1:]
record = {"topic": f"{prefix}.ztf.all", "key": b"ZTF1", "value": b"alert", "headers": "{}", "shard": 1}
records = pa.Table.from_pylist([record] * 100, RECORDS)
letters = [DeadLetter("t", "id", 0, 0, "bad", b"packet")]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)

publisher = Publisher({"bootstrap.servers": kafka}, prefix, Outputs(prefix=prefix), "ztf")
publisher.open()
publisher.publish([records], [], {}, {"batch": 1}, lambda: None)
publisher.publish([records], letters, {}, {"batch": 2}, die if moment == "before" else lambda: None)
die()
"""


@pytest.mark.crash
@pytest.mark.parametrize(("moment", "batches"), [("before", 1), ("after", 2)])
def test_kill_9_before_and_after_the_commit(kafka, topic, moment, batches):
    died = subprocess.run([sys.executable, "-c", PROGRAM, kafka, topic, moment], cwd=ROOT, timeout=60)
    assert died.returncode == -signal.SIGKILL

    publisher = Publisher({"bootstrap.servers": kafka}, topic, Outputs(prefix=topic), "ztf")
    publisher.open()
    assert publisher.marker() == {"batch": batches}
    settings = {"bootstrap.servers": kafka}
    assert len(messages(settings, f"{topic}.ztf.all")) == 100 * batches
    assert len(messages(settings, f"{topic}.ztf.deadletters")) == batches - 1

    # The successor does what is missing.
    publisher.publish([], [], {}, {"batch": batches + 1}, lambda: None)
    assert publisher.marker() == {"batch": batches + 1}
    publisher.close()
