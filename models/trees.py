"""Boosted trees as tensors, so that they are weights like any other: what they say adds to logits.

They are oblivious (Prokhorenkova et al. 2018, arXiv:1706.09516): a tree asks the same question of all rows at
each of its levels, so that the answers are the binary digits of a leaf's place.
"""

from __future__ import annotations

import torch
from torch import nn

MOST_DEPTH = 8  # a leaf's place is a byte


class Trees(nn.Module):
    """`members` sums of `trees` trees each, `depth` questions deep: is that column greater than that border?

    A missing value is greater than nothing.
    """

    feature: torch.Tensor
    border: torch.Tensor
    leaves: torch.Tensor
    base: torch.Tensor

    def __init__(self, members: int, trees: int, depth: int, classes: int) -> None:
        super().__init__()
        if not 1 <= depth <= MOST_DEPTH:
            raise ValueError(f"trees may be 1 to {MOST_DEPTH} questions deep, not {depth}")
        self.register_buffer("feature", torch.zeros(depth, members, trees, dtype=torch.int32))
        self.register_buffer("border", torch.zeros(depth, members, trees))
        self.register_buffer("leaves", torch.zeros(members, trees, 2**depth, classes))
        self.register_buffer("base", torch.zeros(members, classes))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Logits (members, rows, classes) from columns (rows, columns), NaN where there is no value."""
        members, trees, size, classes = self.leaves.shape
        columns, rows = values.T.contiguous(), len(values)
        leaf = torch.zeros(members * trees, rows, dtype=torch.uint8, device=values.device)
        for level, (feature, border) in enumerate(zip(self.feature, self.border, strict=True)):
            above = columns.index_select(0, feature.flatten()) > border.flatten()[:, None]
            leaf |= above.view(torch.uint8) << level
        first = torch.arange(0, members * trees * size, size, dtype=torch.int32, device=values.device)
        place = leaf.T.to(torch.int32).add_(first).reshape(rows * members, trees)
        found = nn.functional.embedding_bag(place, self.leaves.view(-1, classes), mode="sum")
        return found.view(rows, members, classes).transpose(0, 1) + self.base[:, None]
