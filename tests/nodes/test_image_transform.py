"""Nodes that cut, turn, extend and join images; more on canvases in diffusion/test_layout.py."""

from __future__ import annotations

import pytest
import torch

from nodes.image_transform import crop_image, flip_image, pad_image, rotate_image, stitch_images

IMAGE = torch.arange(6.0).view(1, 2, 3, 1)  # 0 1 2 above 3 4 5


def rows(image):
    return image[0, ..., 0].tolist()


@pytest.mark.parametrize(
    ("width", "height", "x", "y", "expected"),
    [(2, 1, 1, 0, [[1, 2]]), (9, 9, 1, 1, [[4, 5]]), (1, 1, 99, 99, [[5]])],
)
def test_a_rectangle_is_cut_at_the_borders(width, height, x, y, expected):
    assert rows(crop_image(image=IMAGE, width=width, height=height, x=x, y=y)) == expected


def test_mirroring_is_about_the_axis_named():
    assert rows(flip_image(image=IMAGE, flip_method="x-axis: vertically")) == [[3, 4, 5], [0, 1, 2]]
    assert rows(flip_image(image=IMAGE, flip_method="y-axis: horizontally")) == [[2, 1, 0], [5, 4, 3]]


@pytest.mark.parametrize(
    ("rotation", "expected"),
    [
        ("none", [[0, 1, 2], [3, 4, 5]]),
        ("90 degrees", [[3, 0], [4, 1], [5, 2]]),
        ("180 degrees", [[5, 4, 3], [2, 1, 0]]),
        ("270 degrees", [[2, 5], [1, 4], [0, 3]]),
    ],
)
def test_turning_is_clockwise(rotation, expected):
    assert rows(rotate_image(image=IMAGE, rotation=rotation)) == expected


def test_a_padded_image_is_grey_where_its_mask_is_1():
    image, mask = pad_image(image=torch.ones(2, 2, 2, 3), left=1, top=0, right=0, bottom=1, feathering=0)
    assert rows(image) == [[0.5, 1, 1], [0.5, 1, 1], [0.5, 0.5, 0.5]]
    assert mask.tolist() == [[[1, 0, 0], [1, 0, 0], [1, 1, 1]]]


def test_without_a_second_image_the_first_is_the_result():
    assert stitch_images(image1=IMAGE) is IMAGE
    assert stitch_images(image1=IMAGE, image2=IMAGE, direction="down").shape == (1, 4, 3, 1)
