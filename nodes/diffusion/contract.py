"""The one contract of sampling, in the manner of k-diffusion.

`denoise(x, sigma) -> x0`; a schedule is a tensor of sigmas ending in 0; a sampler walks x down the schedule. Guidance,
masks and parametrisations live in `denoise`; devices and progress live with the caller. Samplers are pure functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]
"""The estimate of the clean latent: (x [B, C, h, w], sigma as a scalar tensor) -> x0 [B, C, h, w]."""

NoiseSource = Callable[[Tensor, Tensor], Tensor]
"""Fresh unit noise of the shape of x for the step (sigma, sigma_next)."""

OnStep = Callable[[int, Tensor], None]
"""Told the number of a finished step, from 0, and its estimate x0."""


class Sampler(Protocol):
    """A way to step down a schedule. Pure, but for the noise it asks for."""

    def __call__(self, denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """Walks x [B, C, h, w] from sigmas[0] to sigmas[-1], out of place.

        `sigmas` is [steps + 1], descending, on the CPU; only the last may be 0. A deterministic sampler never calls
        `noise`.
        """
        ...


def slope(x: Tensor, sigma: Tensor, x0: Tensor) -> Tensor:
    """The flow's dx/dsigma, (x - x0) / sigma (Karras et al. 2022, eq. 1 and 3); also the predicted noise."""
    return (x - x0) / sigma
