"""Edges of pictures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # Rec. 601
SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
AHEAD = ((0, 1), (1, 1), (1, 0), (1, -1))  # (down, right) along 0, 45, 90 and 135 degrees


def canny(image: Tensor, low: float, high: float) -> Tensor:
    """Edges one pixel wide.

    Luma is blurred (5 x 5 Gaussian, sigma 1), its gradient is kept where it is a maximum along its own direction, and
    of that what is above `high`, with what is above `low` and connected to it. Source: Canny 1986; constants, borders
    and the gradient's scale (Sobel, unnormalised) as in kornia 0.7, `kornia.filters.canny`.

    Args:
        image: [B, C, H, W], 0..1; of 3 channels or more the first three are taken, else the first.
        low: gradients that continue an edge.
        high: gradients that begin one.

    Returns:
        [B, 1, H, W] of 0 and 1.

    Raises:
        ValueError: `low` is above `high`, or the image is smaller than 3 x 3.
    """
    if low > high:
        raise ValueError(
            f"low_threshold is {low} and high_threshold is {high}; expected low_threshold <= high_threshold"
        )
    if min(image.shape[-2:]) < 3:
        raise ValueError(f"the image is {image.shape[-1]} x {image.shape[-2]} pixels; edges need at least 3 x 3")
    magnitude, angle = _gradient(_blurred(_luma(image)))
    magnitude = magnitude * _is_ridge(magnitude, angle)
    return connected(magnitude > high, magnitude > low)


def _luma(image: Tensor) -> Tensor:
    if image.shape[1] < 3:
        return image[:, :1]
    return (LUMA[0] * image[:, 0] + LUMA[1] * image[:, 1] + LUMA[2] * image[:, 2])[:, None]


def _blurred(grey: Tensor) -> Tensor:
    weights = torch.exp(-torch.arange(-2.0, 3.0).square() / 2)
    kernel = (weights / weights.sum()).to(grey)
    grey = F.conv2d(F.pad(grey, (2, 2, 0, 0), "reflect"), kernel.view(1, 1, 1, 5))
    return F.conv2d(F.pad(grey, (0, 0, 2, 2), "reflect"), kernel.view(1, 1, 5, 1))


def _gradient(grey: Tensor) -> tuple[Tensor, Tensor]:
    """[B, 1, H, W] -> length and angle, both [B, 1, H, W]."""
    across = torch.tensor(SOBEL).to(grey)
    found = F.conv2d(F.pad(grey, (1, 1, 1, 1), "replicate"), torch.stack([across, across.T])[:, None])
    x, y = found.split(1, dim=1)
    return (x * x + y * y + 1e-6).sqrt(), torch.atan2(y, x)


def _is_ridge(magnitude: Tensor, angle: Tensor) -> Tensor:
    """True where no neighbour along the gradient, its direction rounded to 45 degrees, is as large."""
    height, width = magnitude.shape[-2:]
    padded = F.pad(magnitude, (1, 1, 1, 1))

    def neighbour(down: int, right: int) -> Tensor:
        return padded[..., 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    ridges = [(magnitude > neighbour(i, j)) & (magnitude > neighbour(-i, -j)) for i, j in AHEAD]
    axis = (angle * (4 / math.pi)).round().long() % 4
    return torch.cat(ridges, dim=1).gather(1, axis)


def connected(strong: Tensor, weak: Tensor) -> Tensor:
    """What is weak and joined to something strong, over any of eight neighbours, as 0 and 1.

    Args:
        strong: [B, C, H, W] of bool; each is weak, too.
        weak: of the same shape.
    """
    from scipy.ndimage import label

    neighbours = np.zeros((3, 3, 3, 3))
    neighbours[1, 1] = 1
    found: Any = label(weak.cpu().numpy(), neighbours)
    labels, count = found
    is_kept = np.zeros(count + 1, dtype=np.float32)
    is_kept[labels[strong.cpu().numpy()]] = 1
    return torch.from_numpy(is_kept[labels]).to(strong.device)
