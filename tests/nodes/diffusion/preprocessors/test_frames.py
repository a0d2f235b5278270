"""Pictures brought to a resolution, padded and blurred, against NumPy and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from nodes.diffusion.preprocessors import frames
from tests.nodes.diffusion.preprocessors.hosts import bytes_of, picture


def test_a_large_picture_is_made_smaller_by_means_over_what_each_pixel_covers():
    image = picture(1, 90, 131)
    found = frames.frame(image, 64)
    assert found.shape == (1, 3, 64, 93)
    for channel in range(3):
        exact = _covered(bytes_of(image)[0, channel].double().numpy(), 64, 93)
        assert np.abs(found[0, channel].numpy() - exact).max() <= 0.501


def _covered(plane, height, width):
    """Means over what each new pixel covers, by integrating the picture as steps."""

    def along(values, size):
        edges = np.linspace(0, values.shape[0], size + 1)
        sums = np.concatenate([np.zeros((1, values.shape[1])), values.cumsum(0)])
        whole = np.minimum(np.floor(edges).astype(int), values.shape[0] - 1)
        at = sums[whole] + (edges - whole)[:, None] * values[whole]
        return np.diff(at, axis=0) * size / values.shape[0]

    return along(along(plane, height).T, width).T


def test_a_small_picture_is_made_larger_by_cubic_interpolation():
    image = picture(1, 40, 50)
    wanted = torch.nn.functional.interpolate(bytes_of(image), size=(80, 100), mode="bicubic").round().clamp(0, 255)
    assert torch.equal(frames.frame(image, 80), wanted)
    assert torch.equal(frames.frame(image, 40), bytes_of(image))


def test_alpha_is_laid_over_white_and_grey_becomes_three_channels():
    clear = torch.tensor([0.2, 0.4, 0.6, 0.0]).expand(1, 64, 64, 4)
    assert (frames.frame(clear, 64) == 255).all()
    assert torch.equal(frames.frame(torch.full((1, 64, 64, 1), 0.2), 64), torch.full((1, 3, 64, 64), 51.0))


def test_padding_repeats_the_last_row_and_column():
    x = torch.arange(6.0).view(1, 1, 2, 3)
    found = frames.padded(x)
    assert found.shape == (1, 1, 64, 64)
    assert torch.equal(found[0, 0, :2, :3], x[0, 0]) and (found[0, 0, :, 3:] == found[0, 0, :, 2:3]).all()
    assert (found[0, 0, 2:, 0] == 3).all()


@pytest.mark.parametrize("sigma", [0.5, 3.0, 9.0])
def test_a_blur_is_scipys(sigma):
    x = bytes_of(picture(1, 20, 15))
    radius = (round(sigma * 8 + 1) | 1) // 2
    wanted = x.double().numpy()
    for axis in (-1, -2):
        wanted = gaussian_filter1d(wanted, sigma, axis, mode="mirror", radius=radius)
    assert np.abs(frames.blurred(x, sigma).numpy() - wanted).max() < 1e-3
    assert torch.equal(frames.blurred(x, 0), x)


def test_an_image_is_of_eight_bits():
    found = frames.image(torch.tensor([[[[-3.0, 12.9], [255.0, 300.0]]]]))
    assert torch.equal(found[0, ..., 0] * 255, torch.tensor([[0.0, 12.0], [255.0, 255.0]])) and found.shape[-1] == 3


@pytest.mark.parametrize(("is_whole", "wanted"), [(False, 768), (True, 512)])
def test_a_resolution_counts_the_pixels_that_are_used(is_whole, wanted):
    assert frames.shorter_side(200, 300, (768, 768), is_whole) == wanted
