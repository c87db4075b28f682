"""The fastest way to evaluate a network, among those that say the same."""

from __future__ import annotations

import torch
from torch import nn

from models.variants import AGREEMENT, fastest, variants


class Simple(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Conv2d(3, 4, 3)

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.look(seen).mean(dim=(2, 3)).float(), dim=1)


class Rough(Simple):
    """Says something else in any format but the plain one."""

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        plain = seen.is_contiguous() and not torch.is_autocast_enabled("cpu")
        return super().forward(seen) + (0 if plain else 2 * AGREEMENT)


def test_whatever_is_chosen_agrees_with_the_plain_network() -> None:
    torch.manual_seed(0)
    seen = torch.randn(32, 3, 31, 31)
    with torch.inference_mode():
        network = Simple().eval()
        assert (fastest(network, (seen,))(seen) - network(seen)).abs().max() <= AGREEMENT


def test_a_variant_that_disagrees_is_not_chosen() -> None:
    torch.manual_seed(0)
    assert fastest(Rough().eval(), (torch.randn(8, 3, 31, 31),)).name == "fp32"


def test_the_plain_network_is_the_reference() -> None:
    assert [v.name for v in variants(Simple())] == ["fp32", "channels-last", "bf16"]
