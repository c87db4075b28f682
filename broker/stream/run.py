"""One batch as one bounded Ray Data Dataset; and the archive's fragments, written beside it by tasks."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import ray
import ray.data

from broker.archive.archive import Archive
from broker.publish.encode import encode
from broker.publish.outputs import Outputs
from broker.stream.plan import Range
from broker.stream.planning import chunks
from broker.stream.work import Result, Work

# A task that dies is tried once more by Ray; then the batch fails, and its next attempt isolates each packet.
RETRIES = 1


def quiet() -> None:
    """Ray Data reports each Dataset at length; at several a second that is noise."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Every task would read its process's memory maps once a second: a tenth of its time, for nobody.
    context.memory_usage_poll_interval_s = None
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # failures come as exceptions
    # Ray 2.60 calls max_retries deprecated, but has no other way to say it for one Dataset.
    warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")


def run(work: Work, ranges: Sequence[Range], *, chunk: int, name: str = "batch") -> list[ray.ObjectRef]:
    """Run `work` over `ranges`, at most `chunk` offsets a task; references to the blocks, in range order.

    `name` is what Ray calls the Dataset in its metrics; no two that run at once may share it.
    Raises what Ray Data raises when a task keeps dying, and SourceError when the source does not deliver.
    """
    pieces = chunks(ranges, chunk)
    if not pieces:
        return []
    blocks = [pa.table({"ranges": [json.dumps([asdict(r) for r in piece])]}) for piece in pieces]
    dataset = ray.data.from_arrow(blocks).map_batches(
        work, batch_size=None, batch_format="pyarrow", zero_copy_batch=True, max_retries=RETRIES
    )
    # Ray keeps a hundred metrics of each id for ever, and draws an id for each Dataset: half a gigabyte after
    # 600 batches. There is no public way to give one.
    dataset._set_uuid(name)
    bundles = dataset.iter_internal_ref_bundles()
    return [ref for bundle in bundles for ref in bundle.block_refs]


@ray.remote(num_cpus=0, max_calls=1)
def compact(archive: Archive) -> None:
    """Merge the archive's small fragments and bring its indices up to date, beside the running stream."""
    os.nice(10)  # whatever else the machine has to do comes first; the worker is this task's alone
    archive.compact()


# With a CPU each, or a batch's writers would come on top of the next ones' tasks: more workers, each with a
# start of three seconds and half a gigabyte, for the same CPUs (1.69 ms an alert instead of 1.51).
@ray.remote(num_cpus=1, max_retries=3)
def write(
    block: pa.Table, keep: np.ndarray, archive: Archive, outputs: Outputs, tag: str
) -> tuple[list[str], pa.Table]:
    """Write the kept rows of a block as uncommitted fragments, and encode what will be published of them."""
    result = Result.from_block(block)
    kept = result.alerts.drop_columns(["kafka_timestamp"])
    if not keep.all():
        kept = kept.filter(pa.array(keep))
    kept = kept.append_column("batch", pa.repeat(pa.scalar(tag), len(kept)))
    return archive.write(kept), encode(kept, result.schemas, outputs)
