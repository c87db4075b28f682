"""The seams of the stream: what the loop is given from outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import pyarrow as pa


class Scorer(Protocol):
    """Scores a whole block of alerts with the versions that its batch pinned. Travels to tasks by pickle."""

    def score(self, alerts: pa.Table) -> pa.Array:
        """One entry of type broker.packets.schema.SCORES per row, in row order.

        Never raises for a model's fault: a version that fails gives null probabilities and a reason.
        """
        ...


class Models(Protocol):
    """The models of a stream: which versions serve now, and a scorer for versions that were pinned."""

    def pin(self) -> dict[str, str]:
        """Name -> version, to be written into the next plan."""
        ...

    def scorer(self, pinned: Mapping[str, str]) -> Scorer: ...


class NoModels:
    """A stream without models: every alert goes out with an empty list of scores. The double for tests."""

    def pin(self) -> dict[str, str]:
        return {}

    def scorer(self, pinned: Mapping[str, str]) -> Scorer:
        return NoScores()


class NoScores:
    def score(self, alerts: pa.Table) -> pa.Array:
        from broker.packets.schema import SCORES

        return pa.array([[]] * len(alerts), SCORES)
