"""Latents added, mixed and laid over each other, and operations on them."""

from __future__ import annotations

import pytest
import torch

from nodes.latent_math import (
    add_latents,
    apply_operation,
    blend_latents,
    composite_latents,
    composite_latents_masked,
    interpolate_latents,
    multiply_latent,
    sharpen_operation,
    subtract_latents,
    tonemap_operation,
)
from nodes.types import LatentValue


def flat(value, height=4, width=4, batch=1):
    return LatentValue(torch.full((batch, 4, height, width), float(value)))


def test_sums_and_differences_take_the_size_batch_and_mask_of_the_first():
    first = LatentValue(flat(5, batch=3).samples, torch.ones(1, 32, 32), (2, 3, 4))
    added = add_latents(samples1=first, samples2=flat(2, 8, 6, batch=2))
    assert torch.equal(added.samples, flat(7, batch=3).samples)
    assert added.noise_mask is first.noise_mask and added.batch_index == (2, 3, 4)
    assert torch.equal(subtract_latents(samples1=first, samples2=flat(2)).samples, flat(3, batch=3).samples)


def test_a_latent_of_another_model_is_refused():
    with pytest.raises(ValueError, match=r"\[1, 16, 4, 4\] and \[1, 4, 4, 4\]; expected the same number of channels"):
        add_latents(samples1=flat(1), samples2=LatentValue(torch.zeros(1, 16, 4, 4)))


def test_a_latent_is_multiplied_and_blended():
    assert torch.equal(multiply_latent(samples=flat(3), multiplier=-2.0).samples, flat(-6).samples)
    found = blend_latents(samples1=flat(10, batch=3), samples2=flat(20, 8, 6, batch=2), blend_factor=0.25)
    assert torch.equal(found.samples, flat(17.5, batch=3).samples)


def test_one_latent_is_blended_with_each_of_a_batch():
    one = LatentValue(flat(10).samples, batch_index=(4,))
    found = blend_latents(samples1=one, samples2=flat(20, batch=2))
    assert torch.equal(found.samples, flat(15, batch=2).samples) and found.batch_index == (4, 4)


def test_interpolation_mixes_directions_and_lengths_apart():
    one = LatentValue(torch.tensor([3.0, 0.0]).reshape(1, 2, 1, 1).repeat(2, 1, 1, 1))
    other = LatentValue(torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1).repeat(2, 1, 1, 1))
    found = interpolate_latents(samples1=one, samples2=other, ratio=0.5).samples
    wanted = torch.tensor([2.0, 2.0]).reshape(1, 2, 1, 1) / 2**0.5  # of length 2, half way between the axes
    torch.testing.assert_close(found, wanted.repeat(2, 1, 1, 1))
    torch.testing.assert_close(interpolate_latents(samples1=one, samples2=other, ratio=1.0).samples, one.samples)


def test_a_vector_of_zeros_has_no_direction():
    found = interpolate_latents(samples1=flat(0), samples2=flat(2), ratio=0.5).samples
    torch.testing.assert_close(found, flat(1).samples)


def test_a_latent_is_laid_over_another_and_cut_off_where_it_ends():
    found = composite_latents(samples_to=flat(0, 4, 6), samples_from=flat(1, 3, 3, batch=2), x=32, y=16).samples[0, 0]
    assert found.tolist() == [[0] * 6, [0] * 6, [0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 1, 1]]


def test_a_latent_beside_another_leaves_it_as_it_is():
    below = flat(0)
    assert torch.equal(composite_latents(samples_to=below, samples_from=flat(1), x=320, y=0).samples, below.samples)
    assert torch.equal(composite_latents_masked(destination=below, source=flat(1), x=0, y=320).samples, below.samples)


def test_only_edges_inside_fade_in():
    found = composite_latents(samples_to=flat(0, 1, 8), samples_from=flat(1, 1, 8), x=16, y=0, feather=32)
    assert found.samples[0, 0, 0].tolist() == [0, 0, 0.25, 0.5, 0.75, 1, 1, 1]
    found = composite_latents(samples_to=flat(0, 1, 8), samples_from=flat(1, 1, 4), x=16, y=0, feather=16)
    assert found.samples[0, 0, 0].tolist() == [0, 0, 0.5, 1, 1, 0.5, 0, 0]


def test_a_fade_wider_than_the_latent_is_cut_off():
    found = composite_latents(samples_to=flat(0, 1, 4), samples_from=flat(1, 1, 2), x=8, y=0, feather=32)
    assert found.samples[0, 0, 0].tolist() == [0, 0.125, 0.125, 0]


def test_a_mask_says_how_much_of_the_one_on_top_is_seen():
    mask = torch.tensor([[[0.0, 0.25], [1.0, 0.5]]])
    found = composite_latents_masked(destination=flat(0, 3, 3), source=flat(4, 2, 2), x=8, y=8, mask=mask).samples
    assert found[0, 0].tolist() == [[0, 0, 0], [0, 0, 1], [0, 4, 2]]
    over = composite_latents_masked(destination=flat(0, 3, 3), source=flat(4, 2, 2), x=16, y=8, mask=mask).samples
    assert over[0, 0].tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 4]]


def test_the_one_on_top_is_stretched_on_request_and_repeated_to_the_batch():
    found = composite_latents_masked(destination=flat(0, batch=3), source=flat(4, 2, 2), resize_source=True)
    assert torch.equal(found.samples, flat(4, batch=3).samples)


def test_an_operation_is_a_value_that_equals_its_like_and_changes_a_latent():
    assert tonemap_operation(multiplier=0.5) == tonemap_operation(multiplier=0.5)
    samples = torch.randn(1, 4, 24, 20, generator=torch.Generator().manual_seed(0))
    for operation in (tonemap_operation(), sharpen_operation()):
        found = apply_operation(samples=LatentValue(samples, torch.ones(1, 8, 8)), operation=operation)
        assert torch.equal(found.samples, operation(samples)) and found.noise_mask is not None
