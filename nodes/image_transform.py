"""Images cut, turned, extended and put beside each other."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import Field

from nodegraph.spec import node
from nodegraph.types import Choices, Widget
from nodes.image import Side, Size
from nodes.types import Image, Mask

Margin = Annotated[int, Field(ge=0, le=16384), Widget(step=8)]
Spacing = Annotated[int, Field(ge=0, le=1024), Widget(step=2)]
FlipMethod = Annotated[str, Choices(("x-axis: vertically", "y-axis: horizontally"))]
Rotation = Annotated[str, Choices(("none", "90 degrees", "180 degrees", "270 degrees"))]
Direction = Annotated[str, Choices(("right", "down", "left", "up"))]
SpacingColor = Annotated[str, Choices(("white", "black", "red", "green", "blue"))]


class PaddedImage(NamedTuple):
    """A larger picture and what of it is new."""

    IMAGE: Image
    MASK: Mask


@node("ImageCrop", category="image/transform", title="Image Crop")
def crop_image(*, image: Image, width: Size = 512, height: Size = 512, x: Side = 0, y: Side = 0) -> Image:
    """Cut a rectangle out of images [B, H, W, C]; what of it lies outside is left out.

    Args:
        image: What to cut.
        width: Of the rectangle.
        height: Of the rectangle.
        x: Its left edge; the last column at most.
        y: Its upper edge; the last row at most.
    """
    x, y = min(x, image.shape[2] - 1), min(y, image.shape[1] - 1)
    return image[:, y : y + height, x : x + width].clone()


@node("ImageFlip", category="image/transform")
def flip_image(*, image: Image, flip_method: FlipMethod) -> Image:
    """Mirror images [B, H, W, C].

    Args:
        image: What to mirror.
        flip_method: `x-axis` swaps top and bottom, `y-axis` left and right.
    """
    return image.flip(1 if flip_method.startswith("x") else 2)


@node("ImageRotate", category="image/transform")
def rotate_image(*, image: Image, rotation: Rotation) -> Image:
    """Turn images [B, H, W, C] clockwise; a quarter turn swaps width and height.

    Args:
        image: What to turn.
        rotation: How far.
    """
    quarters = {"none": 0, "90 degrees": 1, "180 degrees": 2, "270 degrees": 3}[rotation]
    return image.rot90(quarters, dims=(2, 1))


@node("ImagePadForOutpaint", category="image", title="Pad Image for Outpainting")
def pad_image(
    *,
    image: Image,
    left: Margin = 0,
    top: Margin = 0,
    right: Margin = 0,
    bottom: Margin = 0,
    feathering: Side = 40,
) -> PaddedImage:
    """Put grey around images [B, H, W, C] to be painted over, with a mask [1, H, W] of what is new.

    Args:
        image: What to extend.
        left: Pixels to add on the left.
        top: Pixels to add above.
        right: Pixels to add on the right.
        bottom: Pixels to add below.
        feathering: How many pixels of the old image are painted over as well, less and less.
    """
    from nodes.diffusion.layout import pad_for_outpaint

    return PaddedImage(*pad_for_outpaint(image, left, top, right, bottom, feathering))


@node("ImageStitch", category="image/transform", title="Image Stitch")
def stitch_images(
    *,
    image1: Image,
    direction: Direction = "right",
    match_image_size: bool = True,
    spacing_width: Spacing = 0,
    spacing_color: SpacingColor = "white",
    image2: Image | None = None,
) -> Image:
    """Put one image beside another; of batches [B, H, W, C], each beside each.

    Args:
        image1: Stays as it is.
        direction: Where the second image goes.
        match_image_size: Scale the second image to the side it touches; else the smaller one is centred.
        spacing_width: Pixels between the two, rounded up to an even number.
        spacing_color: What is between the two.
        image2: What is put beside the first image; without it that is the result.
    """
    from nodes.diffusion.layout import stitch

    if image2 is None:
        return image1
    return stitch(image1, image2, direction, match_size=match_image_size, spacing=spacing_width, color=spacing_color)
