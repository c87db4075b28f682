"""Ways to evaluate one network: the fastest on this machine that agrees with the plain one serves.

Which one that is differs between processors that bear one name, so it is measured where it serves: once a
host and version, and kept in a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

# Probabilities of a variant may differ this much from the plain network's, and their top class for so many
# rows of a thousand; rows of it by STEADINESS with their position in a pass.
AGREEMENT = 0.01
OTHER_TOP = 0.001
STEADINESS = 5e-6
_REPEATS = 5

Call = Callable[..., torch.Tensor]
Example = Callable[[int], tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class Variant:
    """A network in one form. Called with the network's inputs, of `rows` rows, returns probabilities."""

    name: str
    rows: int  # a pass
    call: Call

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.call(*inputs)


@dataclass(frozen=True)
class Measured:
    """What a variant costs here, and its greatest difference from a score of the plain network."""

    name: str
    rows: int
    us_per_row: float
    difference: float
    agrees: bool


def formats(network: nn.Module) -> dict[str, Call]:
    """Numerical formats of a network whose first argument is an image tensor; the plain one first."""

    def channels_last(seen: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return network(seen.contiguous(memory_format=torch.channels_last), *rest)

    def bf16(seen: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        with torch.autocast(seen.device.type, dtype=torch.bfloat16):
            return channels_last(seen, *rest)

    return {"fp32": network, "channels-last": channels_last, "bf16": bf16}


@torch.inference_mode()
def measured(choices: Sequence[Variant], example: Example) -> list[Measured]:
    """Time each variant on example(rows), in turns, and compare it with the first, the reference."""
    inputs = {rows: example(rows) for rows in {choice.rows for choice in choices}}
    agree = [_compared(choices[0], choice, inputs[choice.rows]) for choice in choices]
    best = [float("inf")] * len(choices)
    for _ in range(_REPEATS):
        for i, choice in enumerate(choices):
            best[i] = min(best[i], _seconds(choice, inputs[choice.rows]))
    return [
        Measured(choice.name, choice.rows, 1e6 * seconds / choice.rows, difference, agrees)
        for choice, seconds, (difference, agrees) in zip(choices, best, agree, strict=True)
    ]


def _compared(first: Variant, choice: Variant, inputs: Sequence[torch.Tensor]) -> tuple[float, bool]:
    """The greatest difference from the first one's scores, and whether it agrees."""
    wanted, scores = first(*inputs), choice(*inputs)
    turned = choice(*(tensor.flip(0) for tensor in inputs)).flip(0)
    difference = float((scores - wanted).abs().max())
    other_top = float((scores.argmax(dim=1) != wanted.argmax(dim=1)).float().mean())
    steady = bool((scores - turned).abs().max() <= STEADINESS)
    return difference, choice is first or (difference <= AGREEMENT and other_top <= OTHER_TOP and steady)


def fastest(choices: Sequence[Variant], example: Example, version: str = "") -> Variant:
    """The fastest of `choices` that agrees with the first.

    version: a digest of what is evaluated; the choice for it is kept on this host, and read again.
    """
    named = {(choice.name, choice.rows): choice for choice in choices}
    path = _kept(choices, example(1)[0].device, version) if version else None
    if path is not None and (known := named.get(_read(path))):
        return known
    of_all = measured(choices, example)
    best = min((m for m in of_all if m.agrees), key=lambda m: m.us_per_row)
    if path is not None:
        _write(path, {"name": best.name, "rows": best.rows, "measured": [asdict(m) for m in of_all]})
    return named[best.name, best.rows]


def _seconds(choice: Variant, inputs: Sequence[torch.Tensor]) -> float:
    """One call: on a CPU the processor's time, because a choice that is made on a busy host is kept, too."""
    clock = time.perf_counter if inputs[0].is_cuda else time.process_time
    start = clock()
    choice(*inputs)
    if inputs[0].is_cuda:
        torch.cuda.synchronize()
    return clock() - start


def _kept(choices: Sequence[Variant], device: torch.device, version: str) -> Path:
    """Where the choice is kept: of this version and these variants on this very processor and PyTorch."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    of = [version, torch.__version__, machine(device), *(f"{c.name} {c.rows}" for c in choices)]
    return Path(cache) / "rayfinch" / "variants" / f"{hashlib.sha256(repr(of).encode()).hexdigest()}.json"


def machine(device: torch.device) -> str:
    """The processor: its name, and a digest of what it says it can do."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    abilities = hashlib.sha256(said.get("flags", said.get("Features", "")).encode()).hexdigest()[:8]
    return f"{said.get('model name', platform.machine())} {abilities}"


def _read(path: Path) -> tuple[str, int]:
    try:
        said = json.loads(path.read_text())
        return str(said["name"]), int(said["rows"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", 0


def _write(path: Path, content: dict[str, object]) -> None:
    """In one step; where it cannot be kept, the next start measures again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(content, indent=1))
        part.replace(path)
    except OSError:
        return
