"""The stream's Scorer over Serve handles: eligible rows out, calibrated scores back.

A model that fails gives null and the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from broker.packets.schema import SCORES
from models.contract import Model

SILENT = "the model could not say"  # of an alert that it was asked about; nothing has failed
COOL_OFF_S = 20.0  # after a model stalled, how long its batches wait only briefly for it
REST_S = 5.0  # after a challenger was late, how long it is not asked: a process's first question always is
BRIEF_S = 1.0
GRACE_S = 0.2  # a challenger has as long as the champions took, and this


@dataclass(frozen=True)
class Pinned:
    """A version that a batch pinned, with what the caller must know of it."""

    name: str
    version: str
    precondition: str
    inputs: tuple[str, ...]
    timeout_s: float
    app: str  # the Serve application that has it
    shadow: bool = False  # a challenger: its scores are kept, and leave the house nowhere


class ServeScorer:
    """Scores a block with every pinned version at once. Travels to tasks; holds names, no handles."""

    def __init__(self, pinned: tuple[Pinned, ...]) -> None:
        self.pinned = pinned

    def score(self, alerts: pa.Table) -> dict[str, pa.Array]:
        """See broker.stream.protocols.Scorer. Champions are waited for; challengers as long again."""
        begin = time.monotonic()
        asked = [_ask(model, alerts) for model in self.pinned]
        champions = [q for q in asked if not q.model.shadow]
        found = {"scores": _gathered(alerts, champions)}
        if len(champions) < len(asked):
            spent = time.monotonic() - begin
            found["shadow"] = _gathered(alerts, [q for q in asked if q.model.shadow], spent + GRACE_S)
        return found


def _gathered(alerts: pa.Table, asked: Sequence[Question], limit_s: float = float("inf")) -> pa.Array:
    if not len(alerts):
        return pa.array([], SCORES)
    return _by_alert(len(alerts), [entries(q.model, q.rows, _answer(q, limit_s)) for q in asked])


@dataclass
class Question:
    """What a version was asked: the rows, and the reply to come, or why there will be none."""

    model: Pinned
    rows: np.ndarray
    send: Callable[[], Any] | None = None
    reply: DeploymentResponse | None = None
    reason: str = ""


def _ask(model: Pinned, alerts: pa.Table) -> Question:
    """Send the rows that a version scores to a replica; all versions work at once."""
    question = Question(model, np.arange(len(alerts)))
    if model.shadow and _stalled_within(model.app, REST_S):
        question.reason = "it is not asked for a while: its answers come too late"
        return question
    try:
        question.rows = rows = eligible(alerts, model.precondition)
        names = dict.fromkeys(path.split(".")[0] for path in model.inputs)
        part = alerts.select([name for name in names if name in alerts.column_names])
        if len(rows) < len(alerts):
            part = part.take(rows)
        if len(rows):

            def send() -> Any:
                return _handle(model.app).score.remote(model.version, part)

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


def _stalled_within(app: str, seconds: float) -> bool:
    """Whether it stalled not long ago."""
    return time.monotonic() - _stalled.get(app, -float("inf")) < seconds


def _answer(question: Question, limit_s: float) -> pa.Table | str:
    """The class probabilities, or the reason that there are none, after `limit_s` at the latest.

    A replica that dies is asked again, its successor that is, as long as the model's time lasts.
    """
    if question.reply is None or question.send is None:
        return question.reason
    app = question.model.app
    brief = not question.model.shadow and _stalled_within(app, COOL_OFF_S)
    timeout_s = min(BRIEF_S if brief else question.model.timeout_s, limit_s)
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            answer = question.reply.result(timeout_s=max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            if not brief:
                _stalled[app] = time.monotonic()
            question.reply.cancel()
            return f"no answer within {timeout_s:.3g} s"
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


def entries(
    model: Pinned | Model, rows: np.ndarray, answer: pa.Table | str
) -> tuple[np.ndarray, pa.StructArray]:
    """One entry of type SCORE for each of `rows`."""
    n = len(rows)
    classes: pa.Array
    if not n:
        return rows, pa.array([], SCORES.value_type)
    if isinstance(answer, pa.Table) and len(answer) == n:
        matrix = np.stack([c.to_numpy() for c in answer.columns], axis=1).astype(np.float32)
        good = np.asarray(np.isfinite(matrix).all(axis=1))
        reasons = pa.array([None if g else SILENT for g in good], pa.string())
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
