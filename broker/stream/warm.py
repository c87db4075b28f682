"""Workers that have imported what their first batch needs, before there is one."""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence

import ray


# In a file of its own: a driver asks for workers first, and imports what they import beside them.
@ray.remote(num_cpus=0)
def warm(modules: Sequence[str]) -> None:
    """Import `modules` in a worker that is kept for the stream."""
    for module in modules:
        importlib.import_module(module)
    time.sleep(0.3)  # hold this worker, so that each of several tasks warms one of its own
