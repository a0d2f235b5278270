"""Edges, lines and scribbles by arithmetic alone; white on black, but for those that keep dark lines dark.

Each gives images [B, h, w, 3] in 0..1 whose shorter side is `resolution`. Behaviour as in comfyui_controlnet_aux
(Apache-2.0), `src/custom_controlnet_aux/{canny,binary,scribble,lineart_standard}`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from nodes.diffusion.canny import AHEAD, SOBEL, connected
from nodes.diffusion.preprocessors import frames

_TANGENT = math.tan(math.pi / 8)


def canny(image: Tensor, low: int, high: int, resolution: int) -> Tensor:
    """Edges as OpenCV's `Canny` has them: unblurred, lengths |dx| + |dy| of the channel that changes most.

    Args:
        image: [B, H, W, C], 0..1.
        low: what continues an edge, 0..255.
        high: what begins one; the two may be given in either order, as in OpenCV.
        resolution: of the shorter side.
    """
    x = frames.frame(image, resolution)
    height, width = x.shape[-2:]
    length, ridge = _ridges(frames.padded(x))
    low, high = sorted((low, high))
    found = connected(ridge & (length > high), ridge & (length > low))
    return frames.image(found[..., :height, :width] * 255)


def _ridges(x: Tensor) -> tuple[Tensor, Tensor]:
    """[B, 3, H, W] -> length of the gradient and whether it is largest across the edge, both [B, 1, H, W]."""
    across = torch.tensor(SOBEL).to(x)
    kernels = torch.stack([across, across.T])[:, None].repeat(3, 1, 1, 1)
    both = F.conv2d(F.pad(x, (1, 1, 1, 1), "replicate"), kernels, groups=3).unflatten(1, (3, 2))
    length, channel = both.abs().sum(2).max(1, keepdim=True)
    dx, dy = (both[:, :, i].gather(1, channel) for i in range(2))
    around = F.pad(length, (1, 1, 1, 1))

    def beats(down: int, right: int, may_tie: bool) -> Tensor:
        height, width = length.shape[-2:]
        other = around[..., 1 + down : 1 + down + height, 1 + right : 1 + right + width]
        return length >= other if may_tie else length > other

    level = beats(0, -1, False) & beats(0, 1, True)
    upright = beats(-1, 0, False) & beats(1, 0, True)
    falling = beats(-1, -1, False) & beats(1, 1, False)
    rising = beats(-1, 1, False) & beats(1, -1, False)
    flat = dy.abs() < dx.abs() * _TANGENT
    steep = dy.abs() > dx.abs() * (_TANGENT + 2)
    slanted = torch.where((dx < 0) ^ (dy < 0), rising, falling)
    return length, torch.where(flat, level, torch.where(steep, upright, slanted))


def binary(image: Tensor, threshold: int, resolution: int) -> Tensor:
    """White where luma is above a threshold 0..255, else black; 0 and 255 take Otsu's threshold (Otsu 1979)."""
    x = frames.frame(image, resolution)
    found = frames.grey(frames.padded(x))
    if threshold in (0, 255):
        limits = found.new_tensor([otsu(item) for item in found]).view(-1, 1, 1, 1)
    else:
        limits = found.new_full((len(found), 1, 1, 1), threshold)
    return frames.image((found > limits)[..., : x.shape[-2], : x.shape[-1]] * 255.0)


def otsu(luma: Tensor) -> int:
    """The threshold in 0..255 that parts luma, whole numbers, into two classes with means farthest apart."""
    counts = np.bincount(luma.flatten().long().cpu().numpy(), minlength=256) / luma.numel()
    below, sums = counts.cumsum(), (counts * np.arange(256)).cumsum()
    spread = (sums[-1] * below - sums) ** 2
    parts = below * (1 - below)
    return int(np.divide(spread, parts, out=np.zeros(256), where=parts > 1e-12).argmax())


def scribble(image: Tensor, resolution: int) -> Tensor:
    """A drawing in black and white: black where any channel is dark, below 127 of 255."""
    x = frames.frame(image, resolution)
    return frames.image((x.amin(1, keepdim=True) >= 127) * 255.0)


def xdog(image: Tensor, threshold: int, resolution: int) -> Tensor:
    """Scribbles where a picture is darker than around it, by a difference of Gaussians (Winnemöller et al. 2012).

    Args:
        image: [B, H, W, C], 0..1.
        threshold: 1..64; the larger, the fewer lines.
        resolution: of the shorter side.
    """
    x = frames.frame(image, resolution)
    wide = frames.padded(x)
    darker = (frames.blurred(wide, 5.0) - frames.blurred(wide, 0.5)).amin(1, keepdim=True).clamp(0, 255).ceil()
    return frames.image((2 * darker > threshold)[..., : x.shape[-2], : x.shape[-1]] * 255.0)


def lineart(image: Tensor, sigma: float, threshold: int, resolution: int) -> Tensor:
    """Lines where a picture is darker than its blur, brought to a like strength in every picture.

    Args:
        image: [B, H, W, C], 0..1.
        sigma: of the blur, in pixels.
        threshold: what counts as a line when the strength is measured, 0..16 of 255.
        resolution: of the shorter side.
    """
    x = frames.frame(image, resolution)
    wide = frames.padded(x)
    darker = (frames.blurred(wide, sigma) - wide).amin(1, keepdim=True).clamp(0, 255)
    strengths = [_median(item[item > threshold]) for item in darker]
    scale = darker.new_tensor([127 / max(16.0, strength) for strength in strengths]).view(-1, 1, 1, 1)
    return frames.image((darker * scale)[..., : x.shape[-2], : x.shape[-1]])


def _median(values: Tensor) -> float:
    return float(np.median(values.cpu().numpy())) if values.numel() else 0.0


def thinned(x: Tensor) -> Tensor:
    """Soft edges [B, 1, H, W], 0..255, as bold strokes of 0 and 255: their ridges, drawn anew ("fake scribbles")."""
    smooth = frames.blurred(x, 3.0)
    around = F.pad(smooth, (1, 1, 1, 1), value=float("-inf"))
    height, width = x.shape[-2:]

    def beats(down: int, right: int) -> Tensor:
        return smooth >= around[..., 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    ridges = torch.stack([beats(i, j) & beats(-i, -j) for i, j in AHEAD]).any(0)
    strokes = frames.blurred((ridges & (smooth > 127)) * 255.0, 3.0, reach=3).round()
    return (strokes > 4) * 255.0
