"""Padding and stitching."""

from __future__ import annotations

import pytest
import torch

from nodes.diffusion.layout import pad_for_outpaint, pad_to_fit, stitch


def row(image):
    """The first line of the first channel."""
    return image[0, 0, :, 0].tolist()


@pytest.mark.parametrize("margins", [(3, 0, 0, 0), (0, 2, 1, 0), (1, 1, 1, 1), (0, 0, 0, 4)])
def test_a_mask_falls_with_the_square_of_the_distance(margins):
    left, top, right, bottom = margins
    picture = torch.rand(2, 9, 11, 3)
    image, mask = pad_for_outpaint(picture, left, top, right, bottom, 4)
    expected, grey = torch.ones(9 + top + bottom, 11 + left + right), torch.full_like(image, 0.5)
    for i in range(9):
        for j in range(11):
            distances = zip((j, i, 11 - j, 9 - i), margins, strict=True)
            near = min((distance for distance, margin in distances if margin), default=4)
            expected[top + i, left + j] = max(0, (4 - near) / 4) ** 2
    grey[:, top : top + 9, left : left + 11] = picture
    assert torch.equal(mask, expected[None])
    assert torch.equal(image, grey)


def test_feathering_half_of_the_picture_is_left_out():
    _, mask = pad_for_outpaint(torch.rand(1, 8, 9, 3), 2, 0, 0, 0, 4)
    assert mask.sum() == 2 * 8


def test_what_fits_is_not_padded():
    image = torch.rand(2, 3, 4, 3)
    assert torch.equal(pad_to_fit(image, 4, 3, 0.0, "bilinear"), image)
    assert pad_to_fit(torch.rand(1, 1, 100, 3), 10, 10, 0.0, "area").shape == (1, 10, 10, 3)


@pytest.mark.parametrize(("direction", "expected"), [("right", [0, 0, 1]), ("left", [1, 0, 0])])
def test_the_second_picture_goes_where_it_is_told(direction, expected):
    found = stitch(torch.zeros(1, 2, 2, 3), torch.ones(1, 2, 1, 3), direction, match_size=False, spacing=0, color="red")
    assert row(found) == expected
    downward = {"right": "down", "left": "up"}[direction]
    turned = stitch(torch.zeros(1, 2, 2, 3), torch.ones(1, 1, 2, 3), downward, match_size=False, spacing=0, color="red")
    assert turned[0, :, 0, 0].tolist() == expected


def test_the_space_between_is_even_and_has_its_colour():
    found = stitch(
        torch.zeros(1, 2, 1, 3), torch.zeros(1, 2, 1, 4), "right", match_size=False, spacing=1, color="green"
    )
    assert found[0, 0].tolist() == [[0, 0, 0, 1], [0, 1, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0]]


def test_the_second_picture_is_scaled_to_the_first():
    image, other = torch.zeros(1, 4, 6, 3), torch.ones(1, 2, 5, 3)
    assert stitch(image, other, "right", match_size=True, spacing=0, color="white").shape == (1, 4, 6 + 10, 3)
    assert stitch(image, other, "up", match_size=True, spacing=0, color="white").shape == (1, 4 + 2, 6, 3)


@pytest.mark.parametrize(("color", "value"), [("white", 1.0), ("black", 0.0), ("red", 0.0)])
def test_the_smaller_picture_is_centred(color, value):
    found = stitch(
        torch.full((1, 4, 1, 3), 0.5), torch.full((1, 1, 1, 3), 0.5), "right", match_size=False, spacing=0, color=color
    )
    assert found[0, :, 1, 0].tolist() == [value, 0.5, value, value]


def test_the_last_of_the_shorter_batch_is_repeated():
    image = torch.tensor([0.0, 0.25]).view(2, 1, 1, 1).expand(2, 1, 1, 3)
    other = torch.tensor([0.5, 0.75, 1.0]).view(3, 1, 1, 1).expand(3, 1, 1, 3)
    found = stitch(image, other, "right", match_size=False, spacing=0, color="white")
    assert found[..., 0].tolist() == [[[0.0, 0.5]], [[0.25, 0.75]], [[0.25, 1.0]]]
