"""`rayfinch models promote`: a version becomes the champion if it passes the gate."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rayfinch.registered import Config, Json, Note, Uri, Version

if TYPE_CHECKING:
    from training.promotion import Decision

app = typer.Typer()


@app.command()
def promote(
    version: Version,
    frozen: Annotated[
        Path | None,
        typer.Option(
            help="Labelled alerts that neither version was trained on: a folder with stamps/ or "
            "lightcurves/, or a Parquet or Arrow file of alerts. Needed where there is a champion."
        ),
    ] = None,
    label: Annotated[str, typer.Option(help="The column of labels in a --frozen file.")] = "label",
    class_margin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[CLASS=]F1",
            help="What a class (or any class) may lose of its F1; 0.05. May be repeated.",
        ),
    ] = None,
    calibration_margin: Annotated[
        float, typer.Option(min=0, help="What the calibration error may grow by.")
    ] = 0.02,
    slower: Annotated[
        float, typer.Option(min=0, help="How many times the champion's time per alert it may take.")
    ] = 2.0,
    force: Annotated[
        bool, typer.Option("--force", help="Promote although the gate refuses; needs a --note.")
    ] = False,
    note: Note = "",
    config: Config = None,
    uri: Uri = None,
    as_json: Json = False,
) -> None:
    """Make a version the champion, if it passes the gate; else say why not, with exit status 1.

    The gate: golden scores hold; macro-F1 on the frozen set is higher, with the lower bound (95 %, paired
    bootstrap over objects) of the difference above zero; no class loses more than its margin; calibration and
    time per alert stay within theirs. A model's first version needs golden scores and speed only.

    Example: rayfinch models promote stamps@2 --frozen nights/june --class-margin AGN=0.1
    """
    from models.folders import CHAMPION
    from models.history import FORCED, PROMOTED
    from rayfinch.registered import folders, named, opened

    if force and not note.strip():
        raise typer.BadParameter("--force needs a --note: why is it right although the gate refuses?")
    registry, _ = opened(config, uri)
    wanted = registry.find(*named(version))
    champion = registry.aliases(wanted.name).get(CHAMPION)
    if champion == wanted.version:
        raise typer.BadParameter(f"{wanted} is the champion already")
    with ExitStack() as stack:
        (challenger,) = stack.enter_context(folders(registry, str(wanted)))
        before = stack.enter_context(folders(registry, f"{wanted.name}@{champion}"))[0] if champion else None
        margins = _margins(class_margin or [], calibration_margin, slower)
        decision = _decided(challenger, before, frozen, label, margins)
    passed = decision.passed
    if passed or force:
        how = PROMOTED if passed else FORCED
        registry.promote(wanted.name, wanted.version, note, how, decision.written())
    if as_json:
        print(json.dumps({"promoted": passed or force, "forced": force and not passed, **decision.written()}))
    else:
        print(_told(str(wanted), champion, decision, force))
    if not (passed or force):
        raise typer.Exit(1)


def _decided(
    challenger: Path, champion: Path | None, frozen: Path | None, label: str, margins: dict[str, Any]
) -> Decision:
    import torch

    from models.manifest import read_manifest
    from serve.scorer import eligible
    from training import frozen as sets
    from training.promotion import Margins, gate

    torch.set_num_threads(1)  # as a stream's replicas run
    data = None
    if frozen is not None:
        data = sets.read(frozen, read_manifest(champion or challenger).classes, label)
    return gate(challenger, champion, data, eligible, Margins(**margins), _progress)


def _margins(texts: list[str], calibration: float, slower: float) -> dict[str, Any]:
    """The options as fields of training.promotion.Margins."""
    found: dict[str, Any] = {"calibration": calibration, "slower": slower, "classes": {}}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            raise typer.BadParameter(f"--class-margin {text!r} is not CLASS=F1 or F1: AGN=0.1") from None
        if name:
            found["classes"][name] = value
        else:
            found["class_f1"] = value
    return found


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def _told(version: str, champion: str | None, decision: Decision, force: bool) -> str:
    lines = [f"- {reason}" for reason in decision.reasons]
    if "macro_f1" in decision.numbers:
        f1, on = decision.numbers["macro_f1"], decision.numbers["frozen"]
        if decision.passed:
            lines.append(
                f"macro-F1 {f1['challenger']:.4f} against {f1['champion']:.4f} of {champion}: "
                f"{f1['difference']:+.4f} [{f1['lower_bound']:+.4f}, {f1['upper_bound']:+.4f}], "
                f"{on['objects']} objects"
            )
        if on["champion_trained_on"]:
            lines.append(f"note: {champion} was trained on this set, which flatters it; take another one")
    if decision.passed:
        verdict = "is the champion now"
    else:
        verdict = "is the champion now, by force, although" if force else "is not promoted:"
    return "\n".join([f"{version} {verdict}", *lines])
