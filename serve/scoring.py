"""The stream's model replicas: warm Ray Serve deployments, one a model.

They are the stream's own: services that answer the public have others, and never slow it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import ray
from ray import serve
from ray.exceptions import ActorAlreadyExistsError
from ray.serve import Application
from ray.serve.api import RunTarget
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview

from models.contract import Model, ModelError, brought, open_model
from models.folders import CHALLENGER, CHAMPION, read_aliases

log = logging.getLogger("rayfinch.serve")

KEPT = (
    3  # versions a replica keeps in memory: the one that serves, its successor and one that a restart pinned
)


@dataclass(frozen=True)
class Deployed:
    """A model of a stream, as its configuration names it. `version` None: the champion, or the newest."""

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

    def challenger(self) -> str | None:
        """The version that scores in the shadow; None where there is none, or it serves already."""
        found = read_aliases(self.folder).get(CHALLENGER)
        return None if found == self.current() else found

    def app(self, stream: str) -> str:
        """The Serve application of what serves now. Versions that bring other code have another one."""
        try:
            code = brought(self.folder / self.current())
        except ModelError:
            code = ""  # whoever loads it will say so
        return application(stream, self.name) + (f"{CODE}{code}" if code else "")

    def current(self) -> str:
        """The version that serves now: the configured one, the champion, or the newest. Raises ModelError."""
        if self.version is not None:
            return self.version
        if champion := read_aliases(self.folder).get(CHAMPION):
            return champion
        versions = self.versions()
        if not versions:
            raise ModelError(f"model {self.name!r} has no version in {self.folder}: train or install one")
        return versions[-1]


class Replica:
    """Holds the versions of one model and scores blocks with the one that the batch pinned.

    A version is loaded beside the one that serves; the pointer moves only when it is whole.
    """

    def __init__(self, set_up: str, folder: str, version: str) -> None:
        self._set_up = set_up
        self.folder = Path(folder)
        self.device = _device()
        self._models: dict[str, Model] = {}
        self._loading = threading.Lock()
        self._load(version)

    def set_up(self) -> str:
        """What it was deployed with."""
        return self._set_up

    def load(self, version: str) -> str:
        """Load `version` unless it is there, beside what serves. Says which replica this is.

        Raises ModelError with the reason it can't be served.
        """
        self._load(version)
        return serve.get_replica_context().replica_tag

    def score(self, version: str, alerts: pa.Table) -> pa.Table:
        """One float32 column a class, rows as in `alerts`."""
        return self._load(version).score(alerts)

    def _load(self, version: str) -> Model:
        if model := self._models.get(version):
            return model
        if not version or Path(version).name != version:
            raise ModelError(f"version {version!r} is not a plain folder name")
        with self._loading:
            if version not in self._models:
                try:
                    model = open_model(self.folder / version, self.device)
                except ModelError:
                    raise
                except Exception as error:  # the architecture's own
                    raise ModelError(f"{self.folder / version}: {type(error).__name__}: {error}") from error
                kept = list(self._models.items())[1 - KEPT :]
                self._models = dict([*kept, (version, model)])
            return self._models[version]


def _device() -> str:
    import torch

    torch.set_num_threads(1)  # replicas are the unit of parallel work; more threads than cores only wait
    return "cuda" if torch.cuda.is_available() else "cpu"


# No model's name has a dot or an @.
SHADOW = ".shadow"
CODE = "@"


def application(stream: str, name: str) -> str:
    """The Serve application of a stream's model."""
    return f"stream-{stream}-{name}"


def shadow(name: str) -> str:
    """What a model's challenger is called where versions are pinned, and in its application's name."""
    return f"{name}{SHADOW}"


def deploy(stream: str, models: Mapping[str, Deployed]) -> None:
    """Deploy the replicas of a stream, all at once, and wait until they are warm.

    Those that a former driver of the same code left running, set up alike, are kept as they are. Raises
    ModelError when a version can't be loaded.
    """
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    _start()
    named = {model.app(stream): model for model in models.values()}
    targets = {app: model for app, model in named.items() if not _is_warm(app, model)}
    if not targets:
        return
    try:
        serve.run_many([RunTarget(_bind(model), app, route_prefix=None) for app, model in targets.items()])
    except RuntimeError as error:
        found = serve.status().applications
        broken = [app for app in targets if app in found and found[app].status != ApplicationStatus.RUNNING]
        reasons = "; ".join(f"{targets[app].name}: {_reason(found[app])}" for app in broken)
        for app in broken:
            serve.delete(app, _blocking=False)
        raise ModelError(f"models do not start: {reasons or _last_line(str(error))}") from error


def _start() -> None:
    """Start Serve where it doesn't run yet, in one go with other streams that start on the same cluster."""
    for left in reversed(range(5)):
        try:
            serve.start(proxy_location="Disabled")
            return
        except (ActorAlreadyExistsError, ValueError):  # another driver was faster: now it is there
            if not left:
                raise
            time.sleep(0.5)


def _bind(model: Deployed) -> Application:
    deployment = serve.deployment(
        name="replica",
        num_replicas=model.replicas,
        max_ongoing_requests=4,
        # On CPUs a replica asks for none: two that did would starve a small machine's Datasets for ever.
        ray_actor_options={"num_cpus": 0, "num_gpus": model.gpus},
        health_check_period_s=2,
        health_check_timeout_s=10,
        graceful_shutdown_timeout_s=2,
        max_constructor_retry_count=2,
    )(Replica)
    return deployment.bind(_set_up(model), str(model.folder.resolve()), model.current())


def _set_up(model: Deployed) -> str:
    """What replicas must have in common to be kept: their settings, and the code that they run."""
    code = ray.get_runtime_context().runtime_env.get("working_dir", "")
    return f"{model.name} {model.folder.resolve()} {model.replicas} {model.gpus} {code}"


def _is_warm(app: str, model: Deployed) -> bool:
    found = serve.status().applications.get(app)
    if found is None or found.status != ApplicationStatus.RUNNING:
        return False
    try:
        handle = serve.get_deployment_handle("replica", app)
        return handle.set_up.remote().result(timeout_s=5) == _set_up(model)
    except Exception as error:  # whatever it is that ails them, they are deployed anew
        log.info("the replicas of %s are deployed anew: %s", app, error)
        return False


def _reason(application: ApplicationStatusOverview) -> str:
    """Why it doesn't run: its deployment knows more than it does itself."""
    causes = [d.message for d in application.deployments.values() if d.message.strip()]
    return _last_line(causes[-1] if causes else application.message)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason was given"
