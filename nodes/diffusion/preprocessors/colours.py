"""Hints of what colours are where: a blurred picture, its mean colours, its brightness, its parts out of place.

Each gives images [B, h, w, 3] in 0..1. Behaviour as in comfyui_controlnet_aux (Apache-2.0),
`src/custom_controlnet_aux/{tile,color,recolor,shuffle}`.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from nodes.diffusion.preprocessors import frames

_BLOCK = 64
_WAVE = 256  # pixels between the points at which content is shifted anew


def tile(image: Tensor, times: int) -> Tensor:
    """A picture without its details: made smaller by 2^times, then doubled so often; sides become multiples of 64."""
    x = frames.frame(image, min(image.shape[1:3]))
    height, width = (max(1, round(side / _BLOCK)) * _BLOCK for side in x.shape[-2:])
    x = frames.area(x, max(1, width >> times), max(1, height >> times))
    for _ in range(times):
        x = _doubled(_doubled(x).transpose(-1, -2)).transpose(-1, -2)
        x = (x + 0.5).floor()
    return frames.image(F.interpolate(x, size=(height, width)) if x.shape[-2:] != (height, width) else x)


def _doubled(x: Tensor) -> Tensor:
    """[..., W] -> [..., 2 W] by the kernel 1 4 6 4 1 (Burt and Adelson 1983); mirrored left, repeated right."""
    before = torch.cat([x[..., 1:2] if x.shape[-1] > 1 else x, x[..., :-1]], -1)
    after = torch.cat([x[..., 1:], x[..., -1:]], -1)
    return torch.stack([(before + 6 * x + after) / 8, (x + after) / 2], -1).flatten(-2)


def blocks(image: Tensor, resolution: int) -> Tensor:
    """A picture in squares of about 64 pixels of one colour each, as T2I-Adapter's colour model takes them."""
    x = frames.frame(image, resolution, "bilinear")
    height, width = x.shape[-2:]
    small = frames.resized(x, max(1, width // _BLOCK), max(1, height // _BLOCK), "bicubic")
    return frames.image(frames.resized(small, width, height, "nearest"))


def luminance(image: Tensor, gamma: float, resolution: int) -> Tensor:
    """Lightness (CIE L*) to the power of gamma, grey. Red and blue change places first, as the pack has them."""
    x = frames.frame(image, resolution) / 255
    linear = torch.where(x > 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92)
    y = (linear * x.new_tensor([0.072169, 0.715160, 0.212671]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    lightness = torch.where(y > 0.008856, 1.16 * y.clamp(min=1e-6) ** (1 / 3) - 0.16, 9.033 * y)
    return frames.image(((lightness * 255).round() / 255) ** gamma * 255)


def intensity(image: Tensor, gamma: float, resolution: int) -> Tensor:
    """The largest of red, green and blue to the power of gamma, grey."""
    x = frames.frame(image, resolution) / 255
    return frames.image(x.amax(1, keepdim=True) ** gamma * 255)


def shuffled(image: Tensor, resolution: int, seed: int) -> Tensor:
    """A picture whose pixels come from places that wander: its colours and style without its content.

    Args:
        image: [B, H, W, C], 0..1.
        resolution: of the shorter side.
        seed: decides the places, the same for all pictures of the batch.
    """
    x = frames.frame(image, resolution)
    wide = frames.padded(x)
    height, width = wide.shape[-2:]
    random = np.random.default_rng(seed)
    across, down = (_wandering(random, height, width) * (size - 1) for size in (width, height))
    places = torch.stack([across * 2 / (width - 1) - 1, down * 2 / (height - 1) - 1], -1).float()
    grid = places.to(x).expand(len(x), -1, -1, -1)
    found = F.grid_sample(wide, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    return frames.image(found[..., : x.shape[-2], : x.shape[-1]].round())


def _wandering(random: np.random.Generator, height: int, width: int) -> Tensor:
    """Smooth noise [height, width] of 0..1: points 256 pixels apart, cubic between them."""
    points = random.uniform(0, 1, (height // _WAVE + 2, width // _WAVE + 2, 1))
    size = (height + 2 * _WAVE, width + 2 * _WAVE)
    noise = F.interpolate(torch.from_numpy(points)[None, ..., 0][None], size=size, mode="bicubic")[0, 0]
    noise = noise[_WAVE : _WAVE + height, _WAVE : _WAVE + width]
    noise = noise - noise.min()
    return noise / noise.max()


def without_masked(image: Tensor, mask: Tensor, value: float) -> Tensor:
    """Pictures [B, H, W, C] with a value where the mask [B, h, w], resized to them, is above a half."""
    grown = F.interpolate(mask.reshape(-1, 1, *mask.shape[-2:]).float(), size=image.shape[1:3], mode="bilinear")
    return torch.where(grown.movedim(1, -1).to(image.device) > 0.5, image.new_tensor(value), image[..., :3])
