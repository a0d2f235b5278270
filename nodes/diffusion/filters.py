"""Blurring, sharpening and reducing the colours of pictures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor

from nodes.diffusion.pictures import to_bytes

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


def gaussian(radius: int, sigma: float) -> Tensor:
    """A kernel [2 radius + 1, 2 radius + 1] that sums to 1; sigma is in units of the radius, as in ComfyUI."""
    axis = torch.linspace(-1, 1, 2 * radius + 1)
    squares = axis[:, None].square() + axis.square()
    kernel = torch.exp(-squares / (2 * sigma * sigma))
    return kernel / kernel.sum()


def blur(image: Tensor, radius: int, sigma: float) -> Tensor:
    """A Gaussian blur of [B, H, W, C]; edges are mirrored.

    Raises:
        ValueError: a side of the image is not larger than the radius.
    """
    return _filtered(image, gaussian(radius, sigma))


def sharpen(image: Tensor, radius: int, sigma: float, alpha: float) -> Tensor:
    """An unsharp mask of [B, H, W, C]: takes 10 alpha times the Gaussian blur away, and adds as much of the image.

    Returns:
        [B, H, W, C], 0..1.

    Raises:
        ValueError: as `blur`.
    """
    kernel = gaussian(radius, sigma) * -(alpha * 10)
    kernel[radius, radius] += 1 - kernel.sum()
    return _filtered(image, kernel).clamp(0, 1)


def _filtered(image: Tensor, kernel: Tensor) -> Tensor:
    radius, channels = len(kernel) // 2, image.shape[-1]
    height, width = image.shape[1:3]
    if radius >= min(height, width):
        raise ValueError(f"the radius is {radius}, the image {width} x {height} pixels; expected less than its sides")
    padded = F.pad(image.movedim(-1, 1), (radius,) * 4, "reflect")
    weights = kernel.to(image).expand(channels, 1, -1, -1)
    return F.conv2d(padded, weights, groups=channels).movedim(1, -1)


def quantize(image: Tensor, colors: int, dither: str) -> Tensor:
    """Reduces each picture to a palette of its own, by Pillow's median cut (Heckbert 1982) in 8 bits.

    Args:
        image: [B, H, W, C], 0..1; an alpha channel is kept as it is.
        colors: size of the palette, 1 to 256.
        dither: `none`, `floyd-steinberg`, or `bayer-N`, which adds an N x N threshold matrix (Bayer 1973) before the
            nearest colour is taken; N is a power of 2.

    Returns:
        [B, H, W, C], 0..1; a grey image gets 3 channels.
    """
    pictures = [Image.fromarray(to_bytes(item)) for item in image[..., :3].expand(-1, -1, -1, 3)]
    arrays = [np.asarray(_quantized(picture, colors, dither).convert("RGB")) for picture in pictures]
    found = torch.from_numpy(np.stack(arrays)).to(image) / 255
    return torch.cat([found, image[..., 3:]], dim=-1)


def _quantized(picture: Picture, colors: int, dither: str) -> Picture:
    palette = picture.quantize(colors=colors)
    if dither == "floyd-steinberg":
        return picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    if dither.startswith("bayer-"):
        spread = 2 * 256 / (len(palette.getpalette() or ()) // 3)
        offset = spread * bayer(int(dither.removeprefix("bayer-"))) + 0.5
        picture = Image.fromarray(_shifted(np.asarray(picture), offset))
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def _shifted(array: np.ndarray[Any, Any], offset: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """[H, W, 3] of 8 bits plus a pattern [n, n] laid out like tiles."""
    height, width = array.shape[:2]
    rows, columns = math.ceil(height / len(offset)), math.ceil(width / len(offset))
    tiled = np.tile(offset, (rows, columns))[:height, :width, None]
    return (array.astype(np.float32) + tiled).clip(0, 255).astype(np.uint8)


def bayer(size: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The ordered dither matrix [size, size] about 0, within half a step; size is a power of 2 (Bayer 1973)."""
    matrix, scale = np.zeros((1, 1), np.float32), 4
    while len(matrix) < size:
        steps = np.asarray([[-1.5, 0.5], [1.5, -0.5]], np.float32) / scale
        matrix, scale = np.block([[matrix + step for step in row] for row in steps]), scale * 4
    return matrix
