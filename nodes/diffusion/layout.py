"""Larger canvases: pictures beside each other, and room around them."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from nodes.diffusion.compositing import to_channels
from nodes.diffusion.resize import resize

COLORS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0), "red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0),
          "blue": (0.0, 0.0, 1.0)}  # fmt: skip


def pad_for_outpaint(
    image: Tensor, left: int, top: int, right: int, bottom: int, feathering: int
) -> tuple[Tensor, Tensor]:
    """Puts grey around a picture, and marks it.

    Args:
        image: [B, H, W, C].
        left: pixels to add.
        top: pixels to add.
        right: pixels to add.
        bottom: pixels to add.
        feathering: how far the mask reaches into the picture, falling with the square of the distance to the nearest
            side that was extended; left out where it is no smaller than half of the picture, as in ComfyUI.

    Returns:
        image [B, top + H + bottom, left + W + right, C], 0.5 where it is new; and its mask [1, ...], 1 where it is new.
    """
    height, width = image.shape[1:3]
    room = (left, right, top, bottom)
    padded = F.pad(image, (0, 0, *room), value=0.5)
    inside = image.new_zeros(height, width)
    if 0 < 2 * feathering < min(height, width):
        distance = torch.minimum(_distance(height, top, bottom)[:, None], _distance(width, left, right))
        inside = ((feathering - distance) / feathering).clamp(min=0).square().to(image)
    return padded, F.pad(inside, room, value=1.0)[None]


def _distance(length: int, before: int, after: int) -> Tensor:
    """[length], to the nearest end that is extended; `length` if none is."""
    place = torch.arange(length, dtype=torch.float64)
    far = torch.full_like(place, length)
    return torch.minimum(place if before else far, length - place if after else far)


def pad_to_fit(image: Tensor, width: int, height: int, value: float, method: str) -> Tensor:
    """Scales [B, H, W, C] to fit into a size and fills up around it with one value -> [B, height, width, C]."""
    scale = min(width / image.shape[2], height / image.shape[1])
    inner = max(1, int(image.shape[1] * scale)), max(1, int(image.shape[2] * scale))
    resized = resize(image.movedim(-1, 1), inner[1], inner[0], method).movedim(1, -1)
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    return F.pad(resized, (0, 0, left, width - inner[1] - left, top, height - inner[0] - top), value=value)


def stitch(image: Tensor, other: Tensor, direction: str, *, match_size: bool, spacing: int, color: str) -> Tensor:
    """Puts a second picture beside the first.

    Args:
        image: [B, H, W, C].
        other: [N, h, w, c]; the last item of the shorter batch is repeated.
        direction: where the second goes: `right`, `down`, `left`, `up`.
        match_size: scale the second (Lanczos) so that the sides that touch are as long; else the shorter one is
            centred, on white if that is the colour, on black with any other.
        spacing: pixels between the two, rounded up to an even number.
        color: of the space, a key of `COLORS`.

    Returns:
        [max(B, N), ..., ..., max(C, c)]; missing channels are 1.
    """
    along = 2 if direction in ("left", "right") else 1
    count, channels = max(len(image), len(other)), max(image.shape[-1], other.shape[-1])
    image, other = _with_last(image, count), _with_last(other.to(image), count)
    if match_size:
        other = _matched(other, image, along)
    across = 3 - along
    length = max(image.shape[across], other.shape[across])
    parts = [_centred(part, across, length, float(color == "white")) for part in (image, other)]
    parts = [to_channels(part, channels) for part in parts]
    if direction in ("left", "up"):
        parts.reverse()
    if spacing:
        shape = list(parts[0].shape)
        shape[along] = spacing + spacing % 2
        parts.insert(1, image.new_tensor((*COLORS[color], 1.0))[:channels].expand(shape))
    return torch.cat(parts, dim=along)


def _with_last(x: Tensor, count: int) -> Tensor:
    return torch.cat([x, x[-1:].expand(count - len(x), -1, -1, -1)])


def _matched(other: Tensor, image: Tensor, along: int) -> Tensor:
    height, width = image.shape[1:3]
    aspect = other.shape[2] / other.shape[1]
    if along == 2:
        width = max(1, int(height * aspect))
    else:
        height = max(1, int(width / aspect))
    return resize(other.movedim(-1, 1), width, height, "lanczos").movedim(1, -1)


def _centred(x: Tensor, axis: int, length: int, value: float) -> Tensor:
    missing = length - x.shape[axis]
    sides = (missing // 2, missing - missing // 2)
    return F.pad(x, (0, 0, *sides) if axis == 2 else (0, 0, 0, 0, *sides), value=value)
