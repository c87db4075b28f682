"""The members of the `stamps` network evaluated as one: a fifth of the calls, each five times as large.

The first convolution has the members' filters side by side; the next ones have a group for each member, and
the perceptrons are batched products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from models.stamps import Ensemble, Member

Layers = list[tuple[torch.Tensor, torch.Tensor]]


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
        self._temperature = ensemble.temperature
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
        self._see = _stacked(members, lambda m: m.see[2], dtype, self._by_place)
        self._seen = _stacked(members, lambda m: m.see[5], torch.float32)
        self._real = _perceptron(members, lambda member: member.real, dtype)
        self._kind = _perceptron(members, lambda member: member.kind, dtype)
        self._encoded = ensemble.encoded

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
        kinds = self._perceptron(torch.cat([early, late], dim=1), self._kind)
        read = torch.cat([kinds, self._perceptron(early, self._real)], dim=2)
        found = self._verdict(read + torch.baddbmm(self._seen[1], looked.float(), self._seen[0]))
        return torch.softmax(found / self._temperature, dim=2).mean(dim=0)

    def _perceptron(self, read: torch.Tensor, layers: Layers) -> torch.Tensor:
        """float32 (members, rows, outputs)."""
        states = read.to(self._dtype).expand(self._members, -1, -1)
        for weight, bias in layers[:-1]:
            states = torch.baddbmm(bias, states, weight).relu_()
        weight, bias = layers[-1]
        return torch.baddbmm(bias, states.float(), weight)

    def _by_place(self, weight: torch.Tensor) -> torch.Tensor:
        """Weights over (channel, place) as over (place, channel): the order in memory here."""
        return weight.reshape(len(weight), self._channels, -1).transpose(1, 2).reshape(len(weight), -1)


def _perceptron(
    members: Sequence[Member], of: Callable[[Member], nn.Sequential], dtype: torch.dtype
) -> Layers:
    """Its three layers, `_stacked`; the last one in fp32."""
    layers = []
    for place in (1, 4, 7):

        def layer(member: Member, place: int = place) -> nn.Module:
            return of(member)[place]

        layers.append(_stacked(members, layer, torch.float32 if place == 7 else dtype))
    return layers


def _stacked(
    members: Sequence[Member],
    layer: Callable[[Member], nn.Module],
    dtype: torch.dtype,
    turned: Callable[[torch.Tensor], torch.Tensor] = lambda weight: weight,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(weights (members, inputs, outputs), biases (members, 1, outputs)) of one layer of each member."""
    layers = [cast(nn.Linear, layer(member)) for member in members]
    weights = torch.stack([turned(one.weight).T for one in layers])
    return weights.to(dtype).contiguous(), torch.stack([one.bias for one in layers])[:, None].to(dtype)
