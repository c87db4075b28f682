"""Perceptrons of two hidden layers, and many of one shape evaluated as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

_LAYERS = (1, 4, 7)


def perceptron(inputs: int, neurons: int, outputs: int, dropout: float) -> nn.Sequential:
    """(rows, inputs) to (rows, outputs); of the inputs a third as many are dropped as of the neurons."""
    return nn.Sequential(
        nn.Dropout(dropout / 3),
        nn.Linear(inputs, neurons),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(neurons, neurons),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(neurons, outputs),
    )


class Perceptrons:
    """Those of all members, which read the same numbers, by batched products: a call for each layer.

    In another format than fp32, but for the last layer.
    """

    @torch.no_grad()
    def __init__(self, members: Sequence[nn.Sequential], dtype: torch.dtype = torch.float32) -> None:
        self._members, self._dtype = len(members), dtype
        first, second, last = ([cast(nn.Linear, member[i]) for member in members] for i in _LAYERS)
        self._hidden = [joined(first, dtype), joined(second, dtype)]
        self._last = joined(last, torch.float32)

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """float32 (members, rows, outputs) from (rows, inputs)."""
        states = values.to(self._dtype).expand(self._members, -1, -1)
        for weight, bias in self._hidden:
            states = torch.baddbmm(bias, states, weight).relu_()
        weight, bias = self._last
        return torch.baddbmm(bias, states.float(), weight)


def joined(layers: Sequence[nn.Linear], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """(weights (members, inputs, outputs), biases (members, 1, outputs)) of one layer of each member."""
    weights = torch.stack([layer.weight.T for layer in layers]).to(dtype).contiguous()
    return weights, torch.stack([layer.bias for layer in layers])[:, None].to(dtype)
