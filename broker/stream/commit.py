"""The second half of a batch, strictly in batch order: archive -> publish -> commit.

1. *outcome*: what was found wanting (dead letters, gaps, resent alerts) goes to the database first, so that a
   restart that reads the batch back from the archive still knows it.
2. *archive*: one Lance commit tagged with the batch. What is published is what is archived.
3. *publish*: one Kafka transaction holds the records, the dead letters and the batch's marker.
4. *commit*: one SQL transaction moves objects, offsets and the batch's state.

Before 2, 3 and 4 the lease is checked: a driver that slept through its successor's start does nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from broker.archive.archive import Archive
from broker.database.ledger import Lease, Ledger
from broker.packets.schema import PUBLIC
from broker.publish.encode import encode
from broker.publish.outputs import Outputs
from broker.publish.publisher import Publisher
from broker.stream.failpoint import failpoint
from broker.stream.plan import DeadLetter, Gap, Plan
from broker.stream.run import write
from broker.stream.work import Result

SUMMARY = ("survey", "alert_id", "object_id", "mjd", "ra", "dec", "hpx29", "rights", "band", "flux", "scores")


@dataclass(frozen=True)
class Committer:
    """Takes a batch's blocks to the archive, the topics and the database, each exactly once."""

    ledger: Ledger
    archive: Archive
    publisher: Publisher
    outputs: Outputs
    lease: Lease
    failed: set[str] = field(default_factory=set)  # models whose failing was told, until they work again

    def fence(self) -> None:
        """Raise LeaseLost unless this driver still holds the stream."""
        self.ledger.check(self.lease)

    def finish(self, plan: Plan, blocks: Sequence[ray.ObjectRef]) -> dict[str, Any]:
        """Archive, publish and commit what was run. Returns the batch's outcome."""
        clock = _Clock()
        results = [Result.from_block(block) for block in ray.get(list(blocks))]
        keep, resent = self._keep(results)
        outcome = _outcome(plan, results, keep, resent)
        letters = [letter for r in results for letter in r.letters]
        gaps = [gap for r in results for gap in r.gaps]
        schemas = {name: text for r in results for name, text in r.schemas.items()}
        failpoint("outcome.before")
        self.ledger.record_outcome(self.lease, plan.batch, outcome, letters, gaps)
        failpoint("outcome.after")
        self._raise_alarms(gaps, outcome)
        clock.stage("dedupe")

        records: list[pa.Table] = []
        alerts: pa.Table | None = None
        if any(k.any() for k in keep):
            self.archive.keep_schemas(schemas)
            for schema in _archived_schemas(results, keep):
                self.archive.prepare(schema)
            pairs = [(block, k) for block, k in zip(blocks, keep, strict=True) if k.any()]
            written = ray.get([write.remote(b, k, self.archive, self.outputs, plan.tag) for b, k in pairs])
            clock.stage("write")
            failpoint("archive.before")
            fragments = [fragment for found, _ in written for fragment in found]
            if self.archive.commit(fragments, plan.tag, self.fence):
                records = [table for _, table in written]
                alerts = pa.concat_tables(_kept(r, k, SUMMARY) for r, k in zip(results, keep, strict=True))
            else:  # a commit that was believed to have failed: what is published is what is archived
                alerts, records = self._read_back(plan)
            failpoint("archive.after")
        clock.stage("archive")
        self._publish(plan, records, letters, outcome)
        clock.stage("publish")
        outcome["latency_ms"] = _latency(results, keep)
        outcome["stages_ms"] |= clock.stages
        self._commit(plan, alerts, outcome)
        return outcome

    def recover(self, plan: Plan) -> dict[str, Any] | None:
        """Finish a batch that a crash left behind its archive commit; None if it has to be run again."""
        marker = self.publisher.marker()
        published = marker is not None and marker["ranges"] == _ranges(plan)
        archived = self.archive.find(plan.tag)
        outcome = self.ledger.outcome(plan.batch)
        if outcome is None or not (archived or published):
            return None
        alerts, records = self._read_back(plan) if archived else (None, [])
        if not published:
            self._publish(plan, records, self.ledger.dead_letters_of(plan.batch), outcome)
        self._commit(plan, alerts, outcome)
        return outcome

    def _read_back(self, plan: Plan) -> tuple[pa.Table, list[pa.Table]]:
        """What the archive has of a batch: the alerts' summary, and the records to publish."""
        alerts = self.archive.read_batch(plan.tag)
        schemas = self.archive.writer_schemas(set(alerts["packet_schema"].to_pylist()))
        return alerts.select(SUMMARY), [encode(alerts, schemas, self.outputs)]

    def _keep(self, results: Sequence[Result]) -> tuple[list[np.ndarray], int]:
        """Which rows are new: the first of each alert_id, unless a batch of the last three nights has it."""
        ids = [r.alerts["alert_id"].to_numpy() for r in results]
        every = np.concatenate([*ids, np.empty(0, np.int64)])
        keep = np.zeros(len(every), bool)
        keep[np.unique(every, return_index=True)[1]] = True
        seen = self.ledger.resent(every)
        if seen:
            keep &= ~np.isin(every, np.fromiter(seen, np.int64, len(seen)))
        pieces = np.split(keep, np.cumsum([len(i) for i in ids])[:-1]) if ids else []
        return pieces, int(len(every) - keep.sum())

    def _raise_alarms(self, gaps: Sequence[Gap], outcome: dict[str, Any]) -> None:
        for gap in gaps:
            what = f"offsets {gap.first} to {gap.end} of {gap.topic}[{gap.partition}] are lost: {gap.reason}"
            self.ledger.event("gap", what, asdict(gap))
        for model, tops in outcome["classes"].items():
            if tops.get("failed") and model not in self.failed:
                self.failed.add(model)
                self.ledger.event("model_failed", f"model {model} did not score {tops['failed']} alerts", {})
            elif not tops.get("failed"):
                self.failed.discard(model)

    def _publish(
        self,
        plan: Plan,
        records: list[pa.Table],
        letters: Sequence[DeadLetter],
        outcome: dict[str, Any],
    ) -> None:
        failpoint("publish.before")
        marker = {
            "stream": plan.stream,
            "batch": plan.batch,
            "ranges": _ranges(plan),
            "counts": outcome["counts"],
        }
        self.publisher.publish(records, letters, {}, marker, self.fence)
        failpoint("publish.after")

    def _commit(self, plan: Plan, alerts: pa.Table | None, outcome: dict[str, Any]) -> None:
        failpoint("commit.before")
        self.ledger.commit(self.lease, plan, alerts, outcome)
        failpoint("commit.after")


def _ranges(plan: Plan) -> list[dict[str, Any]]:
    return [asdict(r) for r in plan.ranges]


class _Clock:
    """Milliseconds of each stage since the one before."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self._last = time.perf_counter()

    def stage(self, name: str) -> None:
        now = time.perf_counter()
        self.stages[name] = (now - self._last) * 1e3
        self._last = now


def _archived_schemas(results: Sequence[Result], keep: Sequence[np.ndarray]) -> list[pa.Schema]:
    """The different ones of the blocks: a field may be of another kind in each, which none alone can say.

    In the blocks' order: of two kinds the one that came first has the field's own name.
    """
    schemas = dict.fromkeys(r.alerts.schema for r, k in zip(results, keep, strict=True) if k.any())
    dropped = (s.remove(s.get_field_index("kafka_timestamp")) for s in schemas)
    return [s.append(pa.field("batch", pa.string())) for s in dropped]


def _outcome(
    plan: Plan, results: Sequence[Result], keep: Sequence[np.ndarray], resent: int
) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    stages: Counter[str] = Counter()
    tops: dict[str, Counter[str]] = {}
    restricted = 0
    for r, k in zip(results, keep, strict=True):
        counts.update(r.counts)
        stages.update(r.stages_ms)
        alerts = _kept(r, k, ("rights", "scores"))
        _count_tops(alerts["scores"], tops)
        restricted += int(pc.sum(pc.not_equal(alerts["rights"], PUBLIC)).as_py() or 0)
    kept = int(sum(k.sum() for k in keep))
    return {
        "counts": {
            **counts,
            "offsets": len(plan),
            "alerts": kept,
            "restricted": restricted,
            "resent": resent,
            "dead_letters": sum(len(r.letters) for r in results),
            "gap_offsets": sum(g.end - g.first for r in results for g in r.gaps),
        },
        "classes": {model: dict(c) for model, c in tops.items()},
        "models": dict(plan.models),
        "attempt": plan.attempt,
        "stages_ms": dict(stages),
    }


def _kept(result: Result, keep: np.ndarray, columns: Sequence[str]) -> pa.Table:
    """Some columns of the rows to keep; the packets' bytes, nearly all of a block, are not copied."""
    return result.alerts.select(columns).filter(pa.array(keep))


def _count_tops(scores: pa.ChunkedArray, tops: dict[str, Counter[str]]) -> None:
    """Add each model's top class (or `failed`) of every row to `tops`."""
    for entry in pc.list_flatten(scores).to_pylist():
        p = entry["probabilities"]
        top = "failed" if p is None else entry["classes"][int(np.argmax(p))]
        tops.setdefault(entry["model"], Counter())[top] += 1


def _latency(results: Sequence[Result], keep: Sequence[np.ndarray]) -> dict[str, float]:
    """Kafka timestamp in to readable out, in ms, of the kept alerts."""
    sent = [r.alerts["kafka_timestamp"].to_numpy()[k] for r, k in zip(results, keep, strict=True)]
    if not any(len(s) for s in sent):
        return {}
    waited = time.time() * 1e3 - np.concatenate(sent)
    p50, p95, p99 = np.percentile(waited, [50, 95, 99])
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "max": float(waited.max())}
