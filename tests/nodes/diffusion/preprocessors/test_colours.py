"""Hints of colour, against the formulas."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch

from nodes.diffusion.preprocessors import colours
from tests.nodes.diffusion.preprocessors.hosts import bytes_of, picture

KERNEL = np.array([1, 4, 6, 4, 1]) / 8


def doubled(line):
    """Zeros between the values, then 1 4 6 4 1; mirrored at the start, the last value again at the end."""
    wide = np.concatenate([line[1:2], line, line[-1:], line[-1:]])
    spread = np.zeros(2 * len(wide))
    spread[::2] = wide
    return np.convolve(spread, KERNEL, "same")[2 : 2 + 2 * len(line)]


def test_a_tile_is_made_smaller_and_doubled_again():
    image = picture(1, 128, 64)
    small = bytes_of(image)[0, 0].view(64, 2, 32, 2).mean((1, 3)).round().numpy()
    rows = np.apply_along_axis(doubled, 1, small)
    wanted = np.floor(np.apply_along_axis(doubled, 0, rows) + 0.5)
    assert np.abs(colours.tile(image, 1)[0, ..., 0].numpy() * 255 - wanted).max() < 0.01


@pytest.mark.parametrize(("size", "times", "wanted"), [((70, 100), 3, (64, 128)), ((64, 64), 10, (64, 64))])
def test_a_tile_has_sides_of_64(size, times, wanted):
    assert colours.tile(picture(1, *size), times).shape == (1, *wanted, 3)
    flat = torch.full((1, *size, 3), 0.4)
    assert (colours.tile(flat, times) * 255).unique().tolist() == pytest.approx([102.0])


def test_blocks_have_one_colour_each():
    found = colours.blocks(picture(1, 128, 192), 128)[0]
    squares = found.view(2, 64, 3, 64, 3)
    assert (squares == squares[:, :1, :, :1]).all()
    assert len(squares[:, 0, :, 0].reshape(6, 3).unique(dim=0)) == 6


def test_luminance_is_lightness_with_red_and_blue_swapped():
    image = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    found = colours.luminance(image.view(1, 1, 5, 3).expand(1, 64, 5, 3), 1.0, 5)[0, 0, :, 0] * 100
    assert torch.allclose(found, torch.tensor([100.0, 0.0, 53.2, 32.3, 87.7]), atol=0.6)
    darker = colours.luminance(torch.full((1, 64, 64, 3), 0.502), 2.0, 64)
    assert darker.unique().item() == pytest.approx(0.5352**2, abs=0.005)


def test_intensity_is_the_value_of_hsv():
    image = picture(1, 64, 64)
    colour = (bytes_of(image)[0, :, 10, 20] / 255).tolist()
    found = colours.intensity(image, 0.5, 64)[0, 10, 20]
    assert found.tolist() == pytest.approx([colorsys.rgb_to_hsv(*colour)[2] ** 0.5] * 3, abs=1 / 255)


def test_content_is_shuffled_by_the_seed_and_stays_among_its_colours():
    image = torch.cat([picture(1, 64, 96), picture(1, 64, 96)])
    found = colours.shuffled(image, 64, 5)
    assert found.shape == image.shape and torch.equal(found[0], found[1])
    assert not torch.equal(found, colours.shuffled(image, 64, 6)) and not torch.allclose(found, image, atol=0.1)
    assert torch.equal(found, colours.shuffled(image, 64, 5))
    ramp = torch.linspace(0, 1, 128)[None, None, :, None].expand(1, 128, 128, 3)
    shifted = colours.shuffled(ramp, 128, 3)[0, ..., 0] * 127
    points = np.random.default_rng(3).uniform(0, 1, (2, 2, 1))[..., 0]
    wide = torch.nn.functional.interpolate(torch.from_numpy(points)[None, None], size=(640, 640), mode="bicubic")
    places = wide[0, 0, 256:384, 256:384]
    places = (places - places.min()) / (places - places.min()).max() * 127
    assert (shifted - places).abs().max() < 1.5


@pytest.mark.parametrize("value", [-1.0, 0.0])
def test_what_is_masked_is_marked(value):
    image = picture(2, 64, 64)
    mask = torch.zeros(1, 32, 32)
    mask[:, :16] = 1
    found = colours.without_masked(image, mask, value)
    assert (found[:, :31] == value).all() and torch.equal(found[:, 33:], image[:, 33:])
    assert image.min() >= 0
