"""Latents: empty ones to start from, and other sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from nodegraph.context import Context
from nodegraph.spec import node
from nodegraph.types import Choices, Widget
from nodes.image import Crop, Scale
from nodes.types import Latent, LatentValue

Width = Annotated[int, Field(ge=16, le=16384), Widget(step=8)]
WidthOrZero = Annotated[int, Field(ge=0, le=16384), Widget(step=8)]
BatchSize = Annotated[int, Field(ge=1, le=4096)]
LatentMethod = Annotated[str, Choices(("nearest-exact", "bilinear", "area", "bicubic", "bislerp"))]


@node("EmptyLatentImage", category="latent", title="Empty Latent Image")
def empty_latent(*, ctx: Context, width: Width = 512, height: Width = 512, batch_size: BatchSize = 1) -> Latent:
    """A batch of zero latents [B, 4, H/8, W/8] to sample from.

    Args:
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        batch_size: How many pictures are made at once.
    """
    import torch

    return LatentValue(torch.zeros(batch_size, 4, height // 8, width // 8, device=ctx.device))


@node("LatentUpscale", category="latent", title="Upscale Latent")
def upscale_latent(
    *, samples: Latent, upscale_method: LatentMethod, width: WidthOrZero = 512, height: WidthOrZero = 512, crop: Crop
) -> Latent:
    """Resize latents [B, C, H/8, W/8] to a picture size of width x height; to be sampled again.

    Args:
        samples: What to resize.
        upscale_method: How neighbours are interpolated.
        width: New picture width, at least 64; 0 keeps the aspect ratio.
        height: New picture height, at least 64; 0 keeps the aspect ratio.
        crop: `center` cuts to the new aspect ratio first; `disabled` stretches.
    """
    from nodes.diffusion.resize import resize

    if width == 0 and height == 0:
        return samples
    old_height, old_width = samples.samples.shape[-2:]
    width, height = width and max(64, width), height and max(64, height)
    width = width or max(64, round(old_width * height / old_height))
    height = height or max(64, round(old_height * width / old_width))
    return replace(samples, samples=resize(samples.samples, width // 8, height // 8, upscale_method, crop))


@node("LatentUpscaleBy", category="latent", title="Upscale Latent By")
def upscale_latent_by(*, samples: Latent, upscale_method: LatentMethod, scale_by: Scale = 1.5) -> Latent:
    """Resize latents [B, C, H/8, W/8] by a factor; to be sampled again.

    Args:
        samples: What to resize.
        upscale_method: How neighbours are interpolated.
        scale_by: 2 doubles both sides.
    """
    from nodes.diffusion.resize import resize

    height, width = (max(1, round(side * scale_by)) for side in samples.samples.shape[-2:])
    return replace(samples, samples=resize(samples.samples, width, height, upscale_method))
