"""Blurring, sharpening and reducing colours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from nodes.diffusion.filters import bayer, blur, gaussian, quantize, sharpen

IMAGE = torch.rand(1, 11, 14, 3, generator=torch.Generator().manual_seed(0))


def test_a_kernel_is_as_wide_as_its_radius_says():
    kernel = gaussian(1, 1.0)
    edge, corner = np.exp(-0.5), np.exp(-1)
    assert torch.allclose(
        kernel,
        torch.tensor([[corner, edge, corner], [edge, 1, edge], [corner, edge, corner]]).float()
        / kernel.new_tensor(1 + 4 * edge + 4 * corner),
    )
    assert gaussian(31, 10.0).sum().item() == pytest.approx(1)


def test_a_blur_mirrors_the_edges():
    expected = np.stack(
        [ndimage.correlate(IMAGE[0, ..., c].numpy(), gaussian(2, 0.7).numpy(), mode="mirror") for c in range(3)], -1
    )
    assert np.allclose(blur(IMAGE, 2, 0.7)[0].numpy(), expected, atol=1e-6)


def test_sharpening_adds_what_blurring_takes():
    expected = IMAGE + 10 * 0.05 * (IMAGE - blur(IMAGE, 2, 0.7))
    assert torch.allclose(sharpen(IMAGE, 2, 0.7, 0.05), expected.clamp(0, 1), atol=1e-6)


def test_a_radius_beyond_the_image_is_refused():
    with pytest.raises(ValueError, match="radius is 11, the image 14 x 11 pixels; expected less"):
        blur(IMAGE, 11, 1.0)


def test_the_dither_matrix_holds_each_step_once():
    assert bayer(2).tolist() == [[-0.375, 0.125], [0.375, -0.125]]
    for size in (2, 4, 8, 16):
        steps = np.sort(bayer(size).ravel()) * size * size
        assert np.allclose(steps, np.arange(size * size) - (size * size - 1) / 2)


@pytest.mark.parametrize("dither", ["none", "floyd-steinberg", "bayer-2", "bayer-4", "bayer-8", "bayer-16"])
def test_no_more_colours_are_left_than_asked_for(dither):
    found = quantize(torch.cat([IMAGE, IMAGE.flip(1)]), 5, dither)
    assert found.shape == (2, 11, 14, 3)
    assert all(1 < len(item.reshape(-1, 3).unique(dim=0)) <= 5 for item in found)


def test_few_colours_stay_as_they_are():
    image = torch.tensor([[0.0, 0.2, 1.0], [1.0, 0.4, 0.6]]).view(1, 1, 2, 3).expand(1, 8, 2, 3)
    assert torch.allclose(quantize(image, 8, "none"), image)


def test_alpha_is_kept_and_grey_gets_colours():
    alpha = torch.rand(1, 11, 14, 1)
    found = quantize(torch.cat([IMAGE, alpha], -1), 3, "none")
    assert torch.equal(found[..., 3:], alpha) and torch.equal(found[..., :3], quantize(IMAGE, 3, "none"))
    assert quantize(alpha, 3, "none").shape == (1, 11, 14, 3)
