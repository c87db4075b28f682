"""`rayfinch train`: make a new version of a network from labelled data."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Train a network; writes a version folder."
)

Data = Annotated[
    Path, typer.Option(help="Folder of the data sets (stamps/ and lightcurves/).", show_default=False)
]
Out = Annotated[
    Path, typer.Option(help="The version folder to write; its name is the version's.", show_default=False)
]
File = Annotated[
    Path | None, typer.Option("--config", help="YAML of settings; configs/train-*.yaml has them all.")
]
Seed = Annotated[int, typer.Option(help="Same data, settings and seed: same weights.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Overrides the file's number of epochs.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.")]


@app.command()
def stamps(
    data: Data, out: Out, config: File = None, seed: Seed = 1, epochs: Epochs = None, as_json: AsJson = False
) -> None:
    """Train the network of cutouts and packet columns: asteroid, SN, AGN, VS or bogus.

    Example: rayfinch train stamps --data ../shared/data --out versions/stamps/2
    """
    from training import stamps as network

    _train(network, data, out, config, seed, epochs, as_json)


@app.command()
def lightcurve(
    data: Data, out: Out, config: File = None, seed: Seed = 1, epochs: Epochs = None, as_json: AsJson = False
) -> None:
    """Train the network of light curves: supernova of type Ia, II, Ibc, IIn or SLSN-I.

    Example: rayfinch train lightcurve --data ../shared/data --out versions/lightcurve/2
    """
    from training import lightcurve as network

    _train(network, data, out, config, seed, epochs, as_json)


def _train(
    network: Any, data: Path, out: Path, config: Path | None, seed: int, epochs: int | None, as_json: bool
) -> None:
    from models.manifest import FILE, ModelError, check_version
    from training.dataset import DatasetError
    from training.settings import SettingsError, settings

    try:
        if (out / FILE).exists():
            raise ModelError(
                f"{out} is a model version already, and versions never change: give another folder"
            )
        version = check_version(out.resolve().name, out)
        chosen = settings(network.Config, config, epochs)
        manifest = network.train(
            data, out, version, chosen, seed, shlex.join(["rayfinch", *sys.argv[1:]]), _say
        )
    except (DatasetError, SettingsError, ModelError) as error:
        print(f"rayfinch: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    if as_json:
        print(json.dumps({"folder": str(out), "name": manifest.name, "version": version, **manifest.metrics}))
    else:
        print(_told(manifest, out))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _told(manifest: Any, out: Path) -> str:
    """The metrics for people."""
    metrics = manifest.metrics
    held = metrics["held_out"]
    lines = [
        f"{manifest.name} {manifest.version} -> {out}",
        f"held-out macro-F1 {held['macro_f1']:.3f} (folds: {metrics['macro_f1_of_folds']})",
        f"by {metrics['method']}",
        f"accuracy {held['accuracy']:.3f}, calibration error {held['calibration_error']:.3f}",
        "",
        f"{'class':10} {'precision':>9} {'recall':>7} {'F1':>6} {'count':>6}",
    ]
    for name, row in held["classes"].items():
        lines.append(
            f"{name:10} {row['precision']:9.3f} {row['recall']:7.3f} {row['f1']:6.3f} {row['count']:6d}"
        )
    for count, row in metrics.get("after_detections", {}).items():
        lines.append(
            f"after {count} detections: macro-F1 {row['macro_f1']:.3f}, accuracy {row['accuracy']:.3f}"
        )
    return "\n".join(lines)
