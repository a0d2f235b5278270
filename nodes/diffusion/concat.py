"""Further channels of a UNet's input: what it is told of a picture, beside the noisy latent.

How many there are tells what they are: the mask and the latent of what is around it for inpainting (Rombach et al.
2022, section 4.5; `StableDiffusionInpaintPipeline` of diffusers), the latent of the picture to change for
InstructPix2Pix (Brooks et al. 2023), a small picture to enlarge for the x4 upscaler (`LatentUpscaleDiffusion` of
https://github.com/Stability-AI/stablediffusion, MIT).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nodes.diffusion.denoiser import fit_mask
from nodes.diffusion.resize import resize
from nodes.diffusion.schedules import model_sigmas
from nodes.types import Cond

if TYPE_CHECKING:
    from nodes.diffusion.conds import Model

_BLANK = (0.8223, -0.6876, 0.6364, 0.1380)  # the scaled latent of a grey picture, as ComfyUI has it
_NOISIEST = 350  # training steps of noise on the small picture at a noise_augmentation of 1
_SEED_SHIFT = 10  # as in ComfyUI, so that it is other noise than the latent's


def further_channels(cond: Cond, model: Model, latent: Tensor) -> Tensor | None:
    """What a conditioning says to a UNet that takes more than noisy latents: [B, C', h, w]; None for all others.

    What it does not say is made up as ComfyUI makes it up, so that every model can be sampled with a plain prompt.

    Args:
        cond: one conditioning.
        model: of the run.
        latent: [B, C, h, w], scaled as the UNet sees it.

    Raises:
        ValueError: the conditioning was made with the VAE of another kind of model.
    """
    extra = model.config.further_channels
    if not extra:
        return None
    if extra > latent.shape[1]:
        return _around_a_mask(cond, model, latent)
    if extra == latent.shape[1]:
        return _to_change(cond, latent)
    return _to_enlarge(cond, model, latent)


def noise_level(cond: Cond) -> int:
    """The training step to whose noise the small picture of a conditioning is made noisy."""
    return round(_NOISIEST * cond.options.get("noise_augmentation", 0.0))


def _around_a_mask(cond: Cond, model: Model, latent: Tensor) -> Tensor:
    """The mask, 1 where is painted, and the latent of the rest; without either all is to be painted."""
    given, mask = cond.options.get("concat_latent_image"), cond.options.get("concat_mask")
    if mask is not None:
        mask = _fitted(mask.reshape(-1, 1, *mask.shape[-2:]), latent)
    elif model.noise_mask is not None:
        mask = fit_mask(model.noise_mask, latent)
    if mask is None:
        blank = latent.new_tensor(_BLANK).reshape(1, -1, 1, 1).expand_as(latent)
        return torch.cat([torch.ones_like(latent[:, :1]), blank], dim=1)
    image = latent if given is None else _fitted(_checked(given, latent) * model.config.latent_scale, latent)
    return torch.cat([_spread(mask.round(), len(latent)), _spread(image, len(latent))], dim=1)


def _to_change(cond: Cond, latent: Tensor) -> Tensor:
    """The latent of the picture, which is not scaled: so InstructPix2Pix was trained."""
    given = cond.options.get("concat_latent_image")
    return torch.zeros_like(latent) if given is None else _spread(_fitted(_checked(given, latent), latent), len(latent))


def _to_enlarge(cond: Cond, model: Model, latent: Tensor) -> Tensor:
    """The small picture, -1..1, made noisy to the level that the model is told of."""
    given = cond.options.get("concat_image")
    if given is None:
        return torch.zeros_like(latent[:, : model.config.further_channels])
    picture, level = _fitted(given, latent), noise_level(cond)
    if cond.options.get("noise_augmentation", 0.0) > 0:
        generator = torch.Generator().manual_seed(model.seed - _SEED_SHIFT)
        noise = torch.randn(picture.shape, generator=generator).to(picture)
        kept = float(1 / (model_sigmas(*model.config.betas)[level] ** 2 + 1))
        picture = kept**0.5 * picture + (1 - kept) ** 0.5 * noise
    return _spread(picture, len(latent))


def _checked(given: Any, latent: Tensor) -> Tensor:
    if given.shape[1] != latent.shape[1]:
        raise ValueError(
            f"the picture of the conditioning was encoded into {given.shape[1]} channels and the latent has "
            f"{latent.shape[1]}; use the VAE of the model's own checkpoint for both"
        )
    return given


def _fitted(x: Tensor, latent: Tensor) -> Tensor:
    """[M, C, H, W] at the size of a latent; its middle, where the aspect is another."""
    x = x.to(latent)
    height, width = latent.shape[-2:]
    return x if x.shape[-2:] == (height, width) else resize(x, width, height, "bilinear", "center")


def _spread(x: Tensor, count: int) -> Tensor:
    """A batch of `count` items, each that of its place: of two for four the first two have the first.

    Source: ComfyUI's `resize_to_batch_size`.
    """
    if len(x) == count or count == 1:
        return x[:count]
    if count < len(x):
        return x[[round(i * (len(x) - 1) / (count - 1)) for i in range(count)]]
    return x[[int((i + 0.5) * len(x) / count) for i in range(count)]]
