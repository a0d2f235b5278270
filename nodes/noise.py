"""Noise as a value: what a latent starts from."""

from __future__ import annotations

from dataclasses import replace

from nodegraph.context import Context
from nodegraph.spec import node
from nodes.sampling import BatchSeeds
from nodes.types import Latent, Model, Noise, NoiseValue, Seed, Sigmas


@node("RandomNoise", category="sampling/custom_sampling/noise")
def random_noise(*, noise_seed: Seed = 0, batch_seeds: BatchSeeds = "one for all") -> Noise:
    """Noise drawn from a seed, the same on every device.

    Args:
        noise_seed: Decides the noise.
        batch_seeds: `one for all` draws the noise of a batch at once, as ComfyUI does; with `one each` picture k of
            a batch is the picture of seed + k made alone.
    """
    return NoiseValue(noise_seed, is_each=batch_seeds == "one each")


@node("DisableNoise", category="sampling/custom_sampling/noise")
def disable_noise() -> Noise:
    """No noise: for a latent that still has that of an earlier sampler."""
    return NoiseValue(is_drawn=False)


@node("AddNoise", category="_for_testing/custom_sampling/noise")
def add_noise(*, ctx: Context, model: Model, noise: Noise, sigmas: Sigmas, latent_image: Latent) -> Latent:
    """Noise latents [B, C, H/8, W/8] as far as a schedule takes noise away; one sigma is the level itself.

    Args:
        model: The model that will denoise.
        noise: What to add.
        sigmas: From the level wanted down to the one the latent has; without any the latent stays as it is.
        latent_image: What to noise.
    """
    from nodes.diffusion.noise import latent_noise

    if len(sigmas) == 0:
        return latent_image
    level = (sigmas[0] - sigmas[-1]).abs() if len(sigmas) > 1 else sigmas[0]
    samples = latent_image.samples.to(ctx.device)
    added = latent_noise(latent_image, noise).to(samples) * level.to(samples)
    return replace(latent_image, samples=samples + added / model.unet.config.latent_scale)
