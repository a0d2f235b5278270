"""Batches of latents: taken apart, repeated, put together, and whose noise each item takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from nodegraph.spec import node
from nodegraph.types import Choices, Each
from nodes.latent import BatchSize
from nodes.types import Latent, LatentValue

BatchIndex = Annotated[int, Field(ge=-16384, le=16384)]
UpTo64 = Annotated[int, Field(ge=1, le=64)]
SeedBehavior = Annotated[str, Choices(("random", "fixed"))]


@node("LatentFromBatch", category="latent/batch", title="Latent From Batch")
def latent_from_batch(*, samples: Latent, batch_index: BatchIndex = 0, length: UpTo64 = 1) -> Latent:
    """Take some latents out of a batch; each keeps the noise it has in the batch, so it can be made alone.

    Args:
        samples: The batch.
        batch_index: The first one taken; below 0 it is counted from the end.
        length: How many; less where the batch ends.
    """
    from nodes.diffusion.latents import items

    count = len(samples.samples)
    start = batch_index + count if batch_index < 0 else batch_index
    start = max(0, min(count - 1, start))
    return items(samples, start, min(count, start + length))


@node("RepeatLatentBatch", category="latent/batch", title="Repeat Latent Batch")
def repeat_latent_batch(*, samples: Latent, amount: UpTo64 = 1) -> Latent:
    """Repeat a whole batch of latents; each copy takes noise of its own.

    Args:
        samples: The batch.
        amount: How often.
    """
    from nodes.diffusion.denoiser import repeat_to

    count = len(samples.samples)
    mask, index = samples.noise_mask, samples.batch_index
    if mask is not None and len(mask) > 1:
        mask = repeat_to(mask, count).repeat(amount, 1, 1)
    if index is not None:
        offset = max(index) - min(index) + 1
        index = tuple(place + copy * offset for copy in range(amount) for place in index)
    return LatentValue(repeat_to(samples.samples, count * amount), mask, index)


@node("LatentBatch", category="latent/batch")
def batch_latents(*, samples1: Latent, samples2: Latent) -> Latent:
    """Put two batches of latents [B, C, h, w] one after the other; the second gets the size of the first.

    Each item keeps its place, and so its noise: the first items of both batches take the same.

    Args:
        samples1: The first.
        samples2: The second; cut to the aspect ratio of the first and resized where it differs.
    """
    from nodes.diffusion.latents import joined, places, sized_like

    second = sized_like(samples2.samples, samples1.samples)
    samples, mask = joined([samples1, samples2], [samples1.samples, second])
    return LatentValue(samples, mask, places(samples1) + places(samples2))


@node("LatentBatchSeedBehavior", category="latent/advanced")
def latent_batch_seed_behavior(*, samples: Latent, seed_behavior: SeedBehavior = "fixed") -> Latent:
    """Say whether the latents of a batch take different noise or all the same.

    Args:
        samples: The batch.
        seed_behavior: `random` gives each its own noise; `fixed` gives all that of the first.
    """
    if seed_behavior == "random":
        return replace(samples, batch_index=None)
    first = 0 if samples.batch_index is None else samples.batch_index[0]
    return replace(samples, batch_index=(first,) * len(samples.samples))


@node("RebatchLatents", category="latent/batch", title="Rebatch Latents")
def rebatch_latents(*, latents: list[Latent], batch_size: BatchSize = 1) -> Each[Latent]:
    """Put the latents of a list into batches of one size; what follows runs once a batch. Each keeps its noise.

    Args:
        latents: A batch, or a list of them; those of different sizes do not share a batch.
        batch_size: How many to a batch.
    """
    from nodes.diffusion.latents import rebatched

    return Each(rebatched(latents, batch_size))
