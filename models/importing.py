"""Foreign checkpoints come in once: as a version folder of plain files, with golden scores."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from pickle import UnpicklingError  # what weights_only raises for anything else
from typing import Any

import pyarrow as pa

from models import onnx, testing
from models.contract import Model, open_model
from models.golden import write_golden
from models.manifest import FILE, WEIGHTS, ModelError, read_manifest

GOLDEN = 6  # alerts
_HDF5 = b"\x89HDF\r\n\x1a\n"


def import_checkpoint(
    source: Path,
    manifest: Path,
    into: Path,
    alerts: pa.Table | None = None,
    architecture: Path | None = None,
) -> tuple[Path, Model]:
    """Make the version folder `into`/<name>/<version> of `source` and of the model.json by its author.

    source: an ONNX file; a Keras network in HDF5 (`architecture`: its JSON, where the file lacks it); a
    PyTorch checkpoint of weights alone, or safetensors, of an architecture that is installed. alerts: what
    the golden scores are of (None: made-up ones). No code of the checkpoint's is run, and
    nothing is left where it is refused. Return the folder and the model, loaded from it. Raises ModelError.
    """
    with tempfile.TemporaryDirectory(prefix="rayfinch-import-") as made:
        part = Path(made) / "version"
        part.mkdir()
        shutil.copyfile(_file(manifest), part / FILE)
        said = read_manifest(part)
        folder = into / said.name / said.version
        if folder.exists():
            raise ModelError(f"{folder} is there already, and versions never change: give it another version")
        if said.architecture == onnx.ARCHITECTURE:
            _graph(_file(source), part / onnx.FILE, architecture)
        else:
            _weights(_file(source), part / WEIGHTS)
        model = open_model(part)
        write_golden(model, testing.alerts(GOLDEN, inputs=model.inputs) if alerts is None else alerts, part)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(part, folder)
    return folder, open_model(folder)


def _graph(source: Path, target: Path, architecture: Path | None) -> None:
    with source.open("rb") as file:
        head = file.read(len(_HDF5))
    if head != _HDF5:
        shutil.copyfile(source, target)
        return
    from models.keras import to_onnx

    target.write_bytes(to_onnx(source, architecture).SerializeToString())


def _weights(source: Path, target: Path) -> None:
    if source.suffix == ".safetensors":
        shutil.copyfile(source, target)
        return
    import torch
    from safetensors.torch import save_file

    try:
        held: Any = torch.load(source, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or ["no reason was given"])[0]
        raise ModelError(
            f"{source} is no checkpoint of weights alone ({reason}): save the network's state_dict()"
        ) from error
    for key in ("state_dict", "model_state_dict"):  # where trainers put it
        if isinstance(held, dict) and isinstance(held.get(key), dict):
            held = held[key]
    if not isinstance(held, dict) or not all(isinstance(t, torch.Tensor) for t in held.values()):
        raise ModelError(f"{source} holds more than tensors: save the network's state_dict()")
    save_file({name: tensor.contiguous().clone() for name, tensor in held.items()}, target)


def _file(path: Path) -> Path:
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file")
    return path
