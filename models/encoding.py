"""Numbers as a network reads them best: each as its place among quantiles, and whether it is there."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


class Encoding(nn.Module):
    """Piecewise-linear encoding (Gorishniy et al. 2022, arXiv:2203.05556) of columns with missing values.

    A column of `bins` quantile bins becomes `bins` numbers, each how far the value reaches through its bin
    (0 to 1), and one that says whether there is a value. Absurd values end at the outermost bins.
    """

    edges: torch.Tensor

    def __init__(self, columns: int, bins: int) -> None:
        super().__init__()
        self.register_buffer("edges", torch.arange(bins + 1.0).expand(columns, -1).clone())
        self.size = columns * (bins + 1)

    def fit(self, values: np.ndarray) -> None:
        """Take the quantiles of `values` (rows, columns), NaN ignored; one without any stays."""
        shares = np.linspace(0, 1, self.edges.shape[1])
        for i, column in enumerate(values.T):
            known = column[np.isfinite(column)]
            if len(known):
                # Bins of no width (many equal values) would divide by zero.
                edges = np.maximum.accumulate(np.quantile(known.astype(float), shares))
                least = max(1e-4 * (edges[-1] - edges[0]), 1e-5 * np.abs(edges).max(), 1e-6)
                self.edges[i] = torch.from_numpy(edges + least * np.arange(len(edges)))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """float32 (rows, size) from `values` (rows, columns) with NaN where there is none."""
        known = torch.isfinite(values)
        low, width = self.edges[:, :-1], self.edges.diff(dim=1)
        reach = (torch.nan_to_num(values)[:, :, None] - low).div_(width).clamp_(0, 1)
        reach *= known[:, :, None]
        return torch.cat([reach.flatten(1), known.to(reach.dtype)], dim=1)
