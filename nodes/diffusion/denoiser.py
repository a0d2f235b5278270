"""From a UNet to the contract: `denoise(x, sigma) -> x0`, and the blend that keeps what a mask protects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from nodes.diffusion.contract import Estimate, GuidedDenoise
from nodes.diffusion.parametrisation import Parametrisation
from nodes.diffusion.tweaks import NO_TWEAKS, Tweaks

if TYPE_CHECKING:
    from nodes.diffusion.unet import Control


class Told(NamedTuple):
    """What a UNet is told of a batch besides the noisy latents.

    Attributes:
        context: [B, T, D], the prompts.
        y: [B, A], the vector of SDXL.
        concat: [B, C', h, w], further channels of the input, such as what is to be inpainted.
        control: what ControlNets add.
    """

    context: Tensor
    y: Tensor | None = None
    concat: Tensor | None = None
    control: Control | None = None


class Predict(Protocol):
    """A denoiser that is still to be told the prompt."""

    def __call__(self, x: Tensor, sigma: Tensor, told: Told, tweaks: Tweaks) -> Tensor:
        """Estimates x0 [B, C, h, w] of x at a scalar sigma."""
        ...


@dataclass(frozen=True, slots=True)
class UNetDenoiser:
    """A UNet as a `Predict`.

    Attributes:
        unet: called as unet(x, timesteps [B], context, y, control, tweaks); takes and returns float32, whatever it
            computes in.
        parametrisation: what it is told and how its output is read.
    """

    unet: nn.Module
    parametrisation: Parametrisation

    def __call__(self, x: Tensor, sigma: Tensor, told: Told, tweaks: Tweaks = NO_TWEAKS) -> Tensor:
        """x0 (k-diffusion, `DiscreteEpsDDPMDenoiser`, and its kin for other parametrisations)."""
        seen = self.parametrisation.scaled(x, sigma)
        if told.concat is not None:
            seen = torch.cat([seen, told.concat.to(seen)], dim=1)
        timesteps = torch.full((len(x),), float(self.parametrisation.timestep(sigma)), device=x.device)
        output = self.unet(seen, timesteps, told.context, told.y, told.control, tweaks)
        return self.parametrisation.estimate(x, sigma, output)


def masked(
    denoise: GuidedDenoise, mask: Tensor, latent: Tensor, noise: Tensor,
    mask_at: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> GuidedDenoise:  # fmt: skip
    """Keeps `latent` where `mask` is 0: there each call sees it noised to sigma, and each x0 has it.

    Source: Lugmayr et al. 2022, "RePaint", eq. 8, without resampling.

    Args:
        denoise: what fills the rest.
        mask: [B, 1, h, w] in 0..1, see `fit_mask`.
        latent: [B, C, h, w], scaled as the UNet sees it.
        noise: of the same shape.
        mask_at: the mask at a sigma, where it changes on the way.
    """

    def blended(x: Tensor, sigma: Tensor) -> Estimate:
        now = mask if mask_at is None else mask_at(mask, sigma)
        x0, uncond = denoise(x * now + (latent + noise * sigma) * (1 - now), sigma)
        return Estimate(x0 * now + latent * (1 - now), uncond)

    return blended


def fit_mask(mask: Tensor, latent: Tensor) -> Tensor:
    """A mask [M, H, W] (or [H, W]) at the size of a latent: [B, 1, h, w], bilinear, repeated to its batch."""
    mask = mask.to(latent).reshape(-1, 1, *mask.shape[-2:])
    mask = interpolate(mask, size=latent.shape[-2:], mode="bilinear")
    return repeat_to(mask, len(latent))


def repeat_to(batch: Tensor, size: int) -> Tensor:
    """The items of a batch over and over until there are `size`; what is too much is left out."""
    if len(batch) == size:
        return batch
    repeats = -(-size // len(batch))
    return batch.repeat(repeats, *[1] * (batch.ndim - 1))[:size]
