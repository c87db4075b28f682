"""Networks of others: braai, ACAI and SuperNNova as published; and a class that an author would bring."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import torch

from models import columns
from models.contract import Model, scores
from models.importing import import_checkpoint
from models.manifest import Manifest, read_manifest
from models.weights import network

ACAI = ("h", "n", "v", "o", "b")
_ACAI_COLUMNS = """
    drb diffmaglim ra dec magpsf sigmapsf chipsf fwhm sky chinr sharpnr sgscore1 distpsnr1 sgscore2 distpsnr2
    sgscore3 distpsnr3 ndethist ncovhist scorr nmtchps clrcoeff clrcounc neargaia neargaiabright
"""
_TRIPLET = ["cutouts", "cutout_shape"]


def braai(shared: Path, into: Path, golden: pa.Table | None = None) -> tuple[Path, Model]:
    """braai d6_m9 (Duev et al. 2019): real or bogus."""
    weights = shared / "data" / "weights"
    said = _said("braai", "d6_m9", ["real", "bogus"], _TRIPLET, {"conv1_input": "models.prepare:triplet"})
    architecture = weights / "braai_d6_m9.architecture.json"
    return import_checkpoint(
        weights / "braai_d6_m9.weights.h5", _write(said, into), into, golden, architecture
    )


def acai(shared: Path, into: Path, letter: str, golden: pa.Table | None = None) -> tuple[Path, Model]:
    """One of the five scorers of ACAI (Duev & van der Walt 2021)."""
    inputs = [
        *_TRIPLET,
        *(name if name in ("ra", "dec") else f"source.{name}" for name in _ACAI_COLUMNS.split()),
    ]
    feeds = {"triplets": "models.prepare:triplet", "features": "models.prepare:numbers"}
    said = _said(f"acai-{letter}", "d1_dnn_20201130", [letter, "other"], inputs, feeds)
    source = shared / "data" / "weights" / f"acai_{letter}.d1_dnn_20201130.h5"
    return import_checkpoint(source, _write(said, into), into, golden)


def supernnova(into: Path, golden: pa.Table | None = None) -> tuple[Path, Model]:
    """SuperNNova (Möller & de Boissière 2020), Ia or not, with the weights that Fink runs."""
    found = find_spec("fink_science")
    assert found is not None
    assert found.origin is not None
    source = Path(found.origin).parent / "data" / "models" / "snn_models" / "snn_snia_vs_nonia"
    arguments = json.loads((source / "cli_args.json").read_text())
    said = {
        "name": "supernnova",
        "version": "snn_snia_vs_nonia",
        "architecture": "models.supernnova:SuperNNova",
        "classes": ["Ia", "other"],
        "inputs": ["history", "mjd", "band", "flux", "flux_err"],
        "hyperparameters": {
            "filters": arguments["list_filters"],
            "features": arguments["training_features"],
            "hidden": arguments["hidden_dim"],
            "layers": arguments["num_layers"],
        },
        "normalisation": json.loads((source / "data_norm.json").read_text()),
    }
    return import_checkpoint(source / "model.pt", _write(said, into), into, golden)


def _said(
    name: str, version: str, classes: list[str], inputs: list[str], feeds: dict[str, str]
) -> dict[str, Any]:
    return {
        "name": name,
        "version": version,
        "architecture": "models.onnx:Onnx",
        "classes": classes,
        "inputs": inputs,
        "hyperparameters": {"feeds": feeds, "output": "probability"},
    }


def _write(said: dict[str, Any], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{said['name']}.json"
    path.write_text(json.dumps(said))
    return path


class Linear:
    """A network of one layer, through the contract, as an author's distribution would have it."""

    def __init__(self, manifest: Manifest, layer: torch.nn.Linear) -> None:
        self.name, self.version, self.precondition = manifest.name, manifest.version, manifest.precondition
        self.classes, self.inputs = manifest.classes, manifest.inputs
        self._layer = layer

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        return cls(read_manifest(folder), network(lambda: torch.nn.Linear(1, 2), folder))

    @torch.inference_mode()
    def score(self, table: pa.Table) -> pa.Table:
        flux = torch.from_numpy(columns.numbers(table, "flux")).float()[:, None]
        small = torch.asinh(flux / 1e4)
        return scores(
            self.classes, torch.softmax(self._layer(small), dim=1).numpy(), torch.isfinite(small[:, 0])
        )
