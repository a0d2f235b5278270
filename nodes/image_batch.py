"""Batches of images: made, joined, cut and counted."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import Field

from nodegraph.context import Context
from nodegraph.spec import node
from nodegraph.types import Each, Widget
from nodes.image import Size
from nodes.types import Image

Count = Annotated[int, Field(ge=1, le=4096)]
Place = Annotated[int, Field(ge=0, le=4095)]
Color = Annotated[int, Field(ge=0, le=0xFFFFFF), Widget(step=1, display="color")]


class ImageSize(NamedTuple):
    """Of a batch of images."""

    width: int
    height: int
    batch_size: int


@node("EmptyImage", category="image")
def empty_image(
    *, ctx: Context, width: Size = 512, height: Size = 512, batch_size: Count = 1, color: Color = 0
) -> Image:
    """A batch of images [B, H, W, 3] of one colour.

    Args:
        width: Of the images, in pixels.
        height: Of the images, in pixels.
        batch_size: How many.
        color: 0xRRGGBB as a number; 0 is black, 16777215 white.
    """
    import torch

    channels = torch.tensor([(color >> shift & 0xFF) / 0xFF for shift in (16, 8, 0)], device=ctx.device)
    return channels.repeat(batch_size, height, width, 1)


@node("GetImageSize", category="image", title="Get Image Size")
def image_size(*, image: Image) -> ImageSize:
    """Width, height and number of images [B, H, W, C].

    Args:
        image: What to measure.
    """
    count, height, width, _ = image.shape
    return ImageSize(width, height, count)


@node("ImageBatch", category="image", title="Batch Images")
def batch_images(*, image1: Image, image2: Image) -> Image:
    """Join two batches of images [B, H, W, C]; the second is cut and scaled to the size of the first.

    Args:
        image1: What comes first.
        image2: What comes after it; an alpha channel that only one of the two has is made opaque in the other.
    """
    import torch

    from nodes.diffusion.compositing import to_channels
    from nodes.diffusion.resize import resize

    channels = max(image1.shape[-1], image2.shape[-1])
    first, second = to_channels(image1, channels), to_channels(image2, channels).to(image1)
    if first.shape[1:] != second.shape[1:]:
        height, width = first.shape[1:3]
        second = resize(second.movedim(-1, 1), width, height, "bilinear", "center").movedim(1, -1)
    return torch.cat([first, second])


@node("RepeatImageBatch", category="image/batch")
def repeat_images(*, image: Image, amount: Count = 1) -> Image:
    """Repeat a batch of images [B, H, W, C] as a whole.

    Args:
        image: What to repeat.
        amount: How often; 2 gives two of each.
    """
    return image.repeat(amount, 1, 1, 1)


@node("ImageFromBatch", category="image/batch")
def images_from_batch(*, image: Image, batch_index: Place = 0, length: Count = 1) -> Image:
    """Take some of a batch of images [B, H, W, C].

    Args:
        image: The batch.
        batch_index: The first to take, counted from 0; the last of the batch when there are not as many.
        length: How many to take, or as many as there are.
    """
    first = min(batch_index, len(image) - 1)
    return image[first : first + length].clone()


@node("RebatchImages", category="image/batch", title="Rebatch Images")
def rebatch_images(*, images: list[Image], batch_size: Count = 1) -> Each[Image]:
    """Join the batches of a list and cut them anew; what follows runs once a batch [batch_size, H, W, C].

    Args:
        images: Batches of images of one size.
        batch_size: How many go together; the last batch may be smaller.
    """
    import torch

    sizes = sorted({f"{batch.shape[2]} x {batch.shape[1]} x {batch.shape[3]}" for batch in images})
    if len(sizes) > 1:
        raise ValueError(f"images of sizes {', '.join(sizes)} cannot share a batch; scale them to one size first")
    return Each(torch.cat(images).split(batch_size) if images else ())
