"""Cutting out what is around a mask, and putting it back once it is painted over."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from nodes.diffusion.denoiser import repeat_to
from nodes.diffusion.morphology import grow
from nodes.types import StitchValue


class Cut(NamedTuple):
    """How a rectangle is chosen around a mask.

    Attributes:
        grow: pixels by which more is painted than the mask has.
        blend: pixels around what is painted over which it passes into the old picture.
        context: its sides, in sides of what is masked.
        padding: pixels that it has around that at least.
        width, height: what it is scaled to; 0 leaves it at the size it has.
        multiple: of which its sides are multiples, where it is not scaled.
    """

    grow: int = 0
    blend: int = 0
    context: float = 1.0
    padding: int = 0
    width: int = 0
    height: int = 0
    multiple: int = 8


class Cropped(NamedTuple):
    """What was cut out: how to put it back, images [B, h, w, 3], and the mask [B or 1, h, w]."""

    stitch: StitchValue
    image: Tensor
    mask: Tensor


def crop_around(image: Tensor, mask: Tensor, cut: Cut, also: Tensor | None = None) -> Cropped:
    """Cuts the rectangle around a mask out of images; one rectangle for all of a batch.

    It lies inside the images where it fits; where they are too small for it, their edges are repeated.

    Args:
        image: [B, H, W, C], 0..1.
        mask: [M, h, w] in 0..1, stretched over the images; where nothing is masked the rectangle is all of them.
        cut: how it is chosen.
        also: another mask that is to be inside of the rectangle.
    """
    mask = grow(_stretched(mask, image), cut.grow, tapered=False)
    weight = faded(mask, cut.blend)
    shown = [weight] if also is None else [weight, _stretched(also, image)]
    top, left, height, width = _rectangle(torch.stack([part.amax(0) for part in shown]).amax(0), cut)
    colours = _cut_out(image[..., :3].movedim(-1, 1), top, left, height, width)
    masks = _cut_out(mask[:, None], top, left, height, width)
    size = (cut.height, cut.width) if cut.width and cut.height else (height, width)
    if size != (height, width):
        colours = F.interpolate(colours, size=size, mode="bicubic", antialias=True).clamp(0, 1)
        masks = F.interpolate(masks, size=size, mode="bilinear")
    inside = _cut_out(weight[:, None], top, left, height, width)[:, 0]
    return Cropped(StitchValue(image, inside, left, top), colours.movedim(1, -1).contiguous(), masks[:, 0])


def stitched(stitch: StitchValue, image: Tensor) -> Tensor:
    """Puts what was cut out back, painted over: what the faded mask leaves out is as it was, bit for bit.

    Args:
        stitch: where it was cut out.
        image: [N, h, w, C], scaled to what was cut out; one that was cut out may come back as several.

    Returns:
        [max(B, N), H, W, C]; alpha is that of the old images.
    """
    height, width = stitch.weight.shape[-2:]
    new = image[..., :3].movedim(-1, 1).to(stitch.image)
    if new.shape[-2:] != (height, width):
        new = F.interpolate(new, size=(height, width), mode="bicubic", antialias=True).clamp(0, 1)
    count = max(len(stitch.image), len(new))
    result = repeat_to(stitch.image, count).clone()
    top, left = max(stitch.top, 0), max(stitch.left, 0)
    place = result[:, top : max(stitch.top + height, 0), left : max(stitch.left + width, 0), :3]
    rows, columns = slice(top - stitch.top, None), slice(left - stitch.left, None)
    new = repeat_to(new, count).movedim(1, -1)[:, rows, columns][:, : place.shape[1], : place.shape[2]]
    weight = repeat_to(stitch.weight, count)[:, rows, columns, None][:, : place.shape[1], : place.shape[2]].to(place)
    place.copy_(torch.where(weight > 0, new * weight + place * (1 - weight), place))
    return result


def faded(mask: Tensor, by: int) -> Tensor:
    """A mask [M, H, W] that falls off to 0 over some pixels around it, evenly; what it masks stays as it is."""
    if by == 0:
        return mask
    reach = math.ceil(by / 2)
    padded = F.pad(grow(mask, reach, tapered=False)[:, None], (reach,) * 4, mode="replicate")
    return torch.maximum(F.avg_pool2d(padded, 2 * reach + 1, stride=1)[:, 0], mask)


def _stretched(mask: Tensor, image: Tensor) -> Tensor:
    mask = mask.to(image).reshape(-1, 1, *mask.shape[-2:])
    if mask.shape[-2:] != image.shape[1:3]:
        mask = F.interpolate(mask, size=image.shape[1:3], mode="bilinear")
    return mask[:, 0]


def _rectangle(shown: Tensor, cut: Cut) -> tuple[int, int, int, int]:
    """Top, left, height and width around what is above 0 in [H, W]."""
    found = shown.nonzero()
    if len(found):
        (top, left), (bottom, right) = found.amin(0).tolist(), (found.amax(0) + 1).tolist()
    else:
        top, left, (bottom, right) = 0, 0, shown.shape
    height, width = (
        max(round(side * cut.context), side + 2 * cut.padding) if len(found) else side
        for side in (bottom - top, right - left)
    )
    if cut.width and cut.height:  # grown to the aspect that it is scaled to
        height, width = (
            max(height, math.ceil(width * cut.height / cut.width)),
            max(width, math.ceil(height * cut.width / cut.height)),
        )
    else:
        height, width = (math.ceil(side / cut.multiple) * cut.multiple for side in (height, width))
    return (
        _placed(top + bottom, height, shown.shape[0]), _placed(left + right, width, shown.shape[1]), height, width
    )  # fmt: skip


def _placed(middle: int, side: int, whole: int) -> int:
    """Where a side begins whose middle is to be at `middle / 2`: inside, or around a whole that is shorter."""
    if side >= whole:
        return -((side - whole) // 2)
    return min(max((middle - side) // 2, 0), whole - side)


def _cut_out(x: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    """A rectangle of [B, C, H, W]; what of it lies outside repeats the edge."""
    bottom, right = top + height - x.shape[-2], left + width - x.shape[-1]
    x = F.pad(x, (max(-left, 0), max(right, 0), max(-top, 0), max(bottom, 0)), mode="replicate")
    top, left = max(top, 0), max(left, 0)
    return x[..., top : top + height, left : left + width].clone()
