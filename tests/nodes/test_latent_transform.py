"""Latents turned, mirrored, cut and put side by side."""

from __future__ import annotations

import pytest
import torch

from nodes.latent_transform import concat_latents, crop_latent, cut_latent, flip_latent, rotate_latent
from nodes.types import LatentValue

GRID = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def latent(height, width, start=0.0):
    return LatentValue((torch.arange(height * width) + start).reshape(1, 1, height, width))


def test_a_latent_turns_clockwise_and_its_mask_with_it():
    given = LatentValue(GRID[None, None], GRID[None] / 10)
    found = rotate_latent(samples=given, rotation="90 degrees")
    assert found.samples[0, 0].tolist() == [[4, 1], [5, 2], [6, 3]]
    assert torch.equal(found.noise_mask[0], found.samples[0, 0] / 10)
    assert rotate_latent(samples=given, rotation="180 degrees").samples[0, 0].tolist() == [[6, 5, 4], [3, 2, 1]]
    assert rotate_latent(samples=given, rotation="270 degrees").samples[0, 0].tolist() == [[3, 6], [2, 5], [1, 4]]
    assert rotate_latent(samples=given, rotation="none") is given


def test_a_latent_is_mirrored_up_and_down_or_left_and_right():
    given = LatentValue(GRID[None, None])
    assert flip_latent(samples=given, flip_method="x-axis: vertically").samples[0, 0].tolist() == [[4, 5, 6], [1, 2, 3]]
    found = flip_latent(samples=given, flip_method="y-axis: horizontally").samples[0, 0]
    assert found.tolist() == [[3, 2, 1], [6, 5, 4]]


def test_a_crop_is_in_pixels_and_its_corner_leaves_64_of_them():
    given = latent(12, 16)
    found = crop_latent(samples=given, width=64, height=72, x=24, y=16).samples
    assert torch.equal(found, given.samples[..., 2:11, 3:11])
    found = crop_latent(samples=given, width=512, height=512, x=9999, y=9999).samples
    assert torch.equal(found, given.samples[..., 4:, 8:])
    small = latent(4, 6)
    assert torch.equal(crop_latent(samples=small, width=64, height=64, x=80, y=80).samples, small.samples)


def test_a_mask_is_cropped_as_the_sampler_would_see_it():
    mask = torch.zeros(1, 96, 128)
    mask[:, :, 24:] = 1
    found = crop_latent(samples=LatentValue(latent(12, 16).samples, mask), width=64, height=64, x=16, y=0)
    assert found.noise_mask.shape == (1, 8, 8)
    assert found.noise_mask[0, 0].tolist() == [0, 1, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("index", "amount", "columns"), [(1, 2, [1, 2]), (9, 5, [3]), (2, 9, [2, 3]), (-2, 9, [2, 3]), (-9, 2, [0, 1])]
)
def test_a_slice_ends_where_the_latent_ends(index, amount, columns):
    given = latent(2, 4)
    found = cut_latent(samples=given, dim="x", index=index, amount=amount).samples
    assert torch.equal(found, given.samples[..., columns])


def test_a_slice_across_y_and_across_channels():
    samples = torch.arange(24.0).reshape(1, 3, 4, 2)
    mask = torch.ones(1, 4, 2)
    assert torch.equal(cut_latent(samples=LatentValue(samples), dim="y", index=1, amount=2).samples, samples[:, :, 1:3])
    found = cut_latent(samples=LatentValue(samples, mask), dim="t", index=-1)
    assert torch.equal(found.samples, samples[:, 2:]) and found.noise_mask is mask


def test_latents_go_side_by_side_in_either_order():
    one, other = latent(2, 2), latent(2, 3, start=10.0)
    assert torch.equal(
        concat_latents(samples1=one, samples2=other, dim="x").samples, torch.cat([one.samples, other.samples], -1)
    )
    assert torch.equal(
        concat_latents(samples1=one, samples2=other, dim="-x").samples, torch.cat([other.samples, one.samples], -1)
    )
    below = latent(1, 2, start=50.0)
    found = concat_latents(samples1=one, samples2=below, dim="y").samples
    assert found[0, 0].tolist() == [[0, 1], [2, 3], [50, 51]]
    channels = concat_latents(samples1=one, samples2=one, dim="t").samples
    assert channels.shape == (1, 2, 2, 2)


def test_latents_side_by_side_share_a_mask():
    masked = LatentValue(latent(2, 2).samples, torch.zeros(1, 2, 2))
    found = concat_latents(samples1=masked, samples2=latent(2, 1), dim="-x")
    assert found.noise_mask.tolist() == [[[1, 0, 0], [1, 0, 0]]]


def test_the_second_latent_is_repeated_to_the_batch_of_the_first():
    pair = LatentValue(torch.cat([latent(2, 2).samples, latent(2, 2, start=9.0).samples]))
    assert concat_latents(samples1=pair, samples2=latent(2, 1), dim="x").samples.shape == (2, 1, 2, 3)


def test_latents_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"\[1, 1, 2, 2\] and \[1, 1, 3, 2\] do not fit side by side"):
        concat_latents(samples1=latent(2, 2), samples2=latent(3, 2), dim="x")
