"""From a UNet to the contract: `denoise(x, sigma) -> x0`, and the blend that keeps what a mask protects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from nodes.diffusion.contract import Estimate, GuidedDenoise
from nodes.diffusion.schedules import t_of_sigma


class Predict(Protocol):
    """A denoiser that is still to be told the prompt."""

    def __call__(self, x: Tensor, sigma: Tensor, context: Tensor, y: Tensor | None) -> Tensor:
        """Estimates x0 [B, C, h, w] of x at a scalar sigma under `context` [B, T, D] and, for SDXL, `y` [B, A]."""
        ...


@dataclass(frozen=True, slots=True)
class UNetDenoiser:
    """A UNet that predicts noise or v at a training step, as a `Predict`.

    Attributes:
        unet: called as unet(x, timesteps [B], context=, y=); takes and returns float32, whatever it computes in.
        table: the sigmas it was trained on.
        prediction: what it returns.
    """

    unet: nn.Module
    table: Tensor
    prediction: Literal["eps", "v"] = "eps"

    def __call__(self, x: Tensor, sigma: Tensor, context: Tensor, y: Tensor | None = None) -> Tensor:
        """x0 = x - sigma * eps (k-diffusion, `DiscreteEpsDDPMDenoiser`), or from v (Salimans & Ho 2022, section 4)."""
        size = (sigma**2 + 1).sqrt()
        timesteps = torch.full((len(x),), float(t_of_sigma(sigma, self.table)), device=x.device)
        output = self.unet(x / size, timesteps, context=context, y=y)
        if self.prediction == "v":
            return x / size**2 - output * (sigma / size)
        return x - output * sigma


def masked(denoise: GuidedDenoise, mask: Tensor, latent: Tensor, noise: Tensor) -> GuidedDenoise:
    """Keeps `latent` where `mask` is 0: there each call sees it noised to sigma, and each x0 has it.

    Source: Lugmayr et al. 2022, "RePaint", eq. 8, without resampling.

    Args:
        denoise: what fills the rest.
        mask: [B, 1, h, w] in 0..1, see `fit_mask`.
        latent: [B, C, h, w], scaled as the UNet sees it.
        noise: of the same shape.
    """
    kept = 1 - mask

    def blended(x: Tensor, sigma: Tensor) -> Estimate:
        x0, uncond = denoise(x * mask + (latent + noise * sigma) * kept, sigma)
        return Estimate(x0 * mask + latent * kept, uncond)

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
