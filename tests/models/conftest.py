"""One thread: threads of a network this small only wait for each other, for long on a busy machine."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
