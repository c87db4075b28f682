"""The members of the `stamps` network evaluated as one: a fifth of the calls, each five times as large.

The first convolution has the members' filters side by side; the next ones have a group for each member, and
the perceptrons are batched products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from models.perceptron import Perceptrons, joined

if TYPE_CHECKING:
    from models.stamps import Ensemble, Member


class Together:
    """Called as the Ensemble that it is made from; in another format than fp32, but for the last layer."""

    @torch.no_grad()
    def __init__(
        self,
        ensemble: Ensemble,
        verdict: Callable[[torch.Tensor], torch.Tensor],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        members = [cast("Member", member) for member in ensemble.members]
        self._verdict = verdict
        self._dtype = dtype
        self._members = len(members)
        looks = [[cast(nn.Conv2d, member.look[i]) for member in members] for i in (0, 2, 4)]
        self._channels = looks[-1][0].out_channels
        self._look = [
            (
                torch.cat([layer.weight for layer in layers]).to(dtype, memory_format=torch.channels_last),
                torch.cat([cast(torch.Tensor, layer.bias) for layer in layers]).to(dtype),
            )
            for layers in looks
        ]
        see = [[cast(nn.Linear, member.see[i]) for member in members] for i in (2, 5)]
        weights, bias = joined(see[0], dtype)
        self._see = self._by_place(weights), bias
        self._seen = joined(see[1], torch.float32)
        self._real = Perceptrons([member.real for member in members], dtype)
        self._kind = Perceptrons([member.kind for member in members], dtype)
        self._encoded, self._decided = ensemble.encoded, ensemble.decided

    def __call__(self, seen: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Calibrated probabilities (rows, 5), float32."""
        states = seen.to(self._dtype, memory_format=torch.channels_last)
        for i, (weight, bias) in enumerate(self._look):
            groups = self._members if i else 1
            states = torch.conv2d(states, weight, bias, stride=2, padding=1, groups=groups).relu_()
        rows = len(states)
        by_member = states.permute(0, 2, 3, 1).reshape(rows, -1, self._members, self._channels)
        looked = by_member.permute(2, 0, 1, 3).reshape(self._members, rows, -1)
        looked = torch.baddbmm(self._see[1], looked, self._see[0]).relu_()
        early, late = self._encoded(numbers)
        kinds = self._kind(torch.cat([early, late], dim=1))
        read = torch.cat([kinds, self._real(early)], dim=2)
        found = self._verdict(read + torch.baddbmm(self._seen[1], looked.float(), self._seen[0]))
        return self._decided(found, numbers)

    def _by_place(self, weights: torch.Tensor) -> torch.Tensor:
        """Weights (members, inputs, outputs) over (channel, place) as over (place, channel): as in memory."""
        members, inputs, outputs = weights.shape
        by_channel = weights.view(members, self._channels, -1, outputs)
        return by_channel.transpose(1, 2).reshape(members, inputs, outputs).contiguous()
