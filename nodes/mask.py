"""Masks: from images and to images, made, combined and shaped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from nodegraph.context import Context
from nodegraph.spec import node
from nodegraph.types import Choices, Widget
from nodes.image import Side, Size, save_pngs
from nodes.image_batch import Color
from nodes.types import Fraction, Image, Mask

if TYPE_CHECKING:
    from torch import Tensor

CHANNELS = ("red", "green", "blue", "alpha")
ImageChannel = Annotated[str, Choices(CHANNELS)]
MaskOperation = Annotated[str, Choices(("multiply", "add", "subtract", "and", "or", "xor"))]
Expansion = Annotated[int, Field(ge=-16384, le=16384), Widget(step=1)]


@node("MaskToImage", category="mask", title="Convert Mask to Image")
def mask_to_image(*, mask: Mask) -> Image:
    """A mask [B, H, W] as grey images [B, H, W, 3].

    Args:
        mask: What to show; 1 is white.
    """
    return _batched(mask)[..., None].expand(-1, -1, -1, 3)


@node("ImageToMask", category="mask", title="Convert Image to Mask")
def image_to_mask(*, image: Image, channel: ImageChannel) -> Mask:
    """One channel of images [B, H, W, C] as a mask [B, H, W].

    Args:
        image: What to take it from.
        channel: Which one; `alpha` as it is, 1 where the image is opaque.
    """
    place = CHANNELS.index(channel)
    if place >= image.shape[-1]:
        raise ValueError(f"the image has {image.shape[-1]} channels and no {channel}; expected an image with {channel}")
    return image[..., place].clone()


@node("ImageColorToMask", category="mask")
def color_to_mask(*, image: Image, color: Color = 0) -> Mask:
    """A mask [B, H, W] that is 1 where images [B, H, W, 3] have one colour, in 8 bits.

    Args:
        image: Where to look.
        color: 0xRRGGBB as a number; 0 is black, 16777215 white.
    """
    import torch

    wanted = torch.tensor([color >> shift & 0xFF for shift in (16, 8, 0)], device=image.device)
    found = (image[..., :3].clamp(0, 1) * 255).round()
    return (found == wanted).all(-1).float()


@node("SolidMask", category="mask")
def solid_mask(*, ctx: Context, value: Fraction = 1.0, width: Size = 512, height: Size = 512) -> Mask:
    """A mask [1, H, W] of one value.

    Args:
        value: 1 is where something is done.
        width: In pixels.
        height: In pixels.
    """
    import torch

    return torch.full((1, height, width), value, device=ctx.device)


@node("InvertMask", category="mask")
def invert_mask(*, mask: Mask) -> Mask:
    """A mask [B, H, W] that is 1 where the other is 0.

    Args:
        mask: What to invert.
    """
    return 1 - mask


@node("CropMask", category="mask")
def crop_mask(*, mask: Mask, x: Side = 0, y: Side = 0, width: Size = 512, height: Size = 512) -> Mask:
    """Cut a rectangle out of a mask [B, H, W]; what of it lies outside is left out.

    Args:
        mask: What to cut.
        x: Left edge of the rectangle.
        y: Its upper edge.
        width: Of the rectangle.
        height: Of the rectangle.
    """
    if y >= mask.shape[-2] or x >= mask.shape[-1]:
        raise ValueError(
            f"({x}, {y}) is outside of the mask of {mask.shape[-1]} x {mask.shape[-2]}; expected x, y in it"
        )
    return _batched(mask)[:, y : y + height, x : x + width].clone()


@node("MaskComposite", category="mask")
def composite_mask(*, destination: Mask, source: Mask, x: Side = 0, y: Side = 0, operation: MaskOperation) -> Mask:
    """Combine a mask [B, H, W] with another that lies on it; what of that lies outside is left out.

    Args:
        destination: What is changed.
        source: What it is combined with; the shorter batch is repeated.
        x: Left edge of the source in the destination.
        y: Upper edge of the source in the destination.
        operation: `multiply` keeps what both have, `add` joins, `subtract` takes the source away; `and`, `or`, `xor`
            round to 0 or 1 first.
    """
    from nodes.diffusion.compositing import combine_masks

    return combine_masks(_batched(destination), _batched(source), x, y, operation)


@node("FeatherMask", category="mask")
def feather_mask(*, mask: Mask, left: Side = 0, top: Side = 0, right: Side = 0, bottom: Side = 0) -> Mask:
    """Let a mask [B, H, W] fall off towards its borders, in even steps.

    Args:
        mask: What to change.
        left: Over how many pixels from the left border; 0 leaves it as it is.
        top: From the upper border.
        right: From the right border.
        bottom: From the lower border.
    """
    import torch

    def ramp(length: int, start: int, end: int) -> Tensor:
        place = torch.arange(1, length + 1, dtype=torch.float32, device=mask.device)
        rising = (place / min(start, length)).clamp(max=1) if start else torch.ones_like(place)
        if not end:
            return rising
        # As in ComfyUI the first factor falls on the first pixel, not the last, and the ramp starts with the second.
        falling = ((length + 2 - place) / min(end, length)).clamp(max=1)
        falling[0] = 1 / min(end, length)
        return rising * falling

    height, width = mask.shape[-2:]
    return _batched(mask) * ramp(height, top, bottom)[:, None] * ramp(width, left, right)


@node("GrowMask", category="mask", title="Grow Mask")
def grow_mask(*, mask: Mask, expand: Expansion = 0, tapered_corners: bool = True) -> Mask:
    """Grow a mask [B, H, W], or shrink it.

    Args:
        mask: What to grow.
        expand: By how many pixels; below 0 it shrinks.
        tapered_corners: Cut corners off while it grows; else they stay square.
    """
    from nodes.diffusion.morphology import grow

    return grow(_batched(mask), expand, tapered=tapered_corners)


@node("ThresholdMask", category="mask")
def threshold_mask(*, mask: Mask, value: Fraction = 0.5) -> Mask:
    """A mask [B, H, W] that is 1 where another is above a value, else 0.

    Args:
        mask: What to look at.
        value: What is not above it becomes 0.
    """
    return (mask > value).float()


@node("MaskPreview", category="mask", kind="sink", lane="io")
def preview_mask(*, ctx: Context, mask: Mask) -> None:
    """Show a mask [B, H, W] without keeping it: PNG files in the temp folder.

    Args:
        mask: What to show.
    """
    save_pngs(ctx, mask_to_image(mask=mask), "ComfyUI_temp", "temp", level=1)


def _batched(mask: Tensor) -> Tensor:
    """[H, W], which nodes of others may give, as [1, H, W]."""
    return mask.reshape(-1, *mask.shape[-2:])
