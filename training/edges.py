"""Edges as white lines on black: what the ControlNet and the adapter were trained on.

Source: Canny 1986: blur, gradient, thinning across the edge, two thresholds. The gradient is the strongest of the three
channels', so that colours of one brightness still have an edge between them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def edges(pictures: Tensor, low: float = 0.10, high: float = 0.25) -> Tensor:
    """The edges of pictures.

    Args:
        pictures: [B, 3, H, W], 0..1.
        low, high: slopes, in brightness per pixel; an edge starts above `high` and goes on above `low`.

    Returns:
        [B, 1, H, W], 0 or 1.
    """
    channels = pictures.shape[1]
    line = torch.exp(-(torch.arange(-2, 3, dtype=pictures.dtype, device=pictures.device) ** 2) / 2)
    line = line / line.sum()
    blur = (line[:, None] * line).expand(channels, 1, 5, 5)
    smooth = F.conv2d(F.pad(pictures, (2, 2, 2, 2), mode="replicate"), blur, groups=channels)
    sobel = pictures.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8 * 2
    kernels = torch.stack([sobel, sobel.T])[:, None].repeat(channels, 1, 1, 1)
    slopes = F.conv2d(F.pad(smooth, (1, 1, 1, 1), mode="replicate"), kernels, groups=channels)
    gx, gy = slopes[:, 0::2], slopes[:, 1::2]
    strength, best = (gx.square() + gy.square()).sqrt().max(1, keepdim=True)
    gx, gy = gx.gather(1, best), gy.gather(1, best)
    thin = strength * _is_peak(strength, gx, gy)
    strong, weak = thin > high, thin > low
    while True:  # strong edges grow along weak ones
        grown = (F.max_pool2d(strong.float(), 3, 1, 1) > 0) & weak
        if torch.equal(grown, strong):
            return strong.float()
        strong = grown


def _is_peak(strength: Tensor, gx: Tensor, gy: Tensor) -> Tensor:
    """Whether a pixel is stronger than its two neighbours along the gradient, of eight directions."""
    sector = (torch.atan2(gy, gx) / (torch.pi / 4)).round().long() % 4
    around = F.pad(strength, (1, 1, 1, 1))
    height, width = strength.shape[-2:]

    def shifted(dx: int, dy: int) -> Tensor:
        return around[..., 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    peak = torch.zeros_like(strength)
    for number, (dx, dy) in enumerate(((1, 0), (1, 1), (0, 1), (-1, 1))):
        is_higher = (strength >= shifted(dx, dy)) & (strength > shifted(-dx, -dy))
        peak = torch.where(sector == number, is_higher.to(peak), peak)
    return peak
