"""Whether a run was exact: the topics, the archive and the database hold just what was sent, scored. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Held:
    """What one place holds: its alert ids, one an entry, and by model the ids that have its score.

    `scored` None: a place that keeps no scores.
    """

    place: str
    alert_ids: list[int]
    scored: Mapping[str, Set[int]] | None = field(default=None)


def faults(sent: Iterable[int], held: Iterable[Held], eligible: Mapping[str, Set[int]]) -> list[str]:
    """What is wrong, a sentence each; nothing where every place is exact.

    sent: the alert ids that went in, each once. eligible: by model, the ids that it has to score.
    """
    sent = set(sent)
    found = []
    for where in held:
        counted = Counter(where.alert_ids)
        lost, strange = sent - counted.keys(), counted.keys() - sent
        doubled = {alert_id for alert_id, n in counted.items() if n > 1}
        for what, ids in (("lacks", lost), ("holds twice", doubled), ("holds unsent", strange)):
            if ids:
                found.append(f"{where.place} {what} {_some(ids)} of {len(sent)} alerts")
        if where.scored is not None:
            for model, due in eligible.items():
                if bare := (due & counted.keys()) - where.scored.get(model, frozenset()):
                    found.append(f"{where.place} has {_some(bare)} alerts without a score of {model}")
    return found


def objects_faults(counts: Mapping[str, int], alerts: Mapping[str, int]) -> list[str]:
    """Where the database's number of alerts of an object is not the archive's."""
    wrong = {o for o in counts.keys() | alerts.keys() if counts.get(o, 0) != alerts.get(o, 0)}
    if not wrong:
        return []
    one = min(wrong)
    return [
        f"the database counts the alerts of {len(wrong)} objects wrong, such as {one}: "
        f"{counts.get(one, 0)} instead of {alerts.get(one, 0)}"
    ]


def _some(ids: Set[int]) -> str:
    return f"{len(ids)} (such as {min(ids)})"
