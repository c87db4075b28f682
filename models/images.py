"""From cutouts to what the `stamps` network sees: sigmas above the sky, near and far, with validity masks."""

from __future__ import annotations

import numpy as np
import torch

VIEW = 31
CHANNELS = 12


def normalised(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each image on its own: (pixel - median) / sigma, with sigma half of the central 68 per cent.

    `images` float32 (rows, 3, 63, 63), NaN where there is no pixel. Returns the images with 0 for these,
    cut at +-1e4 sigma, and the mask bool (rows, 3, 63, 63) of valid pixels. Both quantiles come from every
    second pixel of every second line, which is four times cheaper and as good.
    """
    valid = np.abs(images) < 1e30  # false for NaN
    whole = bool(valid.all())
    if not whole:
        images = np.where(valid, images, np.float32(np.nan))
    rows = len(images)
    sample = np.sort(images[:, :, ::2, ::2].reshape(rows * 3, -1), axis=1)  # NaN last
    count = sample.shape[1] if whole else np.isfinite(sample).sum(axis=1)
    low, middle, high = (
        sample[np.arange(rows * 3), np.multiply(count, q).astype(np.int64)] for q in (0.16, 0.5, 0.84)
    )
    with np.errstate(invalid="ignore", over="ignore"):
        sigma = (high - low) / 2
        floor = np.maximum(1e-6 * np.abs(middle), 1e-12)
    sigma = np.where(sigma > floor, sigma, np.where(np.isfinite(floor), np.maximum(floor, 1e-3), 1))
    middle, sigma = (np.nan_to_num(v).reshape(rows, 3, 1, 1).astype(np.float32) for v in (middle, sigma))
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = images - middle
        scaled /= np.maximum(sigma, 1e-12)
    np.clip(scaled, -1e4, 1e4, out=scaled)
    return scaled if whole else np.nan_to_num(scaled, copy=False), valid


def views(images: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """float32 (rows, 12, 31, 31) from normalised `images` and masks `valid`, both (rows, 3, 63, 63).

    The inner 31 x 31 pixels as they are, and the whole stamp averaged over 3 x 3 valid pixels in steps of 2;
    both on a logarithmic scale (sign(x) ln(1 + |x|) / 3), then both masks. Both are symmetric
    about the central pixel.
    """
    edge = (images.shape[-1] - VIEW) // 2
    inner = slice(edge, edge + VIEW)
    near = images[:, :, inner, inner]
    wide = _averaged(images)
    if bool(valid.all()):  # nearly always, and then most of the work is none
        masks = torch.ones_like(near)
        weight = masks
    else:
        masks = valid[:, :, inner, inner].to(images.dtype)
        weight = _averaged(valid.to(images.dtype))
        wide = wide / weight.clamp_min(1e-3)
    seen = torch.cat([near, wide], dim=1)
    return torch.cat([seen.abs().log1p_().div_(3).copysign_(seen), masks, weight], dim=1)


def _averaged(images: torch.Tensor) -> torch.Tensor:
    """The mean of 3 x 3 pixels in steps of 2: by slices four times faster than `avg_pool2d` on a CPU."""
    lines = images[:, :, 0:-2:2] + images[:, :, 1:-1:2] + images[:, :, 2::2]
    return (lines[..., 0:-2:2] + lines[..., 1:-1:2] + lines[..., 2::2]) / 9
