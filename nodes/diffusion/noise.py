"""Noise from a seed. Always drawn on the CPU in float32, so that a seed means the same on every device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nodes.diffusion.contract import NoiseSource
from nodes.types import LatentValue, NoiseValue

_TREE_DIGITS = 6  # torchsde cuts its path at such places; it warns of a query beyond its rounded ends


def initial_noise(shape: Sequence[int], seed: int, batch_index: Sequence[int] | None = None) -> Tensor:
    """Unit noise for a latent: `shape` float32 on the CPU.

    The whole batch comes from one draw. With `batch_index` item i takes the noise of place batch_index[i] in the
    batch it was cut from, drawn one place after the other, so a single image of a batch can be made alone (ComfyUI's
    `batch_index`).

    Raises:
        ValueError: `batch_index` does not name one place for each item.
    """
    generator = torch.Generator().manual_seed(seed)
    if batch_index is None:
        return torch.randn(tuple(shape), generator=generator)
    if len(batch_index) != shape[0] or min(batch_index, default=0) < 0:
        raise ValueError(f"batch_index is {tuple(batch_index)}; expected {shape[0]} places from 0, one for each latent")
    wanted = set(batch_index)
    drawn: dict[int, Tensor] = {}
    for place in range(max(batch_index) + 1):
        item = torch.randn((1, *shape[1:]), generator=generator)
        if place in wanted:
            drawn[place] = item
    return torch.cat([drawn[place] for place in batch_index])


def latent_noise(latent: LatentValue, noise: NoiseValue) -> Tensor:
    """The unit noise a latent starts from: of its shape, float32 on the CPU."""
    shape = latent.samples.shape
    if not noise.is_drawn:
        return torch.zeros(shape)
    if not noise.is_each:
        return initial_noise(shape, noise.seed, latent.batch_index)
    return torch.cat([initial_noise((1, *shape[1:]), seed) for seed in seeds_of(latent, noise)])


def seeds_of(latent: LatentValue, noise: NoiseValue) -> tuple[int, ...]:
    """The seed of all the batch, or the seed of each item."""
    if not noise.is_each:
        return (noise.seed,)
    places = range(len(latent.samples)) if latent.batch_index is None else latent.batch_index
    return tuple((noise.seed + place) % 2**64 for place in places)


def step_noise(x: Tensor, seed: int) -> NoiseSource:
    """A source of fresh unit noise like `x`, in the order it is asked for.

    It starts from the seed again, as ComfyUI 0.3.64 does, so the first draw repeats the initial noise (later versions
    take the seed after it). Kept, so that a seed gives the same picture.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=generator).to(x)

    return noise


def brownian_noise(x: Tensor, sigmas: Tensor, seed: int, device: torch.device | str = "cpu") -> NoiseSource:
    """Unit noise as increments of one Brownian path over sigma: steps cut otherwise follow the same path.

    Source: k-diffusion, `BrownianTreeNoiseSampler`, over torchsde's tree (Li et al. 2020), drawn on `device`.
    """
    from torchsde import BrownianTree

    tree = BrownianTree(sigmas[sigmas > 0].min(), torch.zeros_like(x, device=device), sigmas.max(), entropy=seed)

    def noise(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        lower, upper = (round(float(end), _TREE_DIGITS) for end in (sigma_next, sigma))
        step: Any = tree(lower, upper)  # a tensor: torchsde also returns tuples, when asked for more
        return -step.to(x) / (sigma - sigma_next).sqrt()

    return noise
