"""Images over each other, with masks and alpha."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from nodegraph.spec import node
from nodegraph.types import Choices
from nodes.image import Side
from nodes.types import Fraction, Image, Mask

BlendMode = Annotated[str, Choices(("normal", "multiply", "screen", "overlay", "soft_light", "difference"))]
PORTER_DUFF = ("ADD", "CLEAR", "DARKEN", "DST", "DST_ATOP", "DST_IN", "DST_OUT", "DST_OVER", "LIGHTEN", "MULTIPLY",
               "OVERLAY", "SCREEN", "SRC", "SRC_ATOP", "SRC_IN", "SRC_OUT", "SRC_OVER", "XOR")  # fmt: skip
PorterDuffMode = Annotated[str, Choices(PORTER_DUFF)]


class MaskedImage(NamedTuple):
    """A picture and its transparency: the mask is 1 where the picture is transparent."""

    IMAGE: Image
    MASK: Mask


@node("ImageCompositeMasked", category="image")
def composite_image(
    *,
    destination: Image,
    source: Image,
    x: Side = 0,
    y: Side = 0,
    resize_source: bool = False,
    mask: Mask | None = None,
) -> Image:
    """Paste images [N, h, w, C] over images [B, H, W, C]; what of them lies outside is left out.

    Args:
        destination: What is pasted over.
        source: What is pasted; repeated or cut to the batch of the destination.
        x: Left edge of the source in the destination.
        y: Upper edge of the source in the destination.
        resize_source: Scale the source to the size of the destination first.
        mask: 1 takes the source, 0 keeps the destination; scaled to the source. Without it all of the source is taken.
    """
    from nodes.diffusion.compositing import paste, to_channels

    over = to_channels(source, destination.shape[-1]).movedim(-1, 1)
    return paste(destination.movedim(-1, 1), over, x, y, mask, resize_source=resize_source).movedim(1, -1)


@node("ImageBlend", category="image/postprocessing")
def blend_images(*, image1: Image, image2: Image, blend_factor: Fraction = 0.5, blend_mode: BlendMode) -> Image:
    """Blend a second image into the first [B, H, W, C]; it is cut and scaled to the size of the first.

    Args:
        image1: The base.
        image2: What is blended in.
        blend_factor: 0 gives the base, 1 the blend.
        blend_mode: How colours are combined.
    """
    from nodes.diffusion.compositing import blend

    return blend(image1, image2, blend_factor, blend_mode)


@node("SplitImageWithAlpha", category="mask/compositing", title="Split Image with Alpha")
def split_alpha(*, image: Image) -> MaskedImage:
    """Images [B, H, W, 4] as colours [B, H, W, 3] and a mask [B, H, W] that is 1 where they are transparent.

    Args:
        image: What to split; without alpha the mask is 0.
    """
    import torch

    colours = image[..., :3].clone()
    alpha = image[..., 3] if image.shape[-1] > 3 else torch.ones_like(image[..., 0])
    return MaskedImage(colours, 1 - alpha)


@node("JoinImageWithAlpha", category="mask/compositing", title="Join Image with Alpha")
def join_alpha(*, image: Image, alpha: Mask) -> Image:
    """Images [B, H, W, 3] with a mask as their alpha: [max(B, N), H, W, 4].

    Args:
        image: The colours.
        alpha: A mask [N, h, w] that is 1 where the result is transparent; scaled to the image. The shorter batch is
            repeated.
    """
    import torch
    from torch.nn.functional import interpolate

    from nodes.diffusion.compositing import channelled, to_channels
    from nodes.diffusion.denoiser import repeat_to

    count = max(len(image), len(alpha))
    mask = interpolate(channelled(alpha).to(image), size=image.shape[1:3], mode="bilinear").movedim(1, -1)
    colours = to_channels(image, 3)
    return torch.cat([repeat_to(colours, count), 1 - repeat_to(mask, count)], dim=-1)


@node("PorterDuffImageComposite", category="mask/compositing", title="Porter-Duff Image Composite")
def compose_images(
    *,
    source: Image,
    source_alpha: Mask,
    destination: Image,
    destination_alpha: Mask,
    mode: PorterDuffMode = "DST",
) -> MaskedImage:
    """Compose images [B, H, W, C] by their transparency (Porter & Duff 1984), as many as the shortest batch has.

    The source and the masks are cut and scaled to the size of the destination.

    Args:
        source: What lies above.
        source_alpha: 1 where the source is transparent.
        destination: What lies below.
        destination_alpha: 1 where the destination is transparent.
        mode: Which parts of the two remain; `SRC_OVER` is the usual one.
    """
    from nodes.diffusion.compositing import fit, porter_duff

    if source.shape[-1] != destination.shape[-1]:
        raise ValueError(
            f"source has {source.shape[-1]} channels and destination {destination.shape[-1]}; "
            "expected the same: take alpha off with SplitImageWithAlpha"
        )
    count = min(map(len, (source, source_alpha, destination, destination_alpha)))
    height, width = destination.shape[1:3]
    parts = (source, source_alpha[..., None], destination, destination_alpha[..., None])
    above, above_mask, below, below_mask = (fit(part[:count].to(destination), height, width) for part in parts)
    image, alpha = porter_duff(above, 1 - above_mask, below, 1 - below_mask, mode)
    return MaskedImage(image, 1 - alpha[..., 0])
