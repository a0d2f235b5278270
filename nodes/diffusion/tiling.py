"""A VAE on large images: tile by tile with overlap, averaged over three ways to cut, so that no seam shows.

Source: ComfyUI, `tiled_scale_multidim` and the `decode_tiled_`, `encode_tiled_` of its VAE.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from nodes.diffusion.taesd import TinyAutoencoder
from nodes.diffusion.vae import AutoencoderKL, cropped

Autoencoder = AutoencoderKL | TinyAutoencoder
OnTile = Callable[[int, int], None]


class Tile(NamedTuple):
    """A rectangle of latent cells."""

    top: int
    left: int
    height: int
    width: int

    def of(self, x: Tensor, scale: int) -> Tensor:
        """This part of [..., H * scale, W * scale]."""
        top, left, height, width = (side * scale for side in self)
        return x[..., top : top + height, left : left + width]


def decode_tiled(vae: Autoencoder, latents: Tensor, *, tile: int, overlap: int, on_tile: OnTile) -> Tensor:
    """Decodes latents [B, 4, h, w] into images [B, 8 h, 8 w, 3] float32, 0..1.

    Args:
        vae: on the device of the latents.
        latents: unscaled.
        tile: side of a tile in cells, more than twice the overlap.
        overlap: of neighbours, in cells.
        on_tile: called as on_tile(i, n) after tile i of n, the first is 1.

    Raises:
        ValueError: the tiles would not advance.
    """
    found = [_averaged(item[None], vae.pixels, 1, vae.scale, tile, overlap, _share(on_tile, i, len(latents)))
             for i, item in enumerate(latents)]  # fmt: skip
    return torch.cat(found).clamp(0, 1).movedim(1, -1).contiguous()


def encode_tiled(vae: Autoencoder, images: Tensor, *, tile: int, overlap: int, on_tile: OnTile) -> Tensor:
    """Encodes images [B, H, W, C], 0..1, cropped to multiples of 8, into latents [B, 4, H/8, W/8] float32.

    Args:
        vae: on the device of the images.
        images: alpha is dropped.
        tile: side of a tile in latent cells, more than twice the overlap.
        overlap: of neighbours, in cells.
        on_tile: called as on_tile(i, n) after tile i of n, the first is 1.

    Raises:
        ValueError: the tiles would not advance, or an image is smaller than a cell.
    """
    pixels = cropped(images, vae.scale).movedim(-1, 1)
    found = [_averaged(item[None], lambda x: vae.encode(x.movedim(1, -1)), vae.scale, 1, tile, overlap,
                       _share(on_tile, i, len(pixels))) for i, item in enumerate(pixels)]  # fmt: skip
    return torch.cat(found)


def _share(on_tile: OnTile, item: int, items: int) -> OnTile:
    """Tells the tiles of one item as part of those of a batch, each item having as many."""
    return lambda i, n: on_tile(item * n + i, items * n)


def _averaged(
    x: Tensor, function: Callable[[Tensor], Tensor], scale_in: int, scale_out: int, tile: int, overlap: int,
    on_tile: OnTile,
) -> Tensor:  # fmt: skip
    """The mean of three passes: square tiles, flat ones and tall ones; [1, C, h * scale_out, w * scale_out]."""
    height, width = x.shape[-2] // scale_in, x.shape[-1] // scale_in
    shapes = ((tile, tile), (tile // 2, tile * 2), (tile * 2, tile // 2))
    passes = [tiles_of(height, width, shape, overlap) for shape in shapes]
    total, done = sum(map(len, passes)), 0

    def of_tile(each: Tile) -> Tensor:
        nonlocal done
        found = function(each.of(x, scale_in))
        done += 1
        on_tile(done, total)
        return found

    first, flat, tall = (blended(tiles, of_tile, height, width, overlap, scale_out) for tiles in passes)
    return (first + flat + tall) / 3


def tiles_of(height: int, width: int, shape: tuple[int, int], overlap: int) -> list[Tile]:
    """The tiles that cover height x width cells, row by row; those at the far ends may be smaller.

    Args:
        height: of the latent.
        width: of the latent.
        shape: height and width of a tile.
        overlap: of neighbours.

    Raises:
        ValueError: a tile is not longer than the overlap.
    """
    if min(shape) <= overlap:
        raise ValueError(f"tiles of {shape[1]} x {shape[0]} cells overlap by {overlap}; expected an overlap below half "
                         "the tile size; make tile_size larger or overlap smaller")  # fmt: skip
    rows, columns = (
        range(0, size - overlap, side - overlap) if size > side else range(1)
        for size, side in zip((height, width), shape, strict=True)
    )
    return [
        Tile(top, left, min(shape[0], height - top), min(shape[1], width - left))
        for top, left in product(rows, columns)
    ]


def blended(
    tiles: Sequence[Tile], of_tile: Callable[[Tile], Tensor], height: int, width: int, overlap: int, scale: int
) -> Tensor:
    """One picture [1, C, height * scale, width * scale] of tiles; where they overlap they fade into each other.

    Args:
        tiles: which cover it.
        of_tile: what becomes of one, [1, C, h * scale, w * scale].
        height: in cells.
        width: in cells.
        overlap: of neighbours, in cells.
        scale: values per cell, along each side.
    """
    found = of_tile(tiles[0])
    if len(tiles) == 1:
        return found
    whole = found.new_zeros(1, found.shape[1], height * scale, width * scale)
    weight = found.new_zeros(1, 1, height * scale, width * scale)
    for number, tile in enumerate(tiles):
        found = of_tile(tile) if number else found
        rows, columns = (_ramp(size, overlap * scale).to(found) for size in found.shape[-2:])
        mask = rows[:, None] * columns
        tile.of(whole, scale).add_(found * mask)
        tile.of(weight, scale).add_(mask)
    return whole / weight


def _ramp(size: int, feather: int) -> Tensor:
    """Weights of a row: rising from 1 / feather to 1 at both ends, or 1 where there is no room for that."""
    if not 0 < feather < size:
        return torch.ones(size)
    rising = ((torch.arange(size) + 1) / feather).clamp(max=1)
    return rising * rising.flip(0)
