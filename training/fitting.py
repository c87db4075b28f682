"""What training any of the networks has in common: seeds, early stopping, progress, the version folder."""

from __future__ import annotations

import copy
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from models.contract import open_model
from models.golden import write_golden
from models.importing import GOLDEN
from models.manifest import Manifest
from models.testing import alerts
from models.weights import write_weights

# One: the networks are small, and sums over threads would make the weights depend on how many there are.
THREADS = 1
N = TypeVar("N", bound=nn.Module)
Progress = Callable[[str], None]
Curve = list[tuple[float, float]]
# What a network reads, the classes, and how heavy each row is.
Batch = tuple[tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast. `patience` epochs without a better validation loss end the training."""

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    patience: int


@dataclass(frozen=True)
class Trained:
    """A version that was written, and how: `held_out` is training.evaluation's of objects it never saw.

    `truth` (rows,), `probabilities` (rows, classes) of these; `curves`: of each member and epoch the mean
    loss and the validation loss.
    """

    manifest: Manifest
    held_out: dict[str, Any]
    truth: np.ndarray
    probabilities: np.ndarray
    curves: list[Curve]


def seeded(seed: int) -> None:
    """Make PyTorch repeat itself: same data, seed and number of threads, same weights."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)


def within(part: str, progress: Progress) -> Progress:
    """Progress of a part of the work."""
    return lambda text: progress(f"{part}, {text}")


def class_weights(labels: np.ndarray, classes: int, power: float) -> np.ndarray:
    """float32 (classes,): (mean count / count) ** power. Power 0: nature's mixture, 1: all equal."""
    counts = np.maximum(np.bincount(labels, minlength=classes), 1)
    return ((counts.mean() / counts) ** power).astype(np.float32)


def fit(
    network: N,
    schedule: Schedule,
    batches: Callable[[int], Iterator[Batch]],
    steps: int,
    validate: Callable[[nn.Module], float],
    smoothing: float,
    progress: Progress,
    device: str = "cpu",
) -> tuple[N, Curve]:
    """Train with AdamW and a one-cycle rate; return the averaged weights of its end.

    And the mean loss and the validation loss of each epoch. Where `patience` epochs brought no better
    validation loss it ends before, and the weights are those of the best one.

    `batches(epoch)` yields `steps` batches, on the CPU as what `validate` and the caller get; the steps are
    made on `device`. A network's logits are (rows, classes), or (parts, rows, classes): then each part has to
    be right by itself. The weights that are validated and kept are an exponential average over steps, which
    on small data is both better and steadier than the last ones.
    """
    network.to(device)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
    )
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, schedule.learning_rate, total_steps=max(schedule.epochs * steps, 2), pct_start=0.15
    )
    average = copy.deepcopy(network)
    decay = 1 - 1 / max(2.0 * steps, 2.0)
    curve: Curve = []
    best, best_loss, since = copy.deepcopy(average.state_dict()), float("inf"), 0
    for epoch in range(schedule.epochs):
        network.train()
        total = 0.0
        for inputs, labels, heavy in batches(epoch):
            labels, heavy = labels.to(device), heavy.to(device)
            found = network(*(each.to(device) for each in inputs))
            parts = found.numel() // (len(labels) * found.shape[-1])
            losses = nn.functional.cross_entropy(
                found.flatten(0, -2), labels.repeat(parts), reduction="none", label_smoothing=smoothing
            )
            loss = (losses * heavy.repeat(parts)).sum() / (heavy.sum() * parts)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            rate.step()
            total += float(loss.detach())
            with torch.no_grad():
                for kept, new in zip(average.parameters(), network.parameters(), strict=True):
                    kept.lerp_(new, 1 - decay)
        checked = validate(average.cpu().eval())
        progress(f"epoch {epoch + 1}/{schedule.epochs}: loss {total / steps:.3f}, validation {checked:.3f}")
        curve.append((total / steps, checked))
        if checked < best_loss:
            best, best_loss, since = copy.deepcopy(average.state_dict()), checked, 0
        else:
            since += 1
            if since >= schedule.patience:
                average.load_state_dict(best)
                break
        average.to(device)
    return average.cpu().eval(), curve


def write_version(folder: Path, manifest: Manifest, network: nn.Module) -> None:
    """Write weights, then `model.json`, without which a folder is not a version; and golden scores."""
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(network, folder)
    manifest.write(folder)
    # Made-up alerts: a version can be given to anybody, real packets cannot.
    write_golden(open_model(folder), alerts(GOLDEN), folder)


def code_revision() -> str:
    """The git commit of the checkout that trains, "+" if the code differs from it; "unknown" without one."""

    def git(*arguments: str) -> str:
        run = ["git", "-C", str(Path(__file__).resolve().parents[1]), *arguments]
        return subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            "+" if git("status", "--porcelain", "models", ":(glob)training/*.py") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def summary(config: Mapping[str, object], command: str, seed: int) -> dict[str, object]:
    """The `training` entry of model.json."""
    return {
        "command": command,
        "seed": seed,
        "config": dict(config),
        "torch": torch.__version__,
        "threads": THREADS,
    }
