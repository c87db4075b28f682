"""The members of an ensemble trained side by side by Ray Train: on cores, on a GPU or on many.

Each is a whole network, small and independent of the others: workers share them out and exchange nothing, so
that the weights do not depend on how many workers there are.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from training.fitting import Progress, seeded

R = TypeVar("R")
# From the member's number, the device that trains it and where to say how far it is.
Work = Callable[[int, str, Progress], R]
FAILURES = 2  # of workers, after which what was being trained is begun again


@dataclass(frozen=True)
class Workers:
    """`count` of them (0: this process), each with so much of a GPU (0: none, 0.2: five share one)."""

    count: int
    gpu: float


def trained(members: int, work: Work[R], workers: Workers, seed: int, progress: Progress) -> list[R]:
    """What `work` returns for each member, in order. Needs a Ray that has been started, if there are workers.

    Raises what Ray Train raises where a member fails.
    """
    if not workers.count:
        return [work(k, "cpu", progress) for k in range(members)]
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.util.queue import Queue

    told: Queue = Queue()
    found: dict[int, R] = {}

    def listen() -> None:
        while (heard := told.get()) is not None:
            member, said = heard
            if member is None:
                progress(said)
            else:
                found[member] = said

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    with tempfile.TemporaryDirectory() as room:
        trainer = TorchTrainer(
            _share,
            train_loop_config={"members": members, "work": ray.put(work), "told": told, "seed": seed},
            torch_config=TorchConfig(backend="gloo"),  # several may share a GPU, which NCCL would refuse
            scaling_config=ScalingConfig(
                num_workers=min(workers.count, members),
                use_gpu=workers.gpu > 0,
                resources_per_worker={"CPU": 1, "GPU": workers.gpu} if workers.gpu else {"CPU": 1},
            ),
            run_config=RunConfig(storage_path=room, failure_config=FailureConfig(max_failures=FAILURES)),
        )
        try:
            trainer.fit()
        finally:
            told.put(None)
            listener.join()
            told.shutdown()
    return [found[k] for k in range(members)]


def _share(given: dict[str, Any]) -> None:
    """In a worker: the members of its rank, and each so many further."""
    import ray
    from ray import train

    context = train.get_context()
    work, told = ray.get(given["work"]), given["told"]
    device = str(train.torch.get_device())
    seeded(given["seed"])
    for member in range(context.get_world_rank(), given["members"], context.get_world_size()):
        told.put((member, work(member, device, lambda text: told.put((None, text)))))
