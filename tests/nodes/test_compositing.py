"""Nodes that put images over each other; the arithmetic is in diffusion/test_compositing.py."""

from __future__ import annotations

import pytest
import torch

from nodes.compositing import (
    PORTER_DUFF,
    blend_images,
    compose_images,
    composite_image,
    join_alpha,
    split_alpha,
)
from nodes.diffusion.compositing import OPERATORS


def test_a_source_is_pasted_where_its_mask_is_1():
    found = composite_image(
        destination=torch.zeros(2, 3, 3, 3),
        source=torch.ones(1, 2, 2, 3),
        x=1,
        y=2,
        mask=torch.tensor([[[1.0, 0.25], [1.0, 1.0]]]),
    )
    assert found.shape == (2, 3, 3, 3)
    assert found[1, ..., 0].tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0.25]]


def test_a_source_of_other_channels_is_fitted_to_the_destination():
    four, three = torch.zeros(1, 1, 1, 4), torch.full((1, 1, 1, 3), 0.5)
    assert composite_image(destination=four, source=three).flatten().tolist() == [0.5, 0.5, 0.5, 1]
    assert composite_image(destination=three, source=four).flatten().tolist() == [0, 0, 0]


def test_a_source_can_be_scaled_to_the_destination():
    found = composite_image(destination=torch.zeros(1, 4, 6, 3), source=torch.ones(1, 1, 1, 3), resize_source=True)
    assert torch.equal(found, torch.ones(1, 4, 6, 3))


def test_a_blend_is_weighed_against_the_first_image():
    first, second = torch.full((1, 2, 2, 3), 0.5), torch.full((1, 4, 4, 3), 0.2)
    found = blend_images(image1=first, image2=second, blend_factor=0.5, blend_mode="multiply")
    assert torch.allclose(found, torch.full((1, 2, 2, 3), 0.5 * 0.5 + 0.5 * 0.1))


def test_alpha_is_split_off_and_joined_again():
    image = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    colours, mask = split_alpha(image=image)
    assert torch.equal(colours, image[..., :3]) and torch.equal(mask, 1 - image[..., 3])
    assert torch.allclose(join_alpha(image=colours, alpha=mask), image)


def test_an_image_without_alpha_is_opaque():
    assert not split_alpha(image=torch.rand(1, 2, 2, 3)).MASK.any()


@pytest.mark.parametrize(("images", "masks"), [(3, 1), (1, 3)])
def test_the_shorter_of_images_and_masks_is_repeated(images, masks):
    found = join_alpha(image=torch.zeros(images, 2, 2, 3), alpha=torch.full((masks, 4, 4), 0.25))
    assert found.shape == (3, 2, 2, 4)
    assert torch.equal(found[..., 3], torch.full((3, 2, 2), 0.75))


def test_the_modes_offered_are_those_there_are():
    assert tuple(OPERATORS) == PORTER_DUFF


def test_what_is_transparent_above_shows_what_is_below():
    white, black = torch.ones(1, 2, 2, 3), torch.zeros(1, 1, 1, 3)
    image, mask = compose_images(
        source=black,
        source_alpha=torch.tensor([[[1.0, 0.0], [0.5, 1.0]]]),
        destination=white,
        destination_alpha=torch.zeros(1, 2, 2),
        mode="SRC_OVER",
    )
    assert image[0, ..., 0].tolist() == [[1, 0], [0.5, 1]]
    assert not mask.any()


def test_as_many_are_composed_as_the_shortest_batch_has():
    found = compose_images(
        source=torch.ones(3, 2, 2, 3),
        source_alpha=torch.zeros(2, 2, 2),
        destination=torch.ones(4, 2, 2, 3),
        destination_alpha=torch.zeros(4, 2, 2),
    )
    assert found.IMAGE.shape == (2, 2, 2, 3) and found.MASK.shape == (2, 2, 2)


def test_images_of_other_channels_are_not_composed():
    mask = torch.zeros(1, 2, 2)
    with pytest.raises(ValueError, match="source has 4 channels and destination 3; expected the same"):
        compose_images(
            source=torch.ones(1, 2, 2, 4),
            source_alpha=mask,
            destination=torch.ones(1, 2, 2, 3),
            destination_alpha=mask,
        )
