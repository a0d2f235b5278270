"""Images filtered: inverted, blurred, sharpened, with fewer colours, noise, edges and shapes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from nodegraph.context import Context
from nodegraph.spec import node
from nodegraph.types import Choices, Widget
from nodes.types import Fraction, Image, Seed

Radius = Annotated[int, Field(ge=1, le=31), Widget(step=1)]
BlurSigma = Annotated[float, Field(ge=0.1, le=10.0), Widget(step=0.1)]
SharpenSigma = Annotated[float, Field(ge=0.1, le=10.0), Widget(step=0.01)]
Sharpness = Annotated[float, Field(ge=0.0, le=5.0), Widget(step=0.01)]
Colors = Annotated[int, Field(ge=1, le=256), Widget(step=1)]
Dither = Annotated[str, Choices(("none", "floyd-steinberg", "bayer-2", "bayer-4", "bayer-8", "bayer-16"))]
EdgeThreshold = Annotated[float, Field(ge=0.01, le=0.99), Widget(step=0.01)]
MorphologyName = Annotated[str, Choices(("erode", "dilate", "open", "close", "gradient", "bottom_hat", "top_hat"))]
KernelSize = Annotated[int, Field(ge=3, le=999), Widget(step=1)]


@node("ImageInvert", category="image", title="Invert Image")
def invert_image(*, image: Image) -> Image:
    """The negative of images [B, H, W, C].

    Args:
        image: What to invert.
    """
    return 1 - image


@node("ImageBlur", category="image/postprocessing")
def blur_image(*, image: Image, blur_radius: Radius = 1, sigma: BlurSigma = 1.0) -> Image:
    """Blur images [B, H, W, C] with a Gaussian.

    Args:
        image: What to blur.
        blur_radius: How many pixels on each side have a part; less than the sides of the image.
        sigma: Width of the Gaussian, in units of the radius; beyond 2 it is nearly a mean.
    """
    from nodes.diffusion.filters import blur

    return blur(image, blur_radius, sigma)


@node("ImageSharpen", category="image/postprocessing")
def sharpen_image(
    *, image: Image, sharpen_radius: Radius = 1, sigma: SharpenSigma = 1.0, alpha: Sharpness = 1.0
) -> Image:
    """Sharpen images [B, H, W, C] by what a blur takes away.

    Args:
        image: What to sharpen.
        sharpen_radius: How many pixels on each side have a part; less than the sides of the image.
        sigma: Width of the blur, in units of the radius.
        alpha: How strongly; 0 changes nothing.
    """
    from nodes.diffusion.filters import sharpen

    return sharpen(image, sharpen_radius, sigma, alpha)


@node("ImageQuantize", category="image/postprocessing")
def quantize_image(*, image: Image, colors: Colors = 256, dither: Dither) -> Image:
    """Reduce each of the images [B, H, W, C] to few colours of its own; an alpha channel stays.

    Args:
        image: What to reduce.
        colors: How many colours.
        dither: How colours in between are drawn; `bayer` draws a regular pattern.
    """
    from nodes.diffusion.filters import quantize

    return quantize(image, colors, dither)


@node("ImageAddNoise", category="image")
def add_noise_to_image(*, ctx: Context, image: Image, seed: Seed = 0, strength: Fraction = 0.5) -> Image:
    """Add Gaussian noise to images [B, H, W, C].

    Args:
        image: What to add to.
        seed: Decides the noise; the same on every device.
        strength: Standard deviation of the noise; what leaves 0..1 is clipped.
    """
    import torch

    noise = torch.randn(image.shape, generator=ctx.generator(seed)).to(image)
    return (image + strength * noise).clamp(0, 1)


@node("Canny", category="image/preprocessors")
def canny_edges(*, image: Image, low_threshold: EdgeThreshold = 0.4, high_threshold: EdgeThreshold = 0.8) -> Image:
    """Edges of images [B, H, W, C], white on black, one pixel wide (Canny 1986): a hint for ControlNets.

    Args:
        image: What to find edges in.
        low_threshold: How strong an edge must be to continue one; no more than the other.
        high_threshold: How strong an edge must be to begin.
    """
    from nodes.diffusion.canny import canny

    return canny(image.movedim(-1, 1), low_threshold, high_threshold).repeat(1, 3, 1, 1).movedim(1, -1)


@node("Morphology", category="image/postprocessing", title="ImageMorphology")
def morph_image(*, image: Image, operation: MorphologyName, kernel_size: KernelSize = 3) -> Image:
    """Grow or shrink what is bright in images [B, H, W, C], each channel by itself.

    Args:
        image: What to change.
        operation: `dilate` grows, `erode` shrinks; `open` erodes, then dilates, so that bright specks go; `close` is
            the reverse; `gradient` is dilated minus eroded; `top_hat` is what `open` takes away, `bottom_hat` what
            `close` adds.
        kernel_size: Side of the square that is looked at.
    """
    from nodes.diffusion.morphology import OPERATIONS

    return OPERATIONS[operation](image.movedim(-1, 1), kernel_size).movedim(1, -1)
