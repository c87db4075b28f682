"""Weights on disk: safetensors only, checked against the network that asks for them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from models.manifest import WEIGHTS, ModelError


def write_weights(module: torch.nn.Module, folder: Path) -> None:
    """Write the module's state as `folder`/weights.safetensors."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)  # it is written for its owner alone


def read_weights(module: torch.nn.Module, folder: Path) -> None:
    """Fill `module` from `folder`/weights.safetensors.

    Raises ModelError when the file is missing, lies outside the folder (a link), is no safetensors file, has
    other tensors or shapes than the module, or holds a value that is not finite.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise ModelError(f"{folder} is not a model version: it has no {WEIGHTS}")
    if path.resolve().parent != folder.resolve():
        raise ModelError(f"{path} points outside its folder: copy the weights into it")
    try:
        state = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as safetensors: {error}") from error
    wanted = module.state_dict()
    if odd := sorted(set(state) ^ set(wanted)):
        raise ModelError(f"{path} and the architecture differ in the tensors {', '.join(odd[:5])}")
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            raise ModelError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, not {tuple(wanted[name].shape)}"
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelError(f"{path}: {name} holds values that are not finite: the training went wrong")
    module.load_state_dict(state)
