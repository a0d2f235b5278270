"""Samplers with CFG++: the step goes from the guided estimate of x0, along the noise predicted without the prompt.

Source: Chung et al. 2024, "CFG++: Manifold-constrained Classifier Free Guidance for Diffusion Models"
(arXiv:2406.08070), carried over to other samplers as ComfyUI does. They ask for both estimates: see `contract.py`.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from nodes.diffusion.contract import GuidedDenoise, NoiseSource, OnStep, ancestral_step, slope
from nodes.diffusion.multistep import refined_weights


def euler_cfg_pp(
    denoise: GuidedDenoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep,
    *, eta: float = 0.0, s_noise: float = 1.0, from_x: bool = False,
) -> Tensor:  # fmt: skip
    """Euler (the paper's algorithm 2); with `eta` it goes below the next sigma and is noised up again.

    With `from_x` the step goes from x, along the noise predicted without the prompt less the guidance (ComfyUI's
    alternative version).
    """
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0, uncond = denoise(x, sigma)
        down, up = ancestral_step(sigma, sigma_next, eta)
        if from_x:
            x = x + slope(x - x0 + uncond, sigma, x0) * (down - sigma)
        else:
            x = x0 + down * slope(x, sigma, uncond)
        if up > 0:
            x = x + noise(sigma, sigma_next) * s_noise * up
        on_step(i, x0)
    return x


def dpmpp_2s_ancestral_cfg_pp(
    denoise: GuidedDenoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep,
    *, eta: float = 1.0, s_noise: float = 1.0,
) -> Tensor:  # fmt: skip
    """DPM-Solver++(2S), ancestral: what it keeps of x is moved by the guidance first, as in ComfyUI 0.3.64."""
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0, uncond = denoise(x, sigma)
        down, up = ancestral_step(sigma, sigma_next, eta)
        if down == 0:
            x = x0
        else:
            middle = (sigma * down).sqrt()
            target, uncond = denoise(x0 + middle / sigma * (x - uncond), middle)
            x = target + down / sigma * (x + x0 - uncond - target)
        if sigma_next > 0:
            x = x + noise(sigma, sigma_next) * s_noise * up
        on_step(i, x0)
    return x


def dpmpp_2m_cfg_pp(denoise: GuidedDenoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """DPM-Solver++(2M)."""
    before: Tensor | None = None
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0, uncond = denoise(x, sigma)
        kept = sigma_next / sigma
        x = x0 + kept * (x - uncond)
        if before is not None and sigma_next > 0:
            r = (sigmas[i - 1] / sigma).log() / (sigma / sigma_next).log()
            x = x + (1 - kept) / (2 * r) * (x0 - before)
        before = uncond
        on_step(i, x0)
    return x


def res_multistep_cfg_pp(
    denoise: GuidedDenoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep,
    *, eta: float = 0.0, s_noise: float = 1.0,
) -> Tensor:  # fmt: skip
    """`res_multistep`, also ancestral."""
    before, down_before = None, sigmas[0]
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0, uncond = denoise(x, sigma)
        down, up = ancestral_step(sigma, sigma_next, eta)
        if before is None or down == 0:
            x = x0 + down * slope(x, sigma, uncond)
        else:
            new, old = refined_weights(sigma, down, sigmas[i - 1], down_before)
            x = down / sigma * (x + x0 - uncond) + new * uncond + old * before
        if up > 0:
            x = x + noise(sigma, sigma_next) * s_noise * up
        before, down_before = uncond, down
        on_step(i, x0)
    return x


def gradient_estimation_cfg_pp(
    denoise: GuidedDenoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep, *, gamma: float = 2.0
) -> Tensor:
    """`gradient_estimation`."""
    before: Tensor | None = None
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0, uncond = denoise(x, sigma)
        direction = slope(x, sigma, uncond)
        x = x0 + direction * sigma_next
        if before is not None and sigma_next > 0:
            x = x + (gamma - 1) * (direction - before) * (sigma_next - sigma)
        before = direction
        on_step(i, x0)
    return x
