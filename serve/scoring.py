"""The stream's model replicas: warm Ray Serve deployments, one a model.

They are the stream's own: services that answer the public have others, and never slow it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from ray import serve

from models.contract import Model, ModelError, open_model

log = logging.getLogger("rayfinch.serve")

KEPT = (
    3  # versions a replica keeps in memory: the one that serves, its successor and one that a restart pinned
)


@dataclass(frozen=True)
class Deployed:
    """A model of a stream, as its configuration names it. `version` None means the newest in `folder`."""

    name: str
    folder: Path  # holds a folder for each version
    version: str | None = None
    replicas: int = 1
    gpus: float = 0.0
    timeout_s: float = 15.0

    def versions(self) -> list[str]:
        """Every version in the folder, oldest first (by number where they are numbers)."""
        found = [p.parent.name for p in self.folder.glob("*/model.json")]
        return sorted(found, key=lambda v: (not v.isdigit(), int(v) if v.isdigit() else 0, v))

    def current(self) -> str:
        """The version that serves now. Raises ModelError when there is none."""
        if self.version is not None:
            return self.version
        versions = self.versions()
        if not versions:
            raise ModelError(f"model {self.name!r} has no version in {self.folder}: train or install one")
        return versions[-1]


class Replica:
    """Holds the versions of one model and scores blocks with the one that the batch pinned.

    A version is loaded beside the one that serves; the pointer moves only when it is whole.
    """

    def __init__(self, name: str, folder: str, version: str) -> None:
        self.name = name
        self.folder = Path(folder)
        self.device = _device()
        self._models: dict[str, Model] = {}
        self.load(version)

    def load(self, version: str) -> str:
        """Load `version` unless it is there. Raises ModelError with the reason it can't be served."""
        if version not in self._models:
            if not version or Path(version).name != version:
                raise ModelError(f"version {version!r} of model {self.name!r} is not a plain folder name")
            self._models[version] = open_model(self.folder / version, self.device)
            while len(self._models) > KEPT:
                del self._models[next(iter(self._models))]
        return version

    def score(self, version: str, alerts: pa.Table) -> pa.Table:
        """One float32 column a class, rows as in `alerts`."""
        return self._models[self.load(version)].score(alerts)


def _device() -> str:
    import torch

    torch.set_num_threads(1)  # replicas are the unit of parallel work; more threads than cores only wait
    return "cuda" if torch.cuda.is_available() else "cpu"


def application(stream: str, name: str) -> str:
    """The Serve application of a stream's model."""
    return f"stream-{stream}-{name}"


def deploy(stream: str, models: Mapping[str, Deployed]) -> None:
    """Deploy (or keep, where nothing changed) the replicas of a stream, and wait until they are warm.

    Raises ModelError when a version can't be loaded.
    """
    serve.start(proxy_location="Disabled")
    for model in models.values():
        deployment = serve.deployment(
            Replica,
            name="replica",
            num_replicas=model.replicas,
            max_ongoing_requests=4,
            # On CPUs a replica asks for none: two that did would starve a small machine's Datasets for ever.
            ray_actor_options={"num_cpus": 0, "num_gpus": model.gpus},
            health_check_period_s=2,
            health_check_timeout_s=10,
            graceful_shutdown_timeout_s=2,
            max_constructor_retry_count=2,
        )
        app = deployment.bind(model.name, str(model.folder.resolve()), model.current())
        try:
            serve.run(app, name=application(stream, model.name), route_prefix=None)
        except RuntimeError as error:
            serve.delete(application(stream, model.name), _blocking=False)
            raise ModelError(
                f"model {model.name} version {model.current()} does not start: {error}"
            ) from error
        log.info("model %s version %s is warm", model.name, model.current())
