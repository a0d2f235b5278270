"""Sampling: from noise and prompts to a latent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field

from nodegraph.context import Context
from nodegraph.spec import node
from nodegraph.types import Choices
from nodes.types import (
    Cfg,
    Conditioning,
    Fraction,
    Guider,
    GuiderValue,
    Latent,
    LatentValue,
    Model,
    ModelValue,
    Noise,
    NoiseValue,
    Sampler,
    SamplerName,
    SamplerValue,
    SchedulerName,
    Seed,
    Sigmas,
    Steps,
)

if TYPE_CHECKING:
    from torch import Tensor

    from nodes.diffusion.sampling import Sampled

Toggle = Annotated[str, Choices(("enable", "disable"))]
Untoggled = Annotated[str, Choices(("disable", "enable"))]
Step = Annotated[int, Field(ge=0, le=10000)]
BatchSeeds = Annotated[str, Choices(("one for all", "one each"))]


class SampledLatents(NamedTuple):
    """What a sampler made, and its last estimate of the clean latent."""

    output: Latent
    denoised_output: Latent


@node("KSampler", category="sampling")
def ksampler(
    *, ctx: Context, model: Model, seed: Seed = 0, steps: Steps = 20, cfg: Cfg = 8.0,
    sampler_name: SamplerName = "euler", scheduler: SchedulerName = "normal",
    positive: Conditioning, negative: Conditioning, latent_image: Latent, denoise: Fraction = 1.0,
    batch_seeds: BatchSeeds = "one for all",
) -> Latent:  # fmt: skip
    """Denoise a latent with classifier-free guidance (Ho & Salimans 2022); keeps its shape [B, C, H/8, W/8].

    Args:
        model: The UNet that denoises.
        seed: Decides the noise; the same on every device.
        steps: More steps follow the path from noise to picture more closely and take longer.
        cfg: How strongly the prompt is followed; 1 leaves the negative prompt out.
        sampler_name: How a step is taken.
        scheduler: How the steps are spread over the noise levels.
        positive: What the picture should show.
        negative: What it should not.
        latent_image: Where to start; an empty latent for a new picture.
        denoise: 1 starts from pure noise; less keeps more of the latent; 0 returns it.
        batch_seeds: `one for all` draws the noise of a batch at once, as ComfyUI does; with `one each` picture k of
            a batch is the picture of seed + k made alone.
    """
    from nodes.diffusion.sampling import parametrisation_of
    from nodes.diffusion.schedules import sampling_sigmas

    table = parametrisation_of(model).table
    sigmas = sampling_sigmas(sampler_name, scheduler, steps, denoise, table)
    noise = NoiseValue(seed, is_each=batch_seeds == "one each")
    guider = cfg_guider(model, positive, negative, cfg)
    return sampled(ctx, guider, noise, SamplerValue(sampler_name), sigmas, latent_image).latent


@node("KSamplerAdvanced", category="sampling", title="KSampler (Advanced)")
def ksampler_advanced(
    *, ctx: Context, model: Model, add_noise: Toggle = "enable", noise_seed: Seed = 0, steps: Steps = 20,
    cfg: Cfg = 8.0, sampler_name: SamplerName = "euler", scheduler: SchedulerName = "normal",
    positive: Conditioning, negative: Conditioning, latent_image: Latent, start_at_step: Step = 0,
    end_at_step: Step = 10000, return_with_leftover_noise: Untoggled = "disable",
    batch_seeds: BatchSeeds = "one for all",
) -> Latent:  # fmt: skip
    """Walk a part of a schedule, so that two models or prompts can share one picture.

    Args:
        model: The UNet that denoises.
        add_noise: `disable` where the latent still has the noise of an earlier sampler.
        noise_seed: Decides the noise; the same on every device.
        steps: Of the whole schedule.
        cfg: How strongly the prompt is followed; 1 leaves the negative prompt out.
        sampler_name: How a step is taken.
        scheduler: How the steps are spread over the noise levels.
        positive: What the picture should show.
        negative: What it should not.
        latent_image: Where to start.
        start_at_step: The first step taken; one at or past the end returns the latent.
        end_at_step: The step that is no longer taken.
        return_with_leftover_noise: `enable` stops at the noise level reached, for another sampler to go on from;
            `disable` goes to none in the last step taken.
        batch_seeds: See KSampler.
    """
    from nodes.diffusion.sampling import parametrisation_of
    from nodes.diffusion.schedules import part_of, sampling_sigmas

    sigmas = sampling_sigmas(sampler_name, scheduler, steps, 1.0, parametrisation_of(model).table)
    sigmas = part_of(sigmas, start_at_step, end_at_step, to_zero=return_with_leftover_noise == "disable")
    noise = NoiseValue(noise_seed, add_noise == "enable", batch_seeds == "one each")
    guider = cfg_guider(model, positive, negative, cfg)
    return sampled(ctx, guider, noise, SamplerValue(sampler_name), sigmas, latent_image).latent


@node("SamplerCustom", category="sampling/custom_sampling")
def sampler_custom(
    *, ctx: Context, model: Model, add_noise: bool = True, noise_seed: Seed = 0, cfg: Cfg = 8.0,
    positive: Conditioning, negative: Conditioning, sampler: Sampler, sigmas: Sigmas, latent_image: Latent,
) -> SampledLatents:  # fmt: skip
    """Denoise a latent by a sampler and a schedule of your own, with classifier-free guidance.

    Args:
        model: The UNet that denoises.
        add_noise: Off where the latent still has the noise of an earlier sampler.
        noise_seed: Decides the noise; the same on every device.
        cfg: How strongly the prompt is followed; 1 leaves the negative prompt out.
        positive: What the picture should show.
        negative: What it should not.
        sampler: How a step is taken.
        sigmas: The noise levels, highest first.
        latent_image: Where to start.
    """
    guider = cfg_guider(model, positive, negative, cfg)
    found = sampled(ctx, guider, NoiseValue(noise_seed, add_noise), sampler, sigmas, latent_image)
    return SampledLatents(found.latent, found.denoised)


@node("SamplerCustomAdvanced", category="sampling/custom_sampling")
def sampler_custom_advanced(
    *, ctx: Context, noise: Noise, guider: Guider, sampler: Sampler, sigmas: Sigmas, latent_image: Latent
) -> SampledLatents:
    """Denoise a latent by noise, guidance, a sampler and a schedule of your own.

    Args:
        noise: What to start from.
        guider: The model and the prompts that steer it.
        sampler: How a step is taken.
        sigmas: The noise levels, highest first.
        latent_image: Where to start.
    """
    found = sampled(ctx, guider, noise, sampler, sigmas, latent_image)
    return SampledLatents(found.latent, found.denoised)


def cfg_guider(model: ModelValue, positive: Conditioning, negative: Conditioning, cfg: float) -> GuiderValue:
    """Classifier-free guidance between two prompts."""
    return GuiderValue(model, "cfg", {"positive": positive, "negative": negative}, (cfg,))


def sampled(
    ctx: Context, guider: GuiderValue, noise: NoiseValue, sampler: SamplerValue, sigmas: Tensor, latent: LatentValue
) -> Sampled:
    """Samples on the context's device, with its progress and previews."""
    from nodes.diffusion.previews import Previews
    from nodes.diffusion.sampling import sample

    latent = replace(latent, samples=latent.samples.to(ctx.device))
    return sample(
        ctx.use, guider, latent, noise=noise, sampler=sampler, sigmas=sigmas,
        progress=Previews(ctx, guider.model.unet),
    )  # fmt: skip
