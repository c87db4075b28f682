"""Weights on disk: safetensors only, checked against the network that asks for them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.nn.modules.module import register_module_parameter_registration_hook

from models.manifest import WEIGHTS, ModelError

N = TypeVar("N", bound=torch.nn.Module)

MAX_BYTES = 2 << 30
_MAX_HEADER = 1 << 24


def write_weights(module: torch.nn.Module, folder: Path) -> None:
    """Write the module's state as `folder`/weights.safetensors."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)  # it is written for its owner alone


def network(make: Callable[[], N], folder: Path) -> N:
    """The network that `make` makes, with the weights of `folder`/weights.safetensors.

    It is made without memory first, and compared with what the file says of itself: hyper-parameters of
    somebody else's model.json cost nothing before that. Raises ModelError when the file is missing, lies
    outside the folder (a link), is too large or no safetensors file, has other tensors or shapes than the
    network, or holds a value that is not finite.
    """
    path = folder / WEIGHTS
    shapes = _shapes(path, folder)
    try:
        with torch.device("meta"), _at_most(len(shapes)):
            wanted = {name: tuple(t.shape) for name, t in make().state_dict().items()}
    except (TypeError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"{folder}: odd hyper-parameters in model.json: {error}") from error
    if odd := sorted(set(shapes) ^ set(wanted)):
        raise ModelError(f"{path} and the architecture differ in the tensors {', '.join(odd[:5])}")
    for name, shape in shapes.items():
        if shape != wanted[name]:
            raise ModelError(f"{path}: {name} has shape {shape}, not {wanted[name]}")
    try:
        state = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as safetensors: {error}") from error
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelError(f"{path}: {name} holds values that are not finite: the training went wrong")
    made = make()
    made.load_state_dict(state)
    return made


@contextmanager
def _at_most(tensors: int) -> Iterator[None]:
    """No network is made with more parameters than the file has tensors: a billion layers take hours."""
    made, here = 0, threading.get_ident()  # the hook is for all threads, and others may make networks, too

    def count(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None) -> None:
        nonlocal made
        made += parameter is not None and threading.get_ident() == here
        if made > tensors:
            raise ValueError(f"they make more than the {tensors} tensors of {WEIGHTS}")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _shapes(path: Path, folder: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor, as the file's head says (8 bytes: the length of the JSON that follows)."""
    if not path.is_file():
        raise ModelError(f"{folder} is not a model version: it has no {WEIGHTS}")
    if path.resolve().parent != folder.resolve():
        raise ModelError(f"{path} points outside its folder: copy the weights into it")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ModelError(f"{path} has {size:,} bytes, more than the {MAX_BYTES:,} allowed")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, _MAX_HEADER):
            raise ModelError(f"{path} cannot be read as safetensors: its header cannot have {length:,} bytes")
        try:
            head: Mapping[str, Any] = json.loads(file.read(length))
            tensors = {name: entry for name, entry in head.items() if name != "__metadata__"}
            end = max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
            shapes = {name: tuple(int(n) for n in entry["shape"]) for name, entry in tensors.items()}
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            raise ModelError(f"{path} cannot be read as safetensors: its header is odd: {error!r}") from error
    if 8 + length + end != size:
        raise ModelError(f"{path} declares {8 + length + end:,} bytes and has {size:,}")
    return shapes
