"""Which versions a stream's models serve now: followed beside the stream, which never waits for a change.

A version is taken when every replica has loaded it and its golden scores came out right; one that cannot be
loaded is refused, and what served goes on. A challenger has replicas of its own; so has a version that brings
code which the replicas have not, and those that served before it stay until no batch asks them any more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ray import serve

from models.manifest import ModelError, read_manifest
from serve.scorer import Pinned, ServeScorer
from serve.scoring import CODE, SHADOW, Deployed, application, deploy, shadow

log = logging.getLogger("rayfinch.serve")

LOOK_S = 1.0  # how often the models' folders are looked at
LOAD_S = 120.0
ASKED = 30  # a replica; calls go to whichever is free
RETIRED_S = 120.0  # how long replicas that nobody pins any more are kept for the batches that did


class ServedModels:
    """The models of a stream, served by its own deployments. Implements broker.stream.protocols.Models."""

    def __init__(self, stream: str, models: Mapping[str, Deployed]) -> None:
        self.stream = stream
        self.models = dict(models)
        self._pinned: dict[str, str] = {}
        self._apps: dict[str, str] = {}  # the application of what is pinned now
        self._served: dict[tuple[str, str], str] = {}  # and of each version that was
        self._retired: dict[str, float] = {}  # application -> when nobody pinned it any more
        self._news: deque[str] = deque()
        self._refused: dict[tuple[str, str], str] = {}
        self._follower: threading.Thread | None = None

    def pin(self) -> dict[str, str]:
        """See broker.stream.protocols.Models. What deploy() has loaded comes first."""
        if self._follower is None:
            for name, model in self.models.items():
                self._pin(name, model.current(), model.app(self.stream))
            self._follower = threading.Thread(target=self._follow, daemon=True, name="versions")
            self._follower.start()
        return dict(self._pinned)

    def news(self) -> list[str]:
        return [self._news.popleft() for _ in range(len(self._news))]

    def scorer(self, pinned: Mapping[str, str]) -> ServeScorer:
        return ServeScorer(tuple(self._describe(n, v) for n, v in pinned.items()))

    def look(self) -> None:
        """Take what has changed since the last look: champions, and challengers."""
        for name, model in self.models.items():
            try:
                newest, challenger = model.current(), model.challenger()
            except ModelError as error:  # a folder that is being changed, or is broken: what serves goes on
                self._refuse(name, "", str(error))
                continue
            if newest != self._pinned.get(name):
                self._take(name, newest)
            if challenger != self._pinned.get(shadow(name)):
                self._challenge(name, challenger)

    def _follow(self) -> None:
        forgotten = False
        while True:
            try:
                if not forgotten:
                    self._forget_others()
                    forgotten = True
                self.look()
                self._end_retired()
            except Exception as error:  # Ray's, while a replica or its controller restarts
                log.warning("the models' versions cannot be looked at: %s", error)
            time.sleep(LOOK_S)

    def _take(self, name: str, version: str) -> None:
        if (name, version) in self._refused:
            return
        before = self._pinned.get(name)
        try:
            self._make_ready(name, replace(self.models[name], version=version))
        except ModelError as error:  # any other is Ray's: the next look tries again
            self._refuse(name, version, f"it stays at {before}: {_cause(error)}")
            return
        self._tell(f"model {name} moves from {before} to {version}")

    def _challenge(self, name: str, version: str | None) -> None:
        key = shadow(name)
        if version is None:
            del self._pinned[key]
            serve.delete(self._apps.pop(key), _blocking=False)
            self._tell(f"model {name} has no challenger any more")
            return
        if (key, version) in self._refused:
            return
        try:
            self._make_ready(key, replace(self.models[name], name=key, version=version))
        except ModelError as error:
            self._pinned.pop(key, None)
            if app := self._apps.pop(key, None):
                serve.delete(app, _blocking=False)
            self._refuse(key, version, _cause(error))
            return
        self._tell(f"model {name}: {version} scores in the shadow")

    def _make_ready(self, key: str, model: Deployed) -> None:
        """Load a version and pin it, in new replicas where its code or its part is new. Raises ModelError."""
        app = model.app(self.stream)
        new = app != self._apps.get(key)
        if new:
            deploy(self.stream, {key: model})
        try:
            _load_everywhere(app, model.current(), model.replicas)
        except ModelError:
            if new:
                serve.delete(app, _blocking=False)
            raise
        self._pin(key, model.current(), app)

    def _pin(self, key: str, version: str, app: str) -> None:
        before = self._apps.get(key, app)
        self._served[key, version] = self._apps[key] = app
        self._pinned[key] = version
        self._retired.pop(app, None)
        if before != app:
            self._retired[before] = time.monotonic()

    def _end_retired(self) -> None:
        for app, since in list(self._retired.items()):
            if time.monotonic() - since > RETIRED_S:
                del self._retired[app]
                self._served = {at: other for at, other in self._served.items() if other != app}
                serve.delete(app, _blocking=False)

    def _forget_others(self) -> None:
        """Delete what a former driver left of these models: replicas that nobody asks any more."""
        ours = {application(self.stream, key) for name in self.models for key in (name, shadow(name))}
        challengers = [m for m in self.models.values() if m.challenger() is not None]
        used = {*self._apps.values(), *(application(self.stream, shadow(m.name)) for m in challengers)}
        for app in serve.status().applications:
            if app.partition(CODE)[0] in ours and app not in used:
                serve.delete(app, _blocking=False)

    def _refuse(self, name: str, version: str, reason: str) -> None:
        if self._refused.get((name, version)) != reason:
            self._refused[name, version] = reason
            self._tell(f"model {name.removesuffix(SHADOW)}: {version or 'its folder'} is refused: {reason}")

    def _tell(self, what: str) -> None:
        log.info("%s", what)
        self._news.append(what)

    def _describe(self, key: str, version: str) -> Pinned:
        name, shadowed = key.removesuffix(SHADOW), key.endswith(SHADOW)
        model = self.models.get(name)
        if model is None:  # the configuration dropped a model that an open plan still names
            return Pinned(name, version, "false", (), 0.0, "", shadowed)
        app = self._served.get((key, version)) or self._apps.get(key) or application(self.stream, key)
        try:
            manifest = read_manifest(model.folder / version)
        except ModelError as error:
            log.warning("model %s version %s: %s", name, version, error)
            return Pinned(name, version, "true", (), model.timeout_s, app, shadowed)
        return Pinned(name, version, manifest.precondition, manifest.inputs, model.timeout_s, app, shadowed)


def _load_everywhere(app: str, version: str, replicas: int) -> None:
    """Let every replica load a version. Raises what the first one raised that cannot."""
    handle: Any = serve.get_deployment_handle("replica", app)
    loaded: set[str] = set()
    for _ in range(ASKED * replicas):
        loaded.add(handle.load.remote(version).result(timeout_s=LOAD_S))
        if len(loaded) >= replicas:
            return


def _cause(error: Exception) -> str:
    lines = str(getattr(error, "cause", None) or error).splitlines()
    return lines[0] if lines else type(error).__name__
