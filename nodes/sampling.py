"""Sampling: from noise and prompts to a latent."""

from __future__ import annotations

from dataclasses import replace

from nodegraph.context import Context
from nodegraph.spec import node
from nodes.types import Cfg, Conditioning, Fraction, Latent, Model, SamplerName, SchedulerName, Seed, Steps


@node("KSampler", category="sampling")
def ksampler(
    *, ctx: Context, model: Model, seed: Seed = 0, steps: Steps = 20, cfg: Cfg = 8.0,
    sampler_name: SamplerName = "euler", scheduler: SchedulerName = "normal",
    positive: Conditioning, negative: Conditioning, latent_image: Latent, denoise: Fraction = 1.0,
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
    """
    from nodes.diffusion.ksampler import Settings, sample

    part = model.unet
    return sample(
        ctx.use(part), part.config, family=part.family,
        latent=replace(latent_image, samples=latent_image.samples.to(ctx.device)), prompts=(positive, negative),
        settings=Settings(seed, steps, cfg, sampler_name, scheduler, denoise), progress=ctx,
    )  # fmt: skip
