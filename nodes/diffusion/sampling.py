"""Sampling: noise a latent to the start of a schedule and walk it down that schedule."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.conds import Model, check_latent, prepare, with_opposites
from nodes.diffusion.contract import Estimate, GuidedDenoise
from nodes.diffusion.controls import Controls, steered
from nodes.diffusion.denoiser import UNetDenoiser, fit_mask, masked
from nodes.diffusion.guidance import Guidance
from nodes.diffusion.noise import latent_noise, seeds_of
from nodes.diffusion.parametrisation import Parametrisation, trained
from nodes.diffusion.patches import Start, parametrised, started
from nodes.diffusion.samplers import CFG_PP, noise_for, sampler_for
from nodes.diffusion.schedules import starts_from_pure_noise
from nodes.types import GuiderValue, LatentValue, ModelValue, NoiseValue, SamplerValue

Use = Callable[[Any], AbstractContextManager[Any]]
"""Lends the module of some weights, as `Context.use` does."""


class Progress(Protocol):
    """Follows a run and may end it: what either raises ends the sampling."""

    def check(self) -> None:
        """Called before each evaluation of the UNet, so that a cancelled run stops within one."""

    def step(self, i: int, n: int, x0: Tensor) -> None:
        """Called after step `i` of `n`, the first is 1, with the estimate [B, C, h, w], scaled as the UNet sees it."""


class Sampled(NamedTuple):
    """Latents after the last step, and the last estimate of x0; both unscaled, with the mask of the input."""

    latent: LatentValue
    denoised: LatentValue


def parametrisation_of(model: ModelValue) -> Parametrisation:
    """How a model is read, with its patches."""
    return parametrised(model.patches, trained(model.unet.config))


def sample(
    use: Use, guider: GuiderValue, latent: LatentValue, *, noise: NoiseValue,
    sampler: SamplerValue, sigmas: Tensor, progress: Progress,
) -> Sampled:  # fmt: skip
    """Samples a latent, float32 on its device. A schedule without a step gives it back.

    Args:
        use: lends networks on the device of the latent; asked only once everything that can be wrong without weights
            has been checked.
        guider: the model and the prompts that steer it.
        latent: [B, C, h, w], unscaled.
        noise: what it starts from.
        sampler: how a step is taken.
        sigmas: the schedule; of equal sigmas in a row one is kept, since multistep methods divide by the difference.
        progress: follows the steps, and may end them.

    Raises:
        ValueError: the latent or a conditioning is of another kind of model, or a name is unknown.
    """
    part = guider.model.unet
    config: UNetConfig = part.config
    parametrisation = parametrisation_of(guider.model)
    sigmas = torch.unique_consecutive(sigmas.float().cpu())
    walk = sampler_for(sampler.name, parametrisation, sampler.options)
    if len(sigmas) < 2:
        return Sampled(latent, latent)
    check_latent(latent.samples, config, part.family)
    start = latent.samples.float() * config.latent_scale
    model = Model(config, part.family, parametrisation, latent.noise_mask, noise.seed)
    prompts = steered(guider.prompts, part)
    sides = with_opposites({side: prepare(conds, side, model, start) for side, conds in prompts.items()})
    drawn = latent_noise(latent, noise).to(start)
    hooks = started(guider.model.patches, Start(
        config, parametrisation, sigmas,
        lambda conds: prepare(conds, "negative", model, start),
        lambda: _generator_after(start, noise.seed),
    ))  # fmt: skip

    size = (1 + sigmas[0] ** 2).sqrt() if starts_from_pure_noise(sigmas, parametrisation.table) else sigmas[0]
    seeds = seeds_of(latent, noise)
    last, estimate = len(sigmas) - 1, start

    def on_step(i: int, x0: Tensor) -> None:
        nonlocal estimate
        estimate = x0
        progress.step(min(i + 1, last), last, x0)

    with ExitStack() as stack, torch.no_grad():
        network = stack.enter_context(use(part))
        controls = Controls(lambda net: stack.enter_context(use(net)), part, parametrisation)
        predict = UNetDenoiser(network, parametrisation)
        guidance = Guidance(predict, sides, hooks, sampler.name in CFG_PP, controls)
        denoise = _checked(_guided(guidance, guider), progress)
        if latent.noise_mask is not None:
            mask = fit_mask(latent.noise_mask, start)
            kept = _kept_noise(sampler.name, drawn, latent, noise)
            denoise = masked(denoise, mask, start, kept, hooks.mask)
        x = walk(denoise, start + drawn * size, sigmas, noise_for(sampler.name, start, sigmas, seeds), on_step)
    return Sampled(*(replace(latent, samples=found / config.latent_scale) for found in (x, estimate)))


def _guided(guidance: Guidance, guider: GuiderValue) -> GuidedDenoise:
    """What a guider makes of its prompts."""
    if guider.kind == "basic":
        return guidance.one_side
    if guider.kind == "cfg":
        return partial(guidance.cfg, scale=guider.scales[0])
    first, second = guider.scales
    if guider.kind == "perp_neg":
        return partial(guidance.perp_neg, scale=first, neg_scale=second)
    return partial(guidance.dual, scale=first, middle_scale=second, nested=guider.kind == "dual_nested")


def _checked(denoise: GuidedDenoise, progress: Progress) -> GuidedDenoise:
    def checked(x: Tensor, sigma: Tensor) -> Estimate:
        progress.check()
        return denoise(x, sigma)

    return checked


def _kept_noise(sampler: str, drawn: Tensor, latent: LatentValue, noise: NoiseValue) -> Tensor:
    """The noise over what a mask protects: the initial noise, but for ComfyUI's `ddim`, which takes another's."""
    if sampler != "ddim":
        return drawn
    other = replace(noise, seed=(noise.seed + 1) % 2**64, is_drawn=True)
    return latent_noise(replace(latent, batch_index=None) if not noise.is_each else latent, other).to(drawn)


def _generator_after(latent: Tensor, seed: int) -> torch.Generator:
    """A generator as it stands after the noise of a latent was drawn: where ComfyUI's own stands then."""
    generator = torch.Generator().manual_seed(seed)
    torch.randn(latent.shape, generator=generator)
    return generator
