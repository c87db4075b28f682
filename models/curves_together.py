"""The members of the `lightcurve` network evaluated as one: a fifth of the calls, each five times as large.

The recurrent units step together, by batched products; what they read is multiplied for all points at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from models.lightcurve import Ensemble, Member

Layer = tuple[torch.Tensor, torch.Tensor]


class CurvesTogether:
    """Called as the Ensemble that it is made from."""

    @torch.no_grad()
    def __init__(self, ensemble: Ensemble) -> None:
        self._temperature, self._encoding = ensemble.temperature, ensemble.encoding
        members = [cast("Member", member) for member in ensemble.members]
        self._lift = _joined([_numbers(m.lift[0]) for m in members])
        self._read = [_joined([_numbers(m.read[i]) for m in members]) for i in (1, 4, 7)]
        self._decide = [_joined([_numbers(m.decide[i]) for m in members]) for i in (1, 4)]
        units = [m.run for m in members]
        weight, bias = _joined([_numbers(u, "_ih_l0") for u in units])
        self._by_state, of_state = _joined([_numbers(u, "_hh_l0") for u in units])
        # What the state adds to the two gates does not depend on it: it goes with the input.
        gates = 2 * units[0].hidden_size
        self._by_input = weight, torch.cat([(bias + of_state)[..., :gates], bias[..., gates:]], dim=2)
        self._bias = of_state[..., gates:]
        self._hidden = units[0].hidden_size

    def __call__(self, sequence: torch.Tensor, lengths: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
        """Calibrated probabilities (rows, 5), float32."""
        by_points = _perceptron(self._states(sequence, lengths), self._decide)
        read = _shared(self._encoding(shape), self._read[0]).relu_()
        found = by_points + _perceptron(read, self._read[1:])
        return torch.softmax(found / self._temperature, dim=2).mean(dim=0)

    def _states(self, sequence: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(members, rows, 3 hidden): each row's last, mean and greatest state."""
        rows, points, _ = sequence.shape
        members, hidden = len(self._lift[0]), self._hidden
        lifted = _shared(sequence.transpose(0, 1).reshape(points * rows, -1), self._lift).relu_()
        read = torch.baddbmm(self._by_input[1], lifted, self._by_input[0])
        read = read.view(members, points, rows, 3 * hidden)
        states = sequence.new_zeros(points + 1, members, rows, hidden)
        held = sequence.new_empty(members, rows, 3 * hidden)
        for point in range(points):
            torch.bmm(states[point], self._by_state, out=held)
            asked = read[:, point]
            gates = (asked[..., : 2 * hidden] + held[..., : 2 * hidden]).sigmoid_()
            own = held[..., 2 * hidden :].add_(self._bias)
            fresh = torch.addcmul(asked[..., 2 * hidden :], gates[..., :hidden], own).tanh_()
            torch.lerp(fresh, states[point], gates[..., hidden:], out=states[point + 1])
        states = states[1:]
        place = (lengths - 1).expand(members, -1)[None, :, :, None].expand(1, -1, -1, hidden)
        last = states.gather(0, place)[0]
        behind = (torch.arange(points, device=lengths.device)[:, None] >= lengths)[:, None, :, None]
        mean = states.masked_fill(behind, 0).sum(dim=0) / lengths[:, None]
        greatest = states.masked_fill(behind, -1).amax(dim=0)
        return torch.cat([last, mean, greatest], dim=2)


def _shared(values: torch.Tensor, layer: Layer) -> torch.Tensor:
    """(members, rows, outputs) of one layer of all, from the same (rows, inputs): one product."""
    weight, bias = layer
    members, inputs, outputs = weight.shape
    wide = weight.transpose(0, 1).reshape(inputs, members * outputs)
    found = torch.addmm(bias.reshape(-1), values, wide)
    return found.view(len(values), members, outputs).transpose(0, 1)


def _perceptron(values: torch.Tensor, layers: Sequence[Layer]) -> torch.Tensor:
    """(members, rows, outputs) from (members, rows, inputs)."""
    states = values
    for weight, bias in layers[:-1]:
        states = torch.baddbmm(bias, states, weight).relu_()
    weight, bias = layers[-1]
    return torch.baddbmm(bias, states, weight)


def _numbers(layer: nn.Module, part: str = "") -> Layer:
    """Its weight and bias."""
    weight, bias = getattr(layer, f"weight{part}"), getattr(layer, f"bias{part}")
    return cast(torch.Tensor, weight), cast(torch.Tensor, bias)


def _joined(pairs: Sequence[Layer]) -> Layer:
    """(weights (members, inputs, outputs), biases (members, 1, outputs))."""
    return torch.stack([w.T for w, _ in pairs]).contiguous(), torch.stack([b for _, b in pairs])[:, None]
