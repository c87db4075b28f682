"""`rayfinch models`: the registry of versions, and what may be done with one."""

from __future__ import annotations

import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from rayfinch.registered import Config, Either, Json, Note, Uri, Version

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Register, compare, promote and roll back versions of models. VERSION may be champion, challenger "
    "or latest.",
)


@app.command("list")
def list_(config: Config = None, uri: Uri = None, as_json: Json = False) -> None:
    """List all versions: name, aliases, main metric, when and by whom they were registered.

    Example: rayfinch models list --config configs/ztf.yaml
    """
    from models.history import main_metric
    from rayfinch.registered import opened

    registry, _ = opened(config, uri)
    rows = [
        (known, [alias for alias, version in aliases.items() if version == known.version])
        for name in registry.names()
        for aliases in (registry.aliases(name),)
        for known in registry.versions(name)
    ]
    if as_json:
        print(json.dumps([{**vars(known), "aliases": aliases} for known, aliases in rows]))
        return
    for known, aliases in rows:
        metric = main_metric(known.metrics)
        measured = f"{metric[0]} {metric[1]:.4f}" if metric else "-"
        note = f"  {known.note}" if known.note else ""
        print(f"{known!s:24} {','.join(aliases) or '-':12} {measured:18} {known.when}  {known.who}{note}")


@app.command()
def show(version: Version, config: Config = None, uri: Uri = None, as_json: Json = False) -> None:
    """Show what a version is: its model.json, its files' digest, and the history of its model's aliases.

    Example: rayfinch models show stamps@champion
    """
    from models.manifest import FILE
    from rayfinch.registered import folders, named, opened

    registry, _ = opened(config, uri)
    known = registry.find(*named(version))
    with folders(registry, str(known)) as (folder,):
        manifest = json.loads((folder / FILE).read_text())
    history = [move.written() for move in registry.history(known.name)]
    aliases = registry.aliases(known.name)
    if as_json:
        print(json.dumps({**vars(known), "aliases": aliases, "manifest": manifest, "history": history}))
        return
    print(f"{known}, registered {known.when} by {known.who}" + (f": {known.note}" if known.note else ""))
    print(f"digest {known.digest}")
    for key in ("architecture", "classes", "inputs", "precondition", "hyperparameters", "calibration"):
        print(f"{key:16} {_short(manifest.get(key))}")
    print(f"{'trained on':16} {_short(manifest.get('data'))}")
    for metric, value in known.metrics.items():
        print(f"{metric:20} {value:g}")
    for move in history:
        print(_moved(known.name, move))


@app.command()
def register(
    folder: Annotated[Path, typer.Argument(help="The version's folder: model.json, weights, golden scores.")],
    note: Note = "",
    config: Config = None,
    uri: Uri = None,
    as_json: Json = False,
) -> None:
    """Open a version, check its golden scores, and put its files into the registry. Nothing serves it yet.

    Example: rayfinch models register versions/stamps/2 --note "with the labels of June"
    """
    from rayfinch.registered import opened

    registry, _ = opened(config, uri)
    known = registry.register(folder, note)
    print(json.dumps(vars(known)) if as_json else f"{known} is registered in {registry.uri}")


@app.command()
def challenge(
    version: Version, note: Note = "", config: Config = None, uri: Uri = None, as_json: Json = False
) -> None:
    """Let a version score in the champion's shadow: its scores are kept, and never published.

    Example: rayfinch models challenge stamps@2
    """
    from models.folders import CHALLENGER
    from models.history import CHALLENGED
    from rayfinch.registered import named, opened

    registry, _ = opened(config, uri)
    name, wanted = named(version)
    _tell(name, registry.alias(name, CHALLENGER, wanted, note, CHALLENGED).written(), as_json)


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    note: Note = "",
    config: Config = None,
    uri: Uri = None,
    as_json: Json = False,
) -> None:
    """Make the champion before the champion again. It passed its gate then: nothing is measured.

    Example: rayfinch models rollback stamps --note "calls satellites supernovae"
    """
    from rayfinch.registered import opened

    registry, _ = opened(config, uri)
    _tell(name, registry.rollback(name, note).written(), as_json)


@app.command()
def sync(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Models; all, if none is named.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Where to; by default the configuration's models' folder.")
    ] = None,
    config: Config = None,
    uri: Uri = None,
    as_json: Json = False,
) -> None:
    """Fetch champions and challengers into the models' folder. A running stream does it by itself.

    Example: rayfinch models sync --config configs/ztf.yaml
    """
    from models.folders import sync as fetch
    from rayfinch.registered import opened

    registry, settings = opened(config, uri)
    into = folder or (settings.models_folder if settings else None) or Path("rayfinch-data/models")
    wanted = names or ([model.name for model in settings.models] if settings else registry.names())
    done = fetch(registry, wanted, into)
    if as_json:
        print(json.dumps({"folder": str(into), "models": [vars(found) for found in done]}))
    else:
        for found in done:
            serving = ", ".join(f"{alias} {version}" for alias, version in found.aliases.items())
            print(f"{into / found.name}: {serving or 'no champion'}")
            for problem in found.problems:
                print(f"  {problem}")
    if any(found.problems for found in done):
        raise typer.Exit(1)


@app.command()
def diff(
    old: Either,
    new: Either,
    alerts: Annotated[
        Path | None,
        typer.Option(help="Compare scores of these alerts (a data set's folder, Parquet or Arrow file)."),
    ] = None,
    config: Config = None,
    uri: Uri = None,
    as_json: Json = False,
) -> None:
    """Say how two versions differ: in their model.json, and in their scores of golden inputs or --alerts.

    Example: rayfinch models diff stamps@champion stamps@latest
    """
    from models.contract import open_model
    from models.manifest import read_manifest
    from rayfinch import differences
    from rayfinch.registered import folders, opened
    from training import frozen
    from training.answers import golden_inputs

    registry, _ = opened(config, uri)
    with folders(registry, old, new) as pair:
        manifests = differences.manifests(*(read_manifest(folder) for folder in pair))
        golden = next((found for folder in reversed(pair) if (found := golden_inputs(folder))), None)
        before, after = (open_model(folder) for folder in pair)
        scores = None
        if alerts is not None:
            scores = differences.scores(before, after, frozen.read(alerts, before.classes).table)
        elif golden is not None:
            scores = differences.scores(before, after, golden)
    if as_json:
        print(json.dumps({"old": old, "new": new, "model.json": manifests, "scores": scores}))
        return
    for key, (before_value, after_value) in manifests.items():
        print(f"{key}: {_short(before_value)} -> {_short(after_value)}")
    if not manifests:
        print("model.json says the same of both")
    if scores is None:
        print("scores: neither has golden inputs; name alerts with --alerts")
    else:
        print("scores: " + ", ".join(f"{key} {value}" for key, value in scores.items()))


@app.command("test")
def examine(version: Either, config: Config = None, uri: Uri = None, as_json: Json = False) -> None:
    """Hold a version to every promise of the contract, on made-up alerts; exit status 1 if one is broken.

    Example: rayfinch models test versions/stamps/2
    """
    from models.contract import open_model
    from models.testing import PROMISES, alerts
    from rayfinch.registered import folders, opened

    registry, _ = opened(config, uri)
    found: list[dict[str, Any]] = []
    with folders(registry, version) as (folder,):
        model = open_model(folder)
        for promise in PROMISES:
            broken = None
            try:
                promise(model, alerts(50))
            except AssertionError as error:
                broken = str(error)
            found.append({"promise": promise.__name__, "kept": broken is None, "reason": broken})
    kept = all(row["kept"] for row in found)
    if as_json:
        print(json.dumps({"version": version, "ok": kept, "promises": found}))
    else:
        for row in found:
            print(f"{'ok' if row['kept'] else 'broken':7} {row['promise']:24} {row['reason'] or ''}".rstrip())
    if not kept:
        raise typer.Exit(1)


def _tell(name: str, move: dict[str, Any], as_json: bool) -> None:
    print(json.dumps({"name": name, **move}) if as_json else _moved(name, move))


def _moved(name: str, move: dict[str, Any]) -> str:
    """A move of an alias in a line."""
    note = f": {move['note']}" if move["note"] else ""
    path = f"{move['before'] or '-'} -> {move['after'] or '-'}"
    return f"{move['when'][:19]}Z  {move['who']}  {name} {move['alias']} {path} ({move['how']}){note}"


def _short(value: Any, most: int = 160) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


# Its larger subcommands have files of their own.
for _part in ("promote", "import", "compare"):
    if find_spec(f"rayfinch.commands.models_{_part}"):
        app.registered_commands += import_module(f"rayfinch.commands.models_{_part}").app.registered_commands
