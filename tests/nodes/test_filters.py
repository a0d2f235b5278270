"""Nodes that filter images; the filters are in diffusion/test_filters.py, test_canny.py and test_morphology.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import get_args

import pytest
import torch

from nodes.diffusion.morphology import OPERATIONS
from nodes.filters import (
    MorphologyName,
    add_noise_to_image,
    blur_image,
    canny_edges,
    invert_image,
    morph_image,
    quantize_image,
    sharpen_image,
)

CONTEXT = SimpleNamespace(generator=lambda seed: torch.Generator().manual_seed(seed))
IMAGE = torch.rand(2, 12, 10, 3, generator=torch.Generator().manual_seed(0))


def test_a_negative_of_a_negative_is_the_image():
    assert torch.equal(invert_image(image=torch.tensor([0.0, 0.25, 1.0])), torch.tensor([1.0, 0.75, 0.0]))
    assert torch.allclose(invert_image(image=invert_image(image=IMAGE)), IMAGE)


@pytest.mark.parametrize(
    "found",
    [
        blur_image(image=IMAGE),
        sharpen_image(image=IMAGE),
        quantize_image(image=IMAGE, colors=4, dither="bayer-2"),
        canny_edges(image=IMAGE),
        morph_image(image=IMAGE, operation="close"),
    ],
    ids=["blur", "sharpen", "quantize", "canny", "morphology"],
)
def test_a_filtered_batch_keeps_its_shape_and_range(found):
    assert found.shape == IMAGE.shape and found.dtype == torch.float32
    assert found.min() >= 0 and found.max() <= 1


def test_sharpening_by_nothing_changes_nothing():
    assert torch.allclose(sharpen_image(image=IMAGE, alpha=0.0), IMAGE, atol=1e-6)


def test_noise_comes_from_the_seed_alone():
    image = torch.full((1, 64, 64, 3), 0.5)
    one = add_noise_to_image(ctx=CONTEXT, image=image, seed=7, strength=0.1)
    torch.manual_seed(7)
    assert torch.allclose(one, (image + 0.1 * torch.randn(image.shape)).clamp(0, 1))
    assert not torch.equal(one, add_noise_to_image(ctx=CONTEXT, image=image, seed=8, strength=0.1))
    assert (one - image).std() == pytest.approx(0.1, abs=0.005)
    assert torch.equal(add_noise_to_image(ctx=CONTEXT, image=image, seed=7, strength=0.0), image)


def test_the_operations_offered_are_those_there_are():
    assert get_args(MorphologyName)[1].options == tuple(OPERATIONS)
