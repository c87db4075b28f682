"""`rayfinch evaluate`: how good a version is on labelled alerts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rayfinch.registered import Config, Either, Json, Uri

if TYPE_CHECKING:
    from models.contract import Model
    from training.dataset import Labelled


def evaluate(
    version: Either,
    data: Annotated[
        Path,
        typer.Option(
            help="Labelled alerts: a folder with stamps/ or lightcurves/, or a Parquet or Arrow file.",
            show_default=False,
        ),
    ],
    label: Annotated[str, typer.Option(help="The column of labels in a file.")] = "label",
    against: Annotated[
        str | None,
        typer.Option(metavar="FOLDER|NAME@VERSION", help="Another version, compared object by object."),
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(help="Draw confusion, reliability, ROC and ages to this PNG file.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap's draws.")] = 0,
    config: Config = None,
    uri: Uri = None,
    as_json: Json = False,
) -> None:
    """Judge a version on labelled alerts, by objects, with 95 % intervals.

    Macro-F1, precision and recall per class, ROC, calibration (ECE, Brier), by slices (band, magnitude,
    galactic latitude, schema, edge stamps), by days since the first detection, and the time per alert.

    Examples:

    rayfinch evaluate stamps@champion --data nights/june --plots june.png

    rayfinch evaluate versions/stamps/2 --data ../shared/data --against stamps@champion --json
    """
    import torch

    from models.contract import open_model
    from models.manifest import read_manifest
    from rayfinch.registered import folders, opened
    from training import frozen
    from training.artefacts import sifted
    from training.charts import draw
    from training.evaluation import covered, seen_as
    from training.promotion import trained_on

    torch.set_num_threads(1)  # as a replica: small networks wait longer for threads than they gain by them
    registry, _ = opened(config, uri)
    with folders(registry, version, *([against] if against else [])) as found:
        models = [open_model(folder) for folder in found]
        labelled = frozen.read(data, models[0].classes, label, complete=False)
        answers = [_answers(model, models[0].classes, labelled) for model in models]
        said = _evaluated(models[0], labelled, answers[0], seed)
        said["trained_on"] = trained_on(found[0], labelled)
        if isinstance(sets := read_manifest(found[0]).calibration.get("conformal"), dict):
            held = covered(_truth(models[0], labelled), answers[0], float(sets["least"]))
            said["conformal"] = {"promised": sets["coverage"], **held}
        if real := sifted(_truth(models[0], labelled), answers[0], models[0].classes):
            said["real_bogus"] = real
        if (rest := frozen.others(data, models[0].classes, labelled)) is not None and len(rest):
            said["seen_as"] = seen_as(
                rest.labels, _answers(models[0], models[0].classes, rest), models[0].classes
            )
        if against:
            said["against"] = _compared(models, labelled, answers, seed)
            said["against"]["trained_on"] = trained_on(found[1], labelled)
    if plots:
        draw(said, _truth(models[0], labelled), answers[0], models[0].classes, plots)
    print(json.dumps(said) if as_json else "\n".join(_lines(said)))


def _truth(model: Model, data: Labelled) -> Any:
    import numpy as np

    return np.array([model.classes.index(label) for label in data.labels])


def _answers(model: Model, classes: tuple[str, ...], data: Labelled) -> Any:
    from models.manifest import ModelError
    from serve.scorer import eligible
    from training.answers import probabilities, told

    if set(model.classes) != set(classes):
        raise ModelError(
            f"{told(model)} has the classes {', '.join(model.classes)}, not {', '.join(classes)}"
        )
    return probabilities(model, classes, data.table, eligible, _say)


def _evaluated(model: Model, data: Labelled, answers: Any, seed: int) -> dict[str, Any]:
    from serve.scorer import eligible
    from training.answers import probabilities, seconds_per_alert, told
    from training.epochs import DAYS, at_age, has_history
    from training.evaluation import evaluation, sliced
    from training.promotion import described
    from training.slices import slices

    truth = _truth(model, data)
    said: dict[str, Any] = {"model": told(model), "data": described(data), "left_out": dict(data.left_out)}
    said |= evaluation(truth, data.groups, answers, model.classes, seed)
    said["slices"] = sliced(truth, data.groups, answers, slices(data.table), seed)
    if has_history(data.table) and "cutouts" not in model.inputs:  # images are of one day
        said["days"] = {}
        for days in DAYS:
            early = probabilities(model, model.classes, at_age(data.table, days), eligible, lambda line: None)
            _say(f"{told(model)}: scored as of day {days:g}")
            of_all = evaluation(truth, data.groups, early, model.classes, seed)
            said["days"][f"{days:g}"] = {k: of_all[k] for k in ("macro_f1", "accuracy", "calibration_error")}
    said["seconds_per_alert"] = round(seconds_per_alert([model], data.table, eligible)[0], 7)
    return said


def _compared(models: list[Model], data: Labelled, answers: list[Any], seed: int) -> dict[str, Any]:
    from training.answers import told
    from training.paired import CONFIDENCE, paired

    found = paired(_truth(models[0], data), data.groups, answers[1], answers[0], seed)
    return {
        "model": told(models[1]),
        "macro_f1_by_object": [round(found.new, 4), round(found.old, 4)],
        "difference": [round(number, 4) for number in (found.difference, found.lower, found.upper)],
        "confidence": CONFIDENCE,
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _lines(said: dict[str, Any]) -> list[str]:
    """For people."""

    def told(numbers: list[float]) -> str:
        return "{:.3f} ({:.3f} to {:.3f})".format(*numbers)

    lines = [
        f"{said['model']} on {said['rows']} alerts of {said['objects']} objects; intervals are of 95 %",
        f"macro-F1 {told(said['macro_f1'])}, accuracy {told(said['accuracy'])}",
        f"calibration error {told(said['calibration_error'])}, Brier {said.get('brier', float('nan')):.3f}; "
        f"without a score: {said['unscored']}; {said['seconds_per_alert'] * 1e6:.0f} us an alert",
    ]
    if said["trained_on"]:
        lines.append(
            f"It was trained on {said['trained_on']} of this very set: new objects will score lower."
        )
    if sets := said.get("conformal"):
        lines.append(
            f"sets of {sets['promised']:.0%}: {sets['coverage']:.3f} hold the class, "
            f"{sets['mean_size']:.2f} classes on average"
        )
    if real := said.get("real_bogus"):
        by_class = ", ".join(f"{name} {share:.1%}" for name, share in real["missed"].items())
        lines.append(
            f"where {real['bogus_kept']:.1%} of the bogus are kept, {real['real_missed']:.1%} of the real "
            f"are missed ({by_class})"
        )
    lines += ["", f"{'class':10} {'count':>6}  {'precision':24} {'recall':24} {'F1':24} {'ROC area':>8}"]
    for name, row in said["classes"].items():
        three = " ".join(f"{told(row[key]):24}" for key in ("precision", "recall", "f1"))
        lines.append(f"{name:10} {row['count']:6d}  {three} {row.get('roc_auc', float('nan')):8.3f}")
    for days, row in said.get("days", {}).items():
        lines.append(f"day {days:>3}: macro-F1 {told(row['macro_f1'])}, accuracy {told(row['accuracy'])}")
    for kind, parts in said["slices"].items():
        lines += ["", f"{kind:24} {'alerts':>6} {'objects':>7}  {'accuracy':24} {'macro-F1':24}"]
        for name, row in parts.items():
            numbers = f"{told(row['accuracy']):24} {told(row['macro_f1']):24}"
            lines.append(f"{name:24} {row['rows']:6d} {row['objects']:7d}  {numbers}")
    if seen := said.get("seen_as"):
        lines += ["", f"{'of no class, seen as':24} " + " ".join(f"{name:>9}" for name in said["classes"])]
        lines += [
            f"{name:24} " + " ".join(f"{row.get(c, 0):9d}" for c in said["classes"])
            for name, row in seen.items()
        ]
    if other := said.get("against"):
        lines += [
            "",
            f"macro-F1 by objects, {said['model']} minus {other['model']}: {told(other['difference'])}",
        ]
    return lines
