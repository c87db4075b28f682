"""The stream's Scorer over Serve handles: eligible rows out, calibrated scores back.

A model that fails gives null and the reason.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from broker.packets.schema import SCORES
from models.manifest import ModelError, read_manifest
from serve.scoring import Deployed, application

log = logging.getLogger("rayfinch.serve")

RESCAN_S = 2.0  # how often the versions' folders are looked at for a newer one
COOL_OFF_S = 20.0  # after a model stalled, how long its batches wait only briefly for it
BRIEF_S = 1.0


@dataclass(frozen=True)
class Pinned:
    """A version that a batch pinned, with what the caller must know of it."""

    name: str
    version: str
    precondition: str
    inputs: tuple[str, ...]
    timeout_s: float


class ServedModels:
    """The models of a stream, served by its own deployments. Implements broker.stream.protocols.Models."""

    def __init__(self, stream: str, models: Mapping[str, Deployed]) -> None:
        self.stream = stream
        self.models = dict(models)
        self._pinned: dict[str, str] = {}
        self._scanned = -float("inf")
        self._refused: dict[tuple[str, str], str] = {}

    def pin(self) -> dict[str, str]:
        """The version of each model that serves now. A newer one is taken once its replica has loaded it."""
        if time.monotonic() - self._scanned > RESCAN_S:
            self._scanned = time.monotonic()
            for name, model in self.models.items():
                newest = model.current()
                if newest != self._pinned.get(name) and (name, newest) not in self._refused:
                    self._take(name, model, newest)
        return dict(self._pinned)

    def scorer(self, pinned: Mapping[str, str]) -> ServeScorer:
        return ServeScorer(self.stream, tuple(self._describe(n, v) for n, v in pinned.items()))

    def _take(self, name: str, model: Deployed, version: str) -> None:
        if name in self._pinned:  # the first version was loaded when its replica started
            try:
                _handle(application(self.stream, name)).load.remote(version).result(timeout_s=60)
            except Exception as error:
                self._refused[name, version] = str(error)
                log.warning(
                    "model %s stays at %s: %s is refused: %s", name, self._pinned[name], version, error
                )
                return
            log.info("model %s moves from %s to %s", name, self._pinned[name], version)
        self._pinned[name] = version

    def _describe(self, name: str, version: str) -> Pinned:
        model = self.models.get(name)
        if model is None:  # the configuration dropped a model that an open plan still names
            return Pinned(name, version, "false", (), 0.0)
        try:
            manifest = read_manifest(model.folder / version)
        except ModelError as error:
            log.warning("model %s version %s: %s", name, version, error)
            return Pinned(name, version, "true", (), model.timeout_s)
        return Pinned(name, version, manifest.precondition, manifest.inputs, model.timeout_s)


class ServeScorer:
    """Scores a block with every pinned version at once. Travels to tasks; holds names, no handles."""

    def __init__(self, stream: str, pinned: tuple[Pinned, ...]) -> None:
        self.stream = stream
        self.pinned = pinned

    def score(self, alerts: pa.Table) -> pa.Array:
        """See broker.stream.protocols.Scorer."""
        if not len(alerts):
            return pa.array([], SCORES)
        asked = [_ask(self.stream, model, alerts) for model in self.pinned]
        return _by_alert(len(alerts), [_entries(q.model, q.rows, _answer(q)) for q in asked])


@dataclass
class Question:
    """What a version was asked: the rows, and the reply to come, or why there will be none."""

    model: Pinned
    rows: np.ndarray
    app: str
    send: Callable[[], Any] | None = None
    reply: DeploymentResponse | None = None
    reason: str = ""


def _ask(stream: str, model: Pinned, alerts: pa.Table) -> Question:
    """Send the rows that a version scores to a replica; all versions work at once."""
    question = Question(model, np.arange(len(alerts)), application(stream, model.name))
    try:
        question.rows = rows = eligible(alerts, model.precondition)
        names = dict.fromkeys(path.split(".")[0] for path in model.inputs)
        part = alerts.select([name for name in names if name in alerts.column_names])
        if len(rows) < len(alerts):
            part = part.take(rows)
        if len(rows):

            def send() -> Any:
                return _handle(question.app).score.remote(model.version, part)

            question.send = send
            question.reply = send()
    except Exception as error:
        question.reason = _sentence(error)
    return question


def eligible(alerts: pa.Table, precondition: str) -> np.ndarray:
    """Row numbers that satisfy a version's SQL predicate over the alert table."""
    if precondition.strip().lower() == "true":
        return np.arange(len(alerts))
    plain = [f.name for f in alerts.schema if not isinstance(f.type, pa.BaseExtensionType)]
    frame = pl.from_arrow(alerts.select(plain))
    assert isinstance(frame, pl.DataFrame)
    mask = frame.select(pl.sql_expr(precondition).fill_null(False)).to_series()
    return np.flatnonzero(mask.to_numpy())


_handles: dict[str, DeploymentHandle] = {}
_stalled: dict[str, float] = {}  # application -> when it last timed out, in this process


def _handle(app: str) -> DeploymentHandle:
    """One handle a process: making one starts a router."""
    if app not in _handles:
        _handles[app] = serve.get_deployment_handle("replica", app)
    return _handles[app]


def _answer(question: Question) -> pa.Table | str:
    """The class probabilities, or the reason that there are none.

    A replica that dies is asked again, its successor that is, as long as the model's time lasts.
    """
    if question.reply is None or question.send is None:
        return question.reason
    app = question.app
    brief = time.monotonic() - _stalled.get(app, -float("inf")) < COOL_OFF_S
    timeout_s = BRIEF_S if brief else question.model.timeout_s
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            answer = question.reply.result(timeout_s=max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            if not brief:
                _stalled[app] = time.monotonic()
            question.reply.cancel()
            return f"no answer within {timeout_s:g} s"
        except RayActorError as error:
            if time.monotonic() > deadline:
                return _sentence(error)
            time.sleep(0.2)
            question.reply = question.send()
        except Exception as error:
            return _sentence(error)
        else:
            _stalled.pop(app, None)
            return answer


def _sentence(error: Exception) -> str:
    cause = getattr(error, "cause", None) or error
    lines = str(cause).splitlines() or ["no message"]
    return f"{type(cause).__name__}: {lines[0]}"


def _entries(model: Pinned, rows: np.ndarray, answer: pa.Table | str) -> tuple[np.ndarray, pa.StructArray]:
    """One entry of type SCORE for each of `rows`."""
    n = len(rows)
    classes: pa.Array
    if not n:
        return rows, pa.array([], SCORES.value_type)
    if isinstance(answer, pa.Table) and len(answer) == n:
        matrix = np.stack([c.to_numpy() for c in answer.columns], axis=1).astype(np.float32)
        good = np.asarray(np.isfinite(matrix).all(axis=1))
        reasons = pa.array([None if g else "the model could not say" for g in good], pa.string())
        k = len(answer.column_names)
        classes = pa.ListArray.from_arrays(
            pa.array(np.arange(n + 1) * k, pa.int32()), pa.array(answer.column_names * n, pa.string())
        )
        probabilities = pa.ListArray.from_arrays(
            pa.array(np.arange(n + 1) * k, pa.int32()),
            pa.array(matrix.ravel(), pa.float32()),
            mask=pa.array(~good),
        )
    else:
        reason = answer if isinstance(answer, str) else f"answered {len(answer)} rows for {n} alerts"
        classes = pa.nulls(n, pa.list_(pa.string()))
        probabilities = pa.nulls(n, pa.list_(pa.float32()))
        reasons = pa.repeat(reason, n)
    return rows, pa.StructArray.from_arrays(
        [pa.repeat(model.name, n), pa.repeat(model.version, n), classes, probabilities, reasons],
        fields=list(SCORES.value_type),
    )


def _by_alert(n: int, entries: list[tuple[np.ndarray, pa.StructArray]]) -> pa.Array:
    """Gather the models' entries into one list an alert, in the models' order."""
    if not entries:
        return pa.array([[]] * n, SCORES)
    rows = np.concatenate([r for r, _ in entries])
    order = np.argsort(rows, kind="stable")
    values = pa.concat_arrays([e for _, e in entries]).take(pa.array(order))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)
