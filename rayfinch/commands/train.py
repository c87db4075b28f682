"""`rayfinch train`: make a new version of a network from labelled data."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from models.registry import Registry

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Train a network; writes a version folder."
)

Data = Annotated[
    Path,
    typer.Option(
        help="Labelled alerts: a folder with stamps/ or lightcurves/, or a Parquet or Arrow file with "
        "columns of the alert table and `label`.",
        show_default=False,
    ),
]
Both = Annotated[
    Path, typer.Option(help="Folder of both data sets, stamps/ and lightcurves/.", show_default=False)
]
Out = Annotated[
    Path, typer.Option(help="The version folder to write; its name is the version's.", show_default=False)
]
File = Annotated[
    Path | None, typer.Option("--config", help="YAML of settings; configs/train-*.yaml has them all.")
]
Seed = Annotated[int, typer.Option(help="Same data, settings and seed: same weights.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Overrides the file's number of epochs.")]
Runs = Annotated[
    str | None,
    typer.Option(
        "--registry",
        help="Where the run is kept: sqlite:///FILE or an MLflow server's URL; "
        "without it ./rayfinch-data/registry.db.",
    ),
]
Untracked = Annotated[bool, typer.Option("--untracked", help="Keep no run, only the version folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.")]


@app.command()
def stamps(
    data: Data,
    out: Out,
    config: File = None,
    seed: Seed = 1,
    epochs: Epochs = None,
    registry: Runs = None,
    untracked: Untracked = False,
    as_json: AsJson = False,
) -> None:
    """Train the network of cutouts and packet columns: asteroid, SN, AGN, VS or bogus.

    Example: rayfinch train stamps --data ../shared/data --out versions/stamps/2
    """
    from training import stamps as network

    _train(network, data, out, config, seed, epochs, None if untracked else _registry(registry), as_json)


@app.command()
def lightcurve(
    data: Data,
    out: Out,
    config: File = None,
    seed: Seed = 1,
    epochs: Epochs = None,
    registry: Runs = None,
    untracked: Untracked = False,
    as_json: AsJson = False,
) -> None:
    """Train the network of light curves: supernova of type Ia, II, Ibc, IIn or SLSN-I.

    Example: rayfinch train lightcurve --data ../shared/data --out versions/lightcurve/2
    """
    from training import lightcurve as network

    _train(network, data, out, config, seed, epochs, None if untracked else _registry(registry), as_json)


@app.command()
def anomaly(
    data: Data,
    out: Out,
    config: File = None,
    seed: Seed = 1,
    registry: Runs = None,
    untracked: Untracked = False,
    as_json: AsJson = False,
) -> None:
    """Train the forest of unusual light curves: it asks about its strangest ones, and learns.

    Example: rayfinch train anomaly --data ../shared/data --out versions/anomaly/2
    """
    from training import anomaly as network

    _train(network, data, out, config, seed, None, None if untracked else _registry(registry), as_json)


@app.command()
def fusion(
    data: Both,
    out: Out,
    stamps: Annotated[
        Path | None, typer.Option(help="The stamps version in it.", show_default="the shipped one")
    ] = None,
    lightcurve: Annotated[
        Path | None,
        typer.Option(help="The lightcurve version in it.", show_default="the shipped one"),
    ] = None,
    config: File = None,
    seed: Seed = 1,
    registry: Runs = None,
    untracked: Untracked = False,
    as_json: AsJson = False,
) -> None:
    """Train the network of both: one verdict from cutouts, packet columns and history.

    It holds a version of each of the other two, trained on the same data.

    Example: rayfinch train fusion --data ../shared/data --out versions/fusion/1 --stamps versions/stamps/5
    """
    from models.contract import shipped_version
    from training import fusion as network

    runs = None if untracked else _registry(registry)
    of = {"of_stamps": stamps or shipped_version("stamps")}
    of |= {"of_lightcurve": lightcurve or shipped_version("lightcurve")}
    _train(network, data, out, config, seed, None, runs, as_json, **of)


def _train(
    network: Any,
    data: Path,
    out: Path,
    config: Path | None,
    seed: int,
    epochs: int | None,
    registry: Registry | None,
    as_json: bool,
    **parts: Path,
) -> None:
    from models.folders import RegistryError
    from models.manifest import FILE, ModelError, check_version
    from training import runs
    from training.dataset import DatasetError
    from training.settings import SettingsError, settings

    try:
        if (out / FILE).exists():
            raise ModelError(
                f"{out} is a model version already, and versions never change: give another folder"
            )
        version = check_version(out.resolve().name, out)
        chosen = settings(network.Config, config, epochs)
        if getattr(chosen, "simulated", 0) or getattr(chosen, "workers", 0):
            _start_ray()
        trained = network.train(
            data, out, version, chosen, seed, shlex.join(["rayfinch", *sys.argv[1:]]), _say, **parts
        )
        if registry is not None:
            run = runs.keep(registry, trained, out)
            _say(f"kept as run {run} of {runs.EXPERIMENT!r} in {registry.uri}")
    except (DatasetError, SettingsError, ModelError, RegistryError) as error:
        print(f"rayfinch: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    manifest = trained.manifest
    if as_json:
        print(json.dumps({"folder": str(out), "name": manifest.name, "version": version, **manifest.metrics}))
    else:
        print(_told(manifest, out))


def _registry(uri: str | None) -> Registry:
    from rayfinch.registered import opened

    return opened(None, uri)[0]


def _start_ray() -> None:
    """Its tasks simulate alerts, its workers train: on RAY_ADDRESS's cluster, or on this machine's cores."""
    from rayfinch.config import RaySettings
    from rayfinch.wiring import start_ray

    start_ray(RaySettings())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _told(manifest: Any, out: Path) -> str:
    """The metrics for people."""
    metrics = manifest.metrics
    held = metrics["held_out"]
    lines = [
        f"{manifest.name} {manifest.version} -> {out}",
        f"held-out macro-F1 {held['macro_f1']:.3f}"
        + (
            f" ({', '.join(map(str, times))} by times over)"
            if (times := metrics.get("macro_f1_of_times"))
            else ""
        ),
        f"by {metrics['method']}",
        f"accuracy {held['accuracy']:.3f}, calibration error {held['calibration_error']:.3f}",
        "",
        f"{'class':10} {'precision':>9} {'recall':>7} {'F1':>6} {'count':>6}",
    ]
    for name, row in held["classes"].items():
        lines.append(
            f"{name:10} {row['precision']:9.3f} {row['recall']:7.3f} {row['f1']:6.3f} {row['count']:6d}"
        )
    if "baseline" in metrics:
        lines += ["", *_beside(metrics["baseline"], metrics["conformal"])]
    if real := metrics.get("real_bogus"):
        lines.append(
            f"where {real['bogus_kept']:.1%} of the bogus are kept, {real['real_missed']:.1%} of the real "
            f"are missed, {real['missed'].get('VS', 0):.1%} of the variables"
        )
        if "injected" in real:
            lines.append(f"of {real['injected']} simulated artefacts {real['injected_kept']:.1%} are kept")
    if "where_both_exist" in metrics:
        lines += ["", *_both(metrics["where_both_exist"])]
    if "questions" in metrics:
        lines += ["", *_asked(metrics)]
    for days, row in metrics.get("at_days", {}).items():
        when = "all points" if days == "full" else f"day {days:>3}"
        lines.append(f"{when}: macro-F1 {row['macro_f1']:.3f}, accuracy {row['accuracy']:.3f}")
    return "\n".join(lines)


def _beside(trees: dict[str, Any], sets: dict[str, float]) -> list[str]:
    """The baseline and the conformal sets."""
    gain, low, high = trees["gain"]
    return [
        f"{trees['method']}, on the same numbers and folds: macro-F1 {trees['macro_f1']:.3f}; "
        f"the network gains {gain:+.3f} ({low:+.3f} to {high:+.3f})",
        f"sets of 90 %: {sets['coverage']:.3f} hold the class, {sets['mean_size']:.2f} classes on average",
    ]


def _both(found: dict[str, Any]) -> list[str]:
    """What a network of both brings where there is both."""
    kinds, types = found["kinds"], found["all_classes_against_lightcurve"]
    gained = "{:+.3f} ({:+.3f} to {:+.3f})"
    return [
        f"of {found['alerts']} alerts with images and history, macro-F1:",
        f"five kinds: stamps {kinds['part']:.3f}, both {kinds['fusion']:.3f}, "
        f"{gained.format(*kinds['gain'])}",
        f"four, without AGN: stamps {kinds['part_without_agn']:.3f}, both {kinds['fusion_without_agn']:.3f}",
        f"all classes: lightcurve {types['part']:.3f}, both {types['fusion']:.3f}, "
        f"{gained.format(*types['gain'])}",
        f"a history alone, of asteroid, SN, variable and bogus: {found['history_alone']:.3f}",
    ]


def _asked(metrics: dict[str, Any]) -> list[str]:
    """What asking brought."""
    found = metrics["anomalies_in_the_held_out_hundred"]
    without = metrics["anomalies_in_the_held_out_hundred_without_questions"]
    return [
        f"of the {metrics['questions']} objects that it asked about "
        f"{metrics['anomalies_asked_about']} were anomalies",
        f"of the 100 strangest that it never saw {found} are; without questions {without}",
        f"ROC area {metrics['roc_auc']:.3f}, without questions {metrics['roc_auc_without_questions']:.3f}",
    ]
