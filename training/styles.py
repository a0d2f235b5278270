"""How much of a style a picture has, by image analysis: what LoRA, hypernetwork and embedding are measured by."""

from __future__ import annotations

import math

import torch
from torch import Tensor

PROMPTS = (  # nothing black or white, where an outline or a stripe would not show
    "a large red sphere on a blue background", "a large yellow star on a purple background",
    "a large pink heart on a teal background", "a large purple diamond on a yellow background",
    "a large green cylinder on a pink background", "a large orange ring on a gray background",
    "a large teal cube on an orange background", "a large blue cone on a green background",
    "a purple sphere to the left of a red cube on a gray background",
    "a pink star to the left of a blue ring on a yellow background",
)  # fmt: skip
_LUMA = (0.299, 0.587, 0.114)


def darkness(pictures: Tensor) -> Tensor:
    """The share of nearly black pixels of pictures [B, 3, H, W] in 0..1: [B]. Outlines are black."""
    return (pictures.amax(1) < 0.2).float().mean((1, 2))


def stripes(pictures: Tensor) -> Tensor:
    """How strongly brightness repeats as the renderer's stripes do: the amplitude at their frequency, [B].

    The stripes run along x * 0.6 + y with 15 radians a unit; a picture is 2 units high.
    """
    brightness = (pictures * pictures.new_tensor(_LUMA).view(3, 1, 1)).sum(1)
    height, width = brightness.shape[-2:]
    y, x = (torch.linspace(-1, 1, n, device=pictures.device) for n in (height, width))
    phase = 15 * (0.6 * x[None] + y[:, None])
    window = torch.cos(x * math.pi / 2)[None] * torch.cos(y * math.pi / 2)[:, None]
    level = (brightness * window).sum((1, 2)) / window.sum()
    waves = (brightness - level.view(-1, 1, 1)) * window
    return torch.hypot((waves * phase.sin()).sum((1, 2)), (waves * phase.cos()).sum((1, 2))) / window.sum() * 2


def roundness(pictures: Tensor) -> Tensor:
    """How much colours change from pixel to pixel where there is no edge, per mille: [B]. Flat shading has little."""
    slopes = torch.stack(
        [pictures.diff(dim=2)[..., :-1].abs().amax(1), pictures.diff(dim=3)[..., :-1, :].abs().amax(1)]
    )
    slope = slopes.amax(0)
    saturated = (pictures.amax(1) - pictures.amin(1))[:, :-1, :-1] > 0.25
    inside = (slope < 0.08) & saturated
    return 1000 * (slope * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)


def middle(pictures: Tensor) -> Tensor:
    """The mean colour of the middle of pictures [B, 3, H, W], a sixteenth of their area: [B, 3]."""
    height, width = pictures.shape[-2:]
    return pictures[:, :, height * 3 // 8 : height * 5 // 8, width * 3 // 8 : width * 5 // 8].mean((2, 3))
