"""What all preprocessors do with pictures: bring them to a resolution, in 8 bits, pad them, blur them.

The steps and their order are those of comfyui_controlnet_aux (Apache-2.0), `src/custom_controlnet_aux/util.py`, which
calls OpenCV; here they are written out, so that no OpenCV is needed. Values are whole numbers 0..255 in float32.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

_MULTIPLE = 64


def frame(image: Tensor, resolution: int, larger: str = "bicubic") -> Tensor:
    """Pictures whose shorter side is `resolution`, the other one in proportion.

    Args:
        image: [B, H, W, C], 0..1; one channel is grey; an alpha channel is laid over white.
        resolution: of the shorter side, in pixels.
        larger: how torch enlarges; pictures are made smaller by `area`.

    Returns:
        [B, 3, h, w], 0..255.
    """
    x = _colours(image)
    height, width = x.shape[-2:]
    factor = resolution / min(height, width)
    if factor == 1:
        return x
    height, width = round(height * factor), round(width * factor)
    return area(x, width, height) if factor < 1 else resized(x, width, height, larger)


def padded(x: Tensor) -> Tensor:
    """[B, C, h, w] with its last row and column repeated until the sides are multiples of 64."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % _MULTIPLE, 0, -height % _MULTIPLE), "replicate")


def image(x: Tensor) -> Tensor:
    """[B, 1 or 3, h, w] in 0..255 -> images [B, h, w, 3] in 0..1; fractions are cut off, as when made 8 bits."""
    return (x.clamp(0, 255).floor() / 255).expand(-1, 3, -1, -1).movedim(1, -1).contiguous()


def area(x: Tensor, width: int, height: int) -> Tensor:
    """Pictures made smaller: each new pixel is the mean of what it covers, of cut pixels in part (`INTER_AREA`)."""
    down, across = _cover(x.shape[-2], height), _cover(x.shape[-1], width)
    return (down.to(x) @ x @ across.to(x).T).round().clamp(0, 255)


def resized(x: Tensor, width: int, height: int, method: str) -> Tensor:
    """Pictures resized by torch's `bicubic`, `bilinear` (both as OpenCV has them) or `nearest`."""
    return F.interpolate(x, size=(height, width), mode=method).round().clamp(0, 255)


def blurred(x: Tensor, sigma: float, reach: int = 4) -> Tensor:
    """A Gaussian blur of [B, C, H, W]; edges are mirrored, over and over where the picture is small.

    Args:
        x: what to blur.
        sigma: in pixels; 0 blurs nothing.
        reach: after how many sigmas the kernel is cut: OpenCV's is 4 for floats and 3 for 8 bits.
    """
    if sigma == 0:
        return x
    radius = (round(sigma * reach * 2 + 1) | 1) // 2
    weights = torch.exp(-torch.arange(-radius, radius + 1.0).square() / (2 * sigma * sigma))
    weights = (weights / weights.sum()).to(x).view(1, 1, -1)
    for axis in (-1, -2):
        lines = x.index_select(axis, _mirrored(x.shape[axis], radius).to(x.device)).transpose(axis, -1)
        found = F.conv1d(lines.reshape(-1, 1, lines.shape[-1]), weights)
        x = found.view(*lines.shape[:-1], -1).transpose(axis, -1)
    return x


def grey(x: Tensor) -> Tensor:
    """Luma [B, 1, H, W] of [B, 3, H, W] (Rec. 601), rounded."""
    return (x * x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True).round()


def _colours(picture: Tensor) -> Tensor:
    x = (picture.float().movedim(-1, 1).clamp(0, 1) * 255).floor()
    if x.shape[1] == 4:
        alpha = x[:, 3:] / 255
        x = (x[:, :3] * alpha + 255 * (1 - alpha)).floor()
    return x[:, :3].expand(-1, 3, -1, -1) if x.shape[1] == 1 else x[:, :3]


def _cover(old: int, new: int) -> Tensor:
    """[new, old]: how much of each new pixel each old one makes up; rows sum to 1."""
    edges = torch.arange(new + 1, dtype=torch.float64) * (old / new)
    places = torch.arange(old, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], places + 1) - torch.maximum(edges[:-1, None], places)
    return overlap.clamp(min=0) * (new / old)


def _mirrored(size: int, radius: int) -> Tensor:
    """Places of a line of this size with `radius` more on both sides, mirrored about its first and last."""
    period = max(1, 2 * (size - 1))
    places = torch.arange(-radius, size + radius).abs() % period
    return torch.minimum(places, period - places)


def shorter_side(height: int, width: int, wanted: tuple[int, int], is_whole: bool) -> int:
    """The resolution at which a picture of height x width has as many pixels as the picture to be made uses of it.

    Args:
        height: of the picture.
        width: of the picture.
        wanted: height and width of the picture to be made.
        is_whole: the picture is to fit in whole, with margins; else it fills and is cut.
    """
    factors = wanted[0] / height, wanted[1] / width
    return math.floor((min(factors) if is_whole else max(factors)) * min(height, width) + 0.5)
