"""Ways to evaluate one network; the fastest on this machine that agrees with the plain one is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

# Probabilities of a variant may differ this much from the plain network's; rows of it this much by position.
AGREEMENT = 0.01
STEADINESS = 5e-6
_REPEATS = 5


@dataclass(frozen=True)
class Variant:
    """A network in one numerical format. Called with views and columns, returns probabilities."""

    name: str
    call: Callable[..., torch.Tensor]

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.call(*inputs)


def variants(network: nn.Module) -> list[Variant]:
    """The plain network first: it is the reference. The first argument of the network is an image tensor."""

    def channels_last(seen: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return network(seen.contiguous(memory_format=torch.channels_last), *rest)

    def bf16(seen: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        with torch.autocast(seen.device.type, dtype=torch.bfloat16):
            return channels_last(seen, *rest)

    return [Variant("fp32", network), Variant("channels-last", channels_last), Variant("bf16", bf16)]


@torch.inference_mode()
def fastest(network: nn.Module, example: Sequence[torch.Tensor]) -> Variant:
    """Time each variant on `example` and keep the fastest that agrees with the first within AGREEMENT.

    A variant whose answer for a row depends on the row's place in the chunk is passed over as well.
    """
    choices = variants(network)
    wanted = choices[0](*example)
    timed = [(_seconds(choices[0], example), 0)]
    for i, choice in enumerate(choices[1:], 1):
        found = choice(*example)
        turned = choice(*(tensor.flip(0) for tensor in example)).flip(0)
        close = (found - wanted).abs().max() <= AGREEMENT and (found - turned).abs().max() <= STEADINESS
        if close:
            timed.append((_seconds(choice, example), i))
    return choices[min(timed)[1]]


def _seconds(choice: Variant, example: Sequence[torch.Tensor]) -> float:
    """The best of a few calls, after one to warm up."""
    choice(*example)
    best = float("inf")
    for _ in range(_REPEATS):
        start = time.perf_counter()
        choice(*example)
        best = min(best, time.perf_counter() - start)
    return best
