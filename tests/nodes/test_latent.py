"""Latent nodes."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from nodes.latent import empty_latent, upscale_latent, upscale_latent_by
from nodes.types import LatentValue

CONTEXT = SimpleNamespace(device=torch.device("cpu"))
LATENT = LatentValue(torch.randn(2, 4, 10, 6, generator=torch.Generator().manual_seed(0)), torch.ones(1, 80, 48))


def test_an_empty_latent_is_an_eighth_of_the_picture():
    found = empty_latent(ctx=CONTEXT, width=128, height=72, batch_size=3).samples
    assert found.shape == (3, 4, 9, 16) and not found.any()


def test_upscaling_keeps_what_is_beside_the_samples():
    found = upscale_latent(samples=LATENT, upscale_method="bislerp", width=96, height=160, crop="disabled")
    assert found.samples.shape == (2, 4, 20, 12)
    assert found.noise_mask is LATENT.noise_mask


def test_zero_keeps_the_aspect_ratio_and_nothing_is_smaller_than_64():
    def size(width, height):
        found = upscale_latent(samples=LATENT, upscale_method="area", width=width, height=height, crop="disabled")
        return tuple(found.samples.shape[-2:])

    assert size(0, 0) == (10, 6)
    assert size(96, 0) == (20, 12)
    assert size(0, 160) == (20, 12)
    assert size(8, 8) == (8, 8)


def test_a_factor_applies_to_both_sides():
    assert upscale_latent_by(samples=LATENT, upscale_method="nearest-exact", scale_by=1.5).samples.shape == (
        2,
        4,
        15,
        9,
    )
