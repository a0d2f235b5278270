"""Growing and shrinking, against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from nodes.diffusion.morphology import OPERATIONS, dilate, erode, grow

RANDOM = torch.rand(1, 1, 9, 13, generator=torch.Generator().manual_seed(0))
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])


@pytest.mark.parametrize("size", [3, 4, 5, 12, 99])
def test_a_window_takes_what_is_inside_of_the_picture(size):
    array = RANDOM[0, 0].numpy()
    largest = ndimage.maximum_filter(array, size=size, mode="constant", cval=-np.inf)
    smallest = ndimage.minimum_filter(array, size=size, mode="constant", cval=np.inf)
    assert np.array_equal(dilate(RANDOM, size)[0, 0].numpy(), largest)
    assert np.array_equal(erode(RANDOM, size)[0, 0].numpy(), smallest)


def test_opening_takes_specks_and_closing_fills_holes():
    speck, hole = torch.zeros(1, 1, 7, 7), torch.ones(1, 1, 7, 7)
    speck[..., 3, 3], hole[..., 3, 3] = 1, 0
    assert not OPERATIONS["open"](speck, 3).any() and OPERATIONS["close"](hole, 3).all()
    assert torch.equal(OPERATIONS["top_hat"](speck, 3), speck)
    assert torch.equal(OPERATIONS["bottom_hat"](hole, 3), 1 - hole)
    assert OPERATIONS["gradient"](speck, 3).sum() == 9


@pytest.mark.parametrize("steps", [0, 1, 2, 5, -1, -3])
@pytest.mark.parametrize("tapered", [True, False])
def test_a_step_takes_the_nearest_neighbours(steps, tapered):
    array = RANDOM[0, 0].numpy()
    footprint = CROSS if tapered else np.ones((3, 3))
    step = ndimage.grey_dilation if steps > 0 else ndimage.grey_erosion
    for _ in range(abs(steps)):
        array = step(array, footprint=footprint)
    assert np.array_equal(grow(RANDOM[0], steps, tapered=tapered)[0].numpy(), array)


def test_growing_without_end_fills_the_mask():
    mask = torch.zeros(1, 6, 8)
    mask[0, 0, 0] = 1
    assert grow(mask, 16384, tapered=True).all()
    assert not grow(1 - mask, -16384, tapered=True).any()
