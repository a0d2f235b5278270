"""KSampler's procedure: noise a latent to the start of a schedule and denoise it along that schedule."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from nodes.diffusion.architecture import Family, UNetConfig
from nodes.diffusion.contract import Estimate, GuidedDenoise
from nodes.diffusion.denoiser import UNetDenoiser, fit_mask, masked
from nodes.diffusion.guidance import check_latent, guided, prepare
from nodes.diffusion.noise import initial_noise
from nodes.diffusion.samplers import CFG_PP, noise_for, sampler_for
from nodes.diffusion.schedules import model_sigmas, sampling_sigmas, starts_from_pure_noise, zero_snr_sigmas
from nodes.types import Cond, LatentValue


class Progress(Protocol):
    """Follows a run and may end it: what either raises ends the sampling. A `nodegraph.context.Context` is one."""

    def check(self) -> None:
        """Called before each evaluation of the UNet, so that a cancelled run stops within one."""

    def step(self, i: int, n: int) -> None:
        """Called after step `i` of `n`, the first is 1."""


@dataclass(frozen=True, slots=True)
class Settings:
    """KSampler's widgets; see `nodes/sampling.py` for their ranges."""

    seed: int = 0
    steps: int = 20
    cfg: float = 8.0
    sampler_name: str = "euler"
    scheduler: str = "normal"
    denoise: float = 1.0


def trained_sigmas(config: UNetConfig) -> Tensor:
    """The table of sigmas a UNet was trained on."""
    table = model_sigmas()
    return zero_snr_sigmas(table) if config.zero_terminal_snr else table


def sample(
    unet: AbstractContextManager[nn.Module], config: UNetConfig, *, family: Family, latent: LatentValue,
    prompts: tuple[Sequence[Cond], Sequence[Cond]], settings: Settings, progress: Progress,
) -> LatentValue:  # fmt: skip
    """The denoised latent, float32 on the device of `latent`, with its mask; `denoise` 0 gives it back.

    Args:
        unet: gives the network, called as unet(x, timesteps [B], context=, y=), on the device of the latent; entered
            only once everything that can be wrong without weights has been checked.
        config: what it is.
        family: its name in messages, and which sizes it is told.
        latent: [B, C, h, w], unscaled.
        prompts: the positive and the negative conditioning.
        settings: seed, steps, cfg, sampler, scheduler, denoise.
        progress: follows the steps, and may end them.

    Raises:
        ValueError: the latent or a conditioning is of another kind of model, or a name is unknown.
    """
    table = trained_sigmas(config)
    sampler = sampler_for(settings.sampler_name, table)
    sigmas = sampling_sigmas(settings.sampler_name, settings.scheduler, settings.steps, settings.denoise, table)
    if len(sigmas) < 2:
        return latent
    check_latent(latent.samples, config, family)
    start = latent.samples.float() * config.latent_scale
    positive = prepare(prompts[0], "positive", config, family, start)
    negative = prepare(prompts[1], "negative", config, family, start)
    noise = initial_noise(start.shape, settings.seed, latent.batch_index).to(start)

    size = (1 + sigmas[0] ** 2).sqrt() if starts_from_pure_noise(sigmas, table) else sigmas[0]
    with unet as network, torch.no_grad():
        denoise = guided(
            UNetDenoiser(network, table, config.prediction), positive, negative, settings.cfg,
            wants_uncond=settings.sampler_name in CFG_PP,
        )  # fmt: skip
        if latent.noise_mask is not None:
            denoise = masked(denoise, fit_mask(latent.noise_mask, start), start, _kept_noise(noise, settings))
        last = len(sigmas) - 1
        x = sampler(
            _checked(denoise, progress), start + noise * size, sigmas,
            noise_for(settings.sampler_name, start, sigmas, settings.seed),
            lambda i, x0: progress.step(min(i + 1, last), last),
        )  # fmt: skip
    return replace(latent, samples=x / config.latent_scale)


def _checked(denoise: GuidedDenoise, progress: Progress) -> GuidedDenoise:
    def checked(x: Tensor, sigma: Tensor) -> Estimate:
        progress.check()
        return denoise(x, sigma)

    return checked


def _kept_noise(noise: Tensor, settings: Settings) -> Tensor:
    """The noise over what a mask protects: the initial noise, but for ComfyUI's `ddim`, which takes another's."""
    if settings.sampler_name != "ddim":
        return noise
    return initial_noise(noise.shape, (settings.seed + 1) % 2**64).to(noise)
