"""Operations on latents."""

from __future__ import annotations

import pytest
import torch
from scipy.signal import convolve2d

from nodes.diffusion.latent_operations import Sharpen, TonemapReinhard

LATENT = torch.randn(2, 4, 12, 10, generator=torch.Generator().manual_seed(0))


def test_a_tone_map_bends_lengths_and_keeps_directions():
    found = TonemapReinhard(2.0)(LATENT)
    lengths = LATENT.norm(dim=1)
    for item in range(2):
        top = 2 * (lengths[item].mean() + 5 * lengths[item].std())
        torch.testing.assert_close(found[item].norm(dim=0), lengths[item] * top / (lengths[item] + top))
    torch.testing.assert_close(found / found.norm(dim=1, keepdim=True), LATENT / lengths[:, None])


def test_a_tone_map_to_nothing_gives_nothing():
    assert not TonemapReinhard(0.0)(LATENT).any()


def test_sharpening_by_nothing_changes_nothing():
    torch.testing.assert_close(Sharpen(alpha=0.0)(LATENT), LATENT)


def test_sharpening_is_a_convolution_of_directions_mirrored_at_the_edges():
    radius, sigma, alpha = 2, 0.8, 0.3
    length = LATENT.norm(dim=1, keepdim=True) + 1e-6
    places = [-1.0, -0.5, 0.0, 0.5, 1.0]
    gauss = torch.tensor([[2.718281828459045 ** (-(x * x + y * y) / (2 * sigma**2)) for x in places] for y in places])
    kernel = -10 * alpha * gauss / gauss.sum()
    kernel[2, 2] += 1 + 10 * alpha
    direction = torch.nn.functional.pad(LATENT / length, [radius] * 4, mode="reflect")
    wanted = torch.stack([
        torch.stack([torch.from_numpy(convolve2d(channel.numpy(), kernel.numpy(), "valid")) for channel in item])
        for item in direction
    ])  # fmt: skip
    torch.testing.assert_close(Sharpen(radius, sigma, alpha)(LATENT), wanted * length, rtol=1e-4, atol=1e-5)


def test_a_radius_beyond_the_latent_is_refused():
    with pytest.raises(ValueError, match="sharpen_radius is 10 and the latent 10 x 12"):
        Sharpen(10)(LATENT)
