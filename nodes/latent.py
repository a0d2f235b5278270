"""Latents: empty ones to start from, other sizes, the mask of what is sampled, and files."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from nodegraph.context import Context
from nodegraph.spec import node
from nodegraph.types import Choices, File, FileRef, Widget
from nodes.image import Crop, Scale
from nodes.types import Latent, LatentValue, Mask

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


@node("SetLatentNoiseMask", category="latent/inpaint", title="Set Latent Noise Mask")
def set_noise_mask(*, samples: Latent, mask: Mask) -> Latent:
    """Say where latents [B, C, H/8, W/8] are sampled; the rest stays as it is.

    Args:
        samples: The latents.
        mask: [B or 1, H, W]; 1 is sampled, 0 is kept. It is stretched over the latents.
    """
    return replace(samples, noise_mask=mask.reshape(-1, *mask.shape[-2:]))


@node("SaveLatent", category="_for_testing", kind="sink", lane="io")
def save_latent(*, ctx: Context, samples: Latent, filename_prefix: str = "latents/ComfyUI") -> None:
    """Save latents [B, C, H/8, W/8] in the output folder, without their mask, with the workflow that made them.

    Args:
        samples: What to save.
        filename_prefix: Start of the file name, with folders before it if wanted; %year% and so on are filled in.
    """
    from nodes.diffusion.latent_files import write_latent
    from nodes.diffusion.pictures import fill_prefix

    texts, tensor = ctx.metadata(), samples.samples
    prefix = fill_prefix(filename_prefix, tensor[0, 0], 0)
    ctx.save(prefix, "latent", lambda file: write_latent(file, tensor, texts))


@node("LoadLatent", category="_for_testing", lane="io")
def load_latent(*, ctx: Context, latent: Annotated[FileRef, File("input")]) -> Latent:
    """Read latents [B, C, H/8, W/8] of the input folder.

    Args:
        latent: A file in the input folder; `name [output]` takes it from the output folder.
    """
    from nodes.diffusion.latent_files import read_latent

    return LatentValue(read_latent(latent.path, latent.name).to(ctx.device))
