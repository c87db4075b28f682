"""The seams of the stream: what the loop is given from outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import pyarrow as pa


class Scorer(Protocol):
    """Scores a whole block of alerts with the versions that its batch pinned. Travels to tasks by pickle."""

    def score(self, alerts: pa.Table) -> dict[str, pa.Array]:
        """`scores`: one entry of type broker.packets.schema.SCORES per row, in row order.

        `shadow`, where versions score in the shadow: likewise; it is archived, and leaves the house nowhere.
        Never raises for a model's fault: a version that fails gives null probabilities and a reason.
        """
        ...


class Models(Protocol):
    """The models of a stream: which versions serve now, and a scorer for versions that were pinned."""

    def pin(self) -> dict[str, str]:
        """Name -> version, to be written into the next plan. Does not wait."""
        ...

    def news(self) -> list[str]:
        """What has happened to versions since it was asked last, a sentence each."""
        ...

    def scorer(self, pinned: Mapping[str, str]) -> Scorer: ...


class NoModels:
    """A stream without models: every alert goes out with an empty list of scores. The double for tests."""

    def pin(self) -> dict[str, str]:
        return {}

    def news(self) -> list[str]:
        return []

    def scorer(self, pinned: Mapping[str, str]) -> Scorer:
        return NoScores()


class NoScores:
    def score(self, alerts: pa.Table) -> dict[str, pa.Array]:
        from broker.packets.schema import SCORES

        return {"scores": pa.array([[]] * len(alerts), SCORES)}
