"""The one contract of sampling, in the manner of k-diffusion.

`denoise(x, sigma) -> x0`; a schedule is a tensor of sigmas ending in 0; a sampler walks x down the schedule. Guidance,
masks and parametrisations live in `denoise`; devices and progress live with the caller. Samplers are pure functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]
"""The estimate of the clean latent: (x [B, C, h, w], sigma as a scalar tensor) -> x0 [B, C, h, w]."""

NoiseSource = Callable[[Tensor, Tensor], Tensor]
"""Fresh unit noise of the shape of x for the step (sigma, sigma_next)."""

OnStep = Callable[[int, Tensor], None]
"""Told the number of a finished step, from 0, and its estimate x0."""


class Estimate(NamedTuple):
    """The clean latent as guidance estimates it, and as the negative side alone does: [B, C, h, w] each."""

    x0: Tensor
    uncond: Tensor


GuidedDenoise = Callable[[Tensor, Tensor], Estimate]
"""As `Denoise`, with both estimates: what CFG++ steps by."""


class Sampler(Protocol):
    """A way to step down a schedule. Pure, but for the noise it asks for."""

    def __call__(self, denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """Walks x [B, C, h, w] from sigmas[0] to sigmas[-1], out of place.

        `sigmas` is [steps + 1], descending, on the CPU; only the last may be 0. A deterministic sampler never calls
        `noise`. What functions take beyond this, how stochastic they are or their order, has defaults.
        """
        ...


class GuidedSampler(Protocol):
    """A `Sampler` that is given both estimates."""

    def __call__(
        self, denoise: GuidedDenoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep
    ) -> Tensor:
        """Walks x from sigmas[0] to sigmas[-1]."""
        ...


def slope(x: Tensor, sigma: Tensor, x0: Tensor) -> Tensor:
    """The flow's dx/dsigma, (x - x0) / sigma (Karras et al. 2022, eq. 1 and 3); also the predicted noise."""
    return (x - x0) / sigma


def ancestral_step(sigma: Tensor, sigma_next: Tensor, eta: float = 1.0) -> tuple[Tensor, Tensor]:
    """How far to step down and how much noise to add after, so that the two make up `sigma_next`.

    The split of DDPM's posterior (Ho et al. 2020, eq. 7): up^2 = next^2 (sigma^2 - next^2) / sigma^2; `eta` scales it.
    """
    up = (eta * (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2).sqrt()).clamp(max=sigma_next)
    return (sigma_next**2 - up**2).sqrt(), up
