"""On a GPU: passes of one shape, each one launch.

A small network is hundreds of kernels of a few microseconds each, which take longer to launch than to run.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch

from models.variants import Call

# Rows a pass, of which the fastest is taken: small ones leave a GPU idle, and no block of a stream is larger.
ROWS = (64, 256, 1024)
# The inputs' places, what happens to them, and the answer's place.
Recording = tuple[list[torch.Tensor], torch.cuda.CUDAGraph, torch.Tensor]


class Recorded:
    """A network's call as CUDA graphs: recorded at the first inputs of each shape, then replayed.

    Inputs are copied into the tensors that were recorded, the answer out of them, in the order of the stream.
    """

    MOST = 16  # shapes: a recording keeps its memory

    def __init__(self, call: Call) -> None:
        self._call = call
        self._known: dict[tuple[torch.Size, ...], Recording] = {}
        self._one_at_a_time = threading.Lock()

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        shapes = tuple(tensor.shape for tensor in inputs)
        with self._one_at_a_time:
            if shapes not in self._known:
                if len(self._known) == self.MOST:
                    return self._call(*inputs)
                self._known[shapes] = self._record(inputs)
            held, graph, answer = self._known[shapes]
            for kept, given in zip(held, inputs, strict=True):
                kept.copy_(given, non_blocking=True)
            graph.replay()
            return answer.clone()

    def _record(self, inputs: Sequence[torch.Tensor]) -> Recording:
        held = [tensor.clone() for tensor in inputs]
        # What is done once only (plans, workspaces) must not be recorded.
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                self._call(*held)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            answer = self._call(*held)
        return held, graph, answer


def received(answers: Sequence[torch.Tensor]) -> np.ndarray:
    """float32 (rows, ...): the answers of all passes, fetched at once."""
    return torch.cat(list(answers)).float().cpu().numpy()


def filled(tensor: torch.Tensor, rows: int) -> torch.Tensor:
    """As many rows as a pass has: the first one is repeated behind the last."""
    lacking = rows - len(tensor)
    return torch.cat([tensor, tensor[:1].expand(lacking, *tensor.shape[1:])]) if lacking else tensor


def rounded(length: int, least: int = 16) -> int:
    """The next power of two: a few lengths stand for all, so that few shapes are recorded."""
    return max(least, 1 << (length - 1).bit_length())
