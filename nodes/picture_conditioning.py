"""Conditioning with a picture, for models that take one beside the noisy latent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import Field

from nodegraph.context import Context
from nodegraph.spec import node
from nodegraph.types import Widget
from nodes.types import Conditioning, Image, Latent, LatentValue, Mask, Vae

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

Ratio = Annotated[float, Field(ge=0.0, le=10.0), Widget(step=0.01)]
NoiseLevel = Annotated[float, Field(ge=0.0, le=1.0), Widget(step=0.001)]


class Conditioned(NamedTuple):
    """Prompts that know the picture, and the latent to sample."""

    positive: Conditioning
    negative: Conditioning
    latent: Latent


@node("InpaintModelConditioning", category="conditioning/inpaint")
def condition_inpainting(
    *, ctx: Context, positive: Conditioning, negative: Conditioning, vae: Vae, pixels: Image, mask: Mask,
    noise_mask: bool = True,
) -> Conditioned:  # fmt: skip
    """Tell a model of inpainting what is around the masked part of images [B, H, W, C]; others need no such thing.

    Args:
        positive: What the masked part should show.
        negative: What it should not.
        vae: The VAE that the model was trained with.
        pixels: Images; sides are cropped to multiples of 8.
        mask: [B or 1, H, W]; 1 is painted. It is stretched over the images.
        noise_mask: Keep the rest as it is, too; else the model paints all of it again.
    """
    from nodes.diffusion.inpaint import grey_out

    with ctx.use(vae.vae) as autoencoder:
        images, fitted = grey_out(pixels, mask, autoencoder.scale)
        around = _encoded(autoencoder.encode, images, ctx)
        whole = _encoded(autoencoder.encode, pixels, ctx)
    fitted = fitted.to(ctx.device)
    told = {"concat_latent_image": around, "concat_mask": fitted[:, None]}
    return Conditioned(
        _told(positive, told), _told(negative, told), LatentValue(whole, fitted if noise_mask else None)
    )  # fmt: skip


@node("InstructPixToPixConditioning", category="conditioning/instructpix2pix")
def condition_editing(
    *, ctx: Context, positive: Conditioning, negative: Conditioning, vae: Vae, pixels: Image
) -> Conditioned:
    """Tell InstructPix2Pix which images [B, H, W, C] to change; the prompt says how. The latent is empty.

    Args:
        positive: What to do.
        negative: What not to do.
        vae: The VAE that the model was trained with.
        pixels: Images; sides are cropped to multiples of 8.
    """
    import torch

    with ctx.use(vae.vae) as autoencoder:
        told = {"concat_latent_image": _encoded(autoencoder.encode, pixels, ctx)}
    empty = LatentValue(torch.zeros_like(told["concat_latent_image"]))
    return Conditioned(_told(positive, told), _told(negative, told), empty)


@node("SD_4XUpscale_Conditioning", category="conditioning/upscale_diffusion")
def condition_upscaling(
    *, ctx: Context, images: Image, positive: Conditioning, negative: Conditioning, scale_ratio: Ratio = 4.0,
    noise_augmentation: NoiseLevel = 0.0,
) -> Conditioned:  # fmt: skip
    """Tell the x4 upscaler of Stable Diffusion which images [B, H, W, C] to enlarge. The latent is empty.

    Args:
        images: Small pictures.
        positive: What they show.
        negative: What the large ones should not.
        scale_ratio: How many times larger the result is.
        noise_augmentation: How noisy the model is given them: more lets it invent more.
    """
    import torch

    from nodes.diffusion.resize import resize

    width, height = (max(1, round(side * scale_ratio)) // 4 for side in (images.shape[2], images.shape[1]))
    if not width or not height:
        raise ValueError(
            f"{images.shape[2]} x {images.shape[1]} pixels times {scale_ratio} is less than 4 x 4; expected a larger "
            "scale_ratio"
        )
    small = resize(images[..., :3].movedim(-1, 1) * 2 - 1, width, height, "bilinear", "center")
    told = {"concat_image": small.to(ctx.device), "noise_augmentation": noise_augmentation}
    empty = torch.zeros(len(images), 4, height, width, device=ctx.device)
    return Conditioned(_told(positive, told), _told(negative, told), LatentValue(empty))


def _told(conds: Conditioning, options: dict[str, Any]) -> Conditioning:
    return tuple(replace(cond, options={**cond.options, **options}) for cond in conds)


def _encoded(encode: Callable[[Tensor], Tensor], images: Tensor, ctx: Context) -> Tensor:
    """Encodes item by item: activations of one image are many times its size."""
    import torch

    with torch.no_grad():
        return torch.cat([encode(image[None].to(ctx.device)) for image in images])
