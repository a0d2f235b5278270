"""Latents as values."""

from __future__ import annotations

import torch

from nodes.diffusion.latents import interpolated, items, joined, moved, places, rebatched, sized_like
from nodes.types import LatentValue


def test_a_latent_is_cut_to_the_aspect_ratio_it_takes():
    latent = torch.arange(8.0).expand(1, 4, 4, 8)
    found = sized_like(latent, torch.zeros(1, 4, 4, 4))
    assert found[0, 0, 0].tolist() == [2, 3, 4, 5]
    assert sized_like(latent, torch.zeros(3, 4, 4, 8)) is latent


def test_a_mask_moves_at_the_size_of_the_latent():
    mask = torch.zeros(1, 16, 16)
    mask[:, :8] = 1
    found = moved(LatentValue(torch.zeros(2, 4, 2, 2), mask), lambda x: x[..., :1, :])
    assert found.samples.shape == (2, 4, 1, 2) and found.noise_mask.tolist() == [[[1, 1]]] * 2


def test_places_are_counted_where_none_are_named():
    latent = LatentValue(torch.zeros(3, 4, 1, 1))
    assert places(latent, 4) == (4, 5, 6)
    assert items(latent, 1, 3).batch_index == (1, 2)


def test_joined_latents_without_masks_have_none():
    samples = torch.zeros(1, 4, 2, 2)
    assert joined([LatentValue(samples)] * 2, [samples] * 2)[1] is None


def test_batches_are_filled_across_latents():
    latents = [LatentValue(torch.full((count, 4, 1, 1), float(count))) for count in (1, 3, 2)]
    found = rebatched(latents, 4)
    assert [item.samples[:, 0, 0, 0].tolist() for item in found] == [[1, 3, 3, 3], [2, 2]]
    assert [item.batch_index for item in found] == [(0, 1, 2, 3), (4, 5)]


def test_opposite_directions_meet_in_nothing():
    one = torch.ones(1, 2, 1, 1)
    assert not interpolated(one, -one, 0.5).any()
