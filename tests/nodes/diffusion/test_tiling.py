"""A VAE tile by tile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import nn

from nodes.diffusion.tiling import Tile, blended, decode_tiled, encode_tiled, tiles_of


class Enlarging(nn.Module):
    """A stand-in for an autoencoder without a receptive field: tiles of it show no seams at all."""

    scale = 8

    def __init__(self):
        super().__init__()
        self.post_quant_conv = nn.Conv2d(4, 4, 1)
        self.colours = nn.Conv2d(4, 3, 1)
        self.encoded: list[list[int]] = []

    def decoder(self, z):
        return self.colours(z).repeat_interleave(8, 2).repeat_interleave(8, 3)

    def pixels(self, z):
        return self.decoder(self.post_quant_conv(z)) / 2 + 0.5

    def decode(self, z):
        return self.pixels(z).clamp(0, 1).movedim(1, -1)

    def encode(self, images):
        self.encoded.append(list(images.shape))
        means = nn.functional.avg_pool2d(images[..., :3].movedim(-1, 1), 8)
        return torch.cat([means, means[:, :1]], 1)


@pytest.fixture
def vae():
    torch.manual_seed(0)
    return cast(Any, Enlarging().requires_grad_(False))


def test_tiles_cover_all_and_overlap():
    tiles = tiles_of(5, 10, (8, 4), 1)
    assert tiles == [Tile(0, 0, 5, 4), Tile(0, 3, 5, 4), Tile(0, 6, 5, 4)]
    assert tiles_of(5, 11, (4, 4), 1) == [
        Tile(top, left, height, width)
        for top, height in ((0, 4), (3, 2))
        for left, width in ((0, 4), (3, 4), (6, 4), (9, 2))
    ]
    assert tiles_of(4, 4, (4, 4), 2) == [Tile(0, 0, 4, 4)]


def test_tiles_that_would_not_advance_are_refused():
    with pytest.raises(ValueError, match="tiles of 4 x 8 cells overlap by 4; expected an overlap below half"):
        tiles_of(16, 16, (8, 4), 4)


def test_where_tiles_overlap_they_fade_into_each_other():
    tiles = tiles_of(1, 6, (1, 4), 0)
    assert [tile.left for tile in tiles] == [0, 4]
    tiles = tiles_of(4, 6, (4, 4), 2)
    values = iter((3.0, 6.0))
    found = blended(tiles, lambda tile: torch.full((1, 1, 4, 4), next(values)), 4, 6, 2, 1)
    # the ramps are 1/2, 1, 1, 1/2: column 2 has weights 1 and 1/2, column 3 has 1/2 and 1
    torch.testing.assert_close(found[0, 0], torch.tensor([3.0, 3, 4, 5, 6, 6]).expand(4, 6))


def test_tiled_is_whole_where_no_pixel_sees_its_neighbours(vae):
    latents = torch.randn(2, 4, 11, 19, generator=torch.Generator().manual_seed(1))
    steps: list[tuple[int, int]] = []
    found = decode_tiled(vae, latents, tile=8, overlap=2, on_tile=lambda i, n: steps.append((i, n)))
    torch.testing.assert_close(found, vae.decode(latents))
    count = len(tiles_of(11, 19, (8, 8), 2)) + len(tiles_of(11, 19, (4, 16), 2)) + len(tiles_of(11, 19, (16, 4), 2))
    assert steps == [(i + 1, 2 * count) for i in range(2 * count)]


def test_encoding_tiled_crops_and_is_whole_where_no_cell_sees_its_neighbours(vae):
    images = torch.rand(1, 92, 150, 4, generator=torch.Generator().manual_seed(1))
    found = encode_tiled(vae, images, tile=8, overlap=1, on_tile=lambda i, n: None)
    tiles = len(vae.encoded)
    torch.testing.assert_close(found, vae.encode(images[:, 2:90, 3:147]))
    assert max(shape[1] for shape in vae.encoded[:tiles]) == 88 and max(s[2] for s in vae.encoded[:tiles]) == 128


def test_values_out_of_range_are_averaged_before_they_are_clipped():
    found = iter((4.0, -4.0, 0.6))
    identity = SimpleNamespace(scale=8, pixels=lambda z: torch.full((1, 3, 16, 16), next(found) / 2 + 0.5))
    pixels = decode_tiled(cast(Any, identity), torch.zeros(1, 4, 2, 2), tile=8, overlap=0, on_tile=lambda i, n: None)
    torch.testing.assert_close(pixels, torch.full((1, 16, 16, 3), 0.6))
