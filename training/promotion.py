"""The gate between a challenger and the champion's place: what a version must show before it serves.

It must score its golden inputs as it did where it was made (which opening it checks), be better than the
champion on a frozen set beyond doubt, lose no class, stay calibrated, and not be much slower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from models.contract import Model, ModelError, open_model
from models.golden import FILE
from models.manifest import read_manifest
from training import frozen
from training.answers import Eligible, Progress, everything, golden_inputs, probabilities, told
from training.answers import seconds_per_alert as timed
from training.dataset import Labelled
from training.paired import CONFIDENCE, Paired, paired


@dataclass(frozen=True)
class Margins:
    """By how much a challenger may be worse.

    `seconds_per_alert` is for a model's first version, which has no champion to be compared with: a batch of
    2,000 alerts takes 10 s then, and after 15 s a stream goes on without a score.
    """

    class_f1: float = 0.05
    classes: Mapping[str, float] = field(default_factory=dict)  # where a class has a margin of its own
    calibration: float = 0.02
    slower: float = 2.0  # times the champion's time per alert
    seconds_per_alert: float = 0.005

    def of(self, name: str) -> float:
        return self.classes.get(name, self.class_f1)


@dataclass(frozen=True)
class Decision:
    """`reasons` are what speaks against a promotion, each a sentence; `numbers` is all that was measured."""

    reasons: tuple[str, ...]
    numbers: Mapping[str, Any]

    @property
    def passed(self) -> bool:
        return not self.reasons

    def written(self) -> dict[str, Any]:
        """As a JSON-ready object."""
        return {"passed": self.passed, "reasons": list(self.reasons), **self.numbers}


def gate(
    challenger: Path,
    champion: Path | None,
    data: Labelled | None,
    eligible: Eligible,
    margins: Margins = Margins(),
    progress: Progress = lambda line: None,
) -> Decision:
    """Judge the version in folder `challenger` against the one in `champion` on the frozen set `data`.

    A model's first version has no champion and needs no frozen set. Raises ModelError when the challenger
    does not open, which includes golden scores that do not hold: that cannot be forced either.
    """
    new = open_model(challenger)
    reasons = []
    if not (challenger / FILE).is_file():
        reasons.append(f"{told(new)} has no golden scores ({FILE}): no machine could tell that it serves it")
    if champion is None:
        return _first(new, challenger, data, eligible, margins, reasons)
    try:
        old = open_model(champion)
    except ModelError as error:
        return Decision((*reasons, f"the champion does not open, so there is no comparison: {error}"), {})
    if set(new.classes) != set(old.classes):
        reasons.append(
            f"{told(new)} has the classes {', '.join(new.classes)}, {told(old)} has "
            f"{', '.join(old.classes)}: the topics of classes would change"
        )
        return Decision(tuple(reasons), {})
    if data is None:
        reasons.append(f"without a frozen set {told(new)} cannot be compared with {told(old)}")
        return Decision(tuple(reasons), {})
    if leak := trained_on(challenger, data):
        reasons.append(
            f"{told(new)} was trained on the frozen set ({leak}): it says nothing about new alerts"
        )
    truth = np.array([old.classes.index(label) for label in data.labels])
    try:
        before, after = (probabilities(m, old.classes, data.table, eligible, progress) for m in (old, new))
        seconds = timed((old, new), data.table, eligible)
    except ModelError as error:
        return Decision((*reasons, str(error)), {"frozen": described(data)})
    found = paired(truth, data.groups, before, after)
    numbers = _numbers(found, seconds, old, new, data, margins)
    numbers["frozen"]["champion_trained_on"] = trained_on(champion, data)
    return Decision((*reasons, *judged(found, seconds, old.classes, margins)), numbers)


def judged(
    found: Paired, seconds: Sequence[float], classes: Sequence[str], margins: Margins = Margins()
) -> list[str]:
    """What speaks against the new version, in sentences; `seconds` an alert, of the old and the new one."""
    reasons = []
    if not found.lower > 0:
        reasons.append(
            f"macro-F1 {found.new:.4f} against {found.old:.4f}: the difference is {found.difference:+.4f}, "
            f"its lower bound ({CONFIDENCE:.0%}, {found.objects} objects) {found.lower:+.4f}, not above zero"
        )
    for name, before, after in zip(classes, found.old_f1, found.new_f1, strict=True):
        if before - after > margins.of(name):
            reasons.append(
                f"class {name} loses {before - after:.4f} of its F1 ({before:.4f} to {after:.4f}), more than "
                f"its margin of {margins.of(name):g}"
            )
    worse = found.new_calibration - found.old_calibration
    if worse > margins.calibration:
        reasons.append(
            f"calibration error {found.new_calibration:.4f} against {found.old_calibration:.4f}: {worse:.4f} "
            f"worse, more than the margin of {margins.calibration:g}"
        )
    before, after = seconds
    if after > margins.slower * before:
        reasons.append(
            f"{after * 1e3:.3g} ms an alert against {before * 1e3:.3g}: {after / before:.1f} times as slow, "
            f"more than {margins.slower:g} times"
        )
    return reasons


def trained_on(version: Path, data: Labelled) -> str | None:
    """The file of the frozen set that the version in this folder was trained on, if there is one."""
    files = read_manifest(version).data.get("files", {})
    learnt = {file.get("sha256") for file in files.values() if isinstance(file, dict)}
    return next((name for name, file in data.files.items() if file["sha256"] in learnt), None)


def described(data: Labelled) -> dict[str, Any]:
    """A frozen set, as decisions keep it."""
    return {"digest": frozen.digest(data), "rows": len(data), "objects": len(set(data.groups.tolist()))}


def _first(
    model: Model,
    folder: Path,
    data: Labelled | None,
    eligible: Eligible,
    margins: Margins,
    reasons: list[str],
) -> Decision:
    """Of a model that has no champion."""
    numbers: dict[str, Any] = {"version": model.version, "champion": None, "margins": asdict(margins)}
    if data is not None:
        table = data.table
    elif (golden := golden_inputs(folder)) is not None:
        table, eligible = golden, everything
    else:
        return Decision(tuple(reasons), numbers)
    try:
        (seconds,) = timed([model], table, eligible)
    except ModelError as error:
        return Decision((*reasons, str(error)), numbers)
    if seconds > margins.seconds_per_alert:
        reasons.append(
            f"{seconds * 1e3:.3g} ms an alert, more than {margins.seconds_per_alert * 1e3:g}: a full batch "
            "would not be scored in time"
        )
    return Decision(tuple(reasons), {**numbers, "seconds_per_alert": {"challenger": seconds}})


def _numbers(
    found: Paired, seconds: Sequence[float], old: Model, new: Model, data: Labelled, margins: Margins
) -> dict[str, Any]:
    """All that was measured. Of each pair, the champion's is the first."""

    def pair(before: float, after: float, digits: int = 4) -> dict[str, float]:
        return {"champion": round(float(before), digits), "challenger": round(float(after), digits)}

    return {
        "version": new.version,
        "champion": old.version,
        "frozen": described(data),
        "macro_f1": {
            **pair(found.old, found.new),
            "difference": round(found.difference, 4),
            "lower_bound": round(found.lower, 4),
            "upper_bound": round(found.upper, 4),
            "confidence": CONFIDENCE,
        },
        "class_f1": {
            name: pair(before, after)
            for name, before, after in zip(old.classes, found.old_f1, found.new_f1, strict=True)
        },
        "calibration_error": pair(found.old_calibration, found.new_calibration),
        "seconds_per_alert": pair(seconds[0], seconds[1], 7),
        "margins": asdict(margins),
    }
