"""Noise as a value, and added to latents."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from nodegraph.codec import decode, encode
from nodegraph.spec import NODE_ATTRIBUTE
from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.checkpoints import Part
from nodes.noise import add_noise, disable_noise, random_noise
from nodes.types import LatentValue, ModelValue, NoiseValue

CONFIG = UNetConfig(
    in_channels=4, out_channels=4, model_channels=32, channel_mult=(1,), num_res_blocks=(1,), transformer_depth=(1,),
    middle_depth=1, context_dim=8, num_heads=8, head_channels=None, use_linear=False, latent_scale=0.25,
)  # fmt: skip
MODEL = ModelValue(Part("", "", "unet", "sd1", CONFIG))
CTX: Any = SimpleNamespace(device=torch.device("cpu"))
LATENT = LatentValue(torch.full((2, 4, 3, 5), 6.0), noise_mask=torch.ones(1, 24, 40))


def unit(seed: int, batch: int = 2) -> Tensor:
    return torch.randn((batch, 4, 3, 5), generator=torch.Generator().manual_seed(seed))


def added(noise: NoiseValue, *sigmas: float, latent: LatentValue = LATENT) -> LatentValue:
    return add_noise(ctx=CTX, model=MODEL, noise=noise, sigmas=torch.tensor(sigmas), latent_image=latent)


def test_noise_is_a_seed_or_none() -> None:
    assert random_noise(noise_seed=5) == NoiseValue(5)
    assert random_noise(noise_seed=5, batch_seeds="one each") == NoiseValue(5, is_each=True)
    assert disable_noise() == NoiseValue(is_drawn=False)
    for value in (random_noise(noise_seed=2**64 - 1, batch_seeds="one each"), disable_noise()):
        assert decode(*encode(value), ["nodes"]) == value


def test_the_nodes_have_comfyuis_inputs() -> None:
    specs = [getattr(function, NODE_ATTRIBUTE) for function in (random_noise, disable_noise, add_noise)]
    assert [spec.name for spec in specs] == ["RandomNoise", "DisableNoise", "AddNoise"]
    assert [[item.name for item in spec.inputs] for spec in specs] == [
        ["noise_seed", "batch_seeds"], [], ["model", "noise", "sigmas", "latent_image"],
    ]  # fmt: skip
    assert [spec.outputs[0].port for spec in specs] == ["NOISE", "NOISE", "LATENT"]


@pytest.mark.parametrize(("sigmas", "level"), [((7.0,), 7.0), ((7.0, 3.0, 2.0), 5.0), ((2.0, 7.0), 5.0),
                                               ((14.614642, 5.0, 0.0), 14.614642)])  # fmt: skip
def test_noise_is_added_as_far_as_a_schedule_goes(sigmas: tuple[float, ...], level: float) -> None:
    found = added(NoiseValue(3), *sigmas)
    torch.testing.assert_close(found.samples, 6 + level * unit(3) / 0.25)
    assert found.noise_mask is LATENT.noise_mask


def test_without_sigmas_or_noise_the_latent_stays() -> None:
    assert added(NoiseValue(3)) is LATENT
    assert torch.equal(added(NoiseValue(3, is_drawn=False), 7.0).samples, LATENT.samples)


def test_places_and_seeds_of_items_count() -> None:
    each = added(NoiseValue(3, is_each=True), 1.0).samples
    torch.testing.assert_close(each, 6 + 4 * torch.cat([unit(3, 1), unit(4, 1)]))
    second = added(NoiseValue(3), 1.0, latent=replace(LATENT, batch_index=(1, 0))).samples
    generator = torch.Generator().manual_seed(3)
    drawn = [torch.randn((1, 4, 3, 5), generator=generator) for _ in range(2)]
    torch.testing.assert_close(second, 6 + 4 * torch.cat(drawn[::-1]))
