"""Painting a part of a picture at a size of its own: cut out around a mask, painted over, put back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from nodegraph.spec import node
from nodegraph.types import Widget
from nodes.types import Image, Mask, Stitch

Pixels = Annotated[int, Field(ge=0, le=16384), Widget(step=1)]
Side = Annotated[int, Field(ge=0, le=16384), Widget(step=8)]
Multiple = Annotated[int, Field(ge=1, le=512), Widget(step=1)]
ContextFactor = Annotated[float, Field(ge=1.0, le=100.0), Widget(step=0.01)]


class Crop(NamedTuple):
    """What was cut out, and how to put it back."""

    STITCH: Stitch
    IMAGE: Image
    MASK: Mask


def _one_side(*, width: int | None = None, height: int | None = None, **_: Any) -> Iterator[str]:
    if width is not None and height is not None and bool(width) != bool(height):
        yield f"width is {width} and height {height}; expected both, or 0 for both to keep the size"


@node("CropForInpaint", category="inpaint", title="Crop for Inpainting", check=_one_side)
def crop_for_inpaint(
    *, image: Image, mask: Mask, grow: Pixels = 0, blend: Pixels = 16, context: ContextFactor = 1.5,
    padding: Pixels = 16, width: Side = 0, height: Side = 0, multiple_of: Multiple = 8,
    context_mask: Mask | None = None,
) -> Crop:  # fmt: skip
    """Cut the part around a mask out of images [B, H, W, C], to be painted over and put back by StitchInpaint.

    Args:
        image: What to cut; of a batch the same rectangle of each.
        mask: [B or 1, H, W]; 1 is painted. It is stretched over the images. An empty one cuts out all.
        grow: By how many pixels the painted part is larger than the mask.
        blend: Over how many pixels around it the new picture passes into the old one.
        context: How large the cut is, in sides of what is painted: what is around it shows the model what fits.
        padding: Pixels around what is painted that the cut has at least.
        width: What the cut is scaled to; 0 keeps its size.
        height: What the cut is scaled to; 0 keeps its size.
        multiple_of: The sides of a cut that keeps its size are multiples of this.
        context_mask: What should be inside of the cut, too.
    """
    from nodes.diffusion.cropping import Cut, crop_around

    cut = Cut(grow, blend, context, padding, width, height, multiple_of)
    return Crop(*crop_around(image, mask, cut, context_mask))


@node("StitchInpaint", category="inpaint", title="Stitch Inpainting")
def stitch_inpaint(*, stitch: Stitch, image: Image) -> Image:
    """Put what CropForInpaint cut out back into the images; what is not painted is as it was, bit for bit.

    Args:
        stitch: Where it was cut out.
        image: What it has become [N, h, w, C], of any size. One cut may come back as several pictures.
    """
    from nodes.diffusion.cropping import stitched

    return stitched(stitch, image)
