"""Latents added, mixed and laid over each other, and operations on them as values."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from nodegraph.spec import node
from nodegraph.types import Port, Widget
from nodes.diffusion.latent_operations import LatentOperation, Sharpen, TonemapReinhard
from nodes.latent_transform import Place
from nodes.types import Fraction, Latent, LatentValue, Mask

if TYPE_CHECKING:
    from torch import Tensor

Operation = Annotated[LatentOperation, Port("LATENT_OPERATION")]
Multiplier = Annotated[float, Field(ge=-10.0, le=10.0), Widget(step=0.01)]
ToneMultiplier = Annotated[float, Field(ge=0.0, le=100.0), Widget(step=0.01)]
SharpenRadius = Annotated[int, Field(ge=1, le=31), Widget(step=1)]
SharpenSigma = Annotated[float, Field(ge=0.1, le=10.0), Widget(step=0.1)]
SharpenAlpha = Annotated[float, Field(ge=0.0, le=5.0), Widget(step=0.01)]


@node("LatentAdd", category="latent/advanced")
def add_latents(*, samples1: Latent, samples2: Latent) -> Latent:
    """Add two latents [B, C, h, w]; the second gets the size and the batch of the first.

    Args:
        samples1: The first; its mask is kept.
        samples2: The second.
    """
    return replace(samples1, samples=samples1.samples + _alike(samples2, samples1))


@node("LatentSubtract", category="latent/advanced")
def subtract_latents(*, samples1: Latent, samples2: Latent) -> Latent:
    """Subtract a latent [B, C, h, w] from another; the second gets the size and the batch of the first.

    Args:
        samples1: From what; its mask is kept.
        samples2: What.
    """
    return replace(samples1, samples=samples1.samples - _alike(samples2, samples1))


@node("LatentMultiply", category="latent/advanced")
def multiply_latent(*, samples: Latent, multiplier: Multiplier = 1.0) -> Latent:
    """Multiply latents [B, C, h, w] by a number.

    Args:
        samples: What to multiply.
        multiplier: By what.
    """
    return replace(samples, samples=samples.samples * multiplier)


@node("LatentInterpolate", category="latent/advanced")
def interpolate_latents(*, samples1: Latent, samples2: Latent, ratio: Fraction = 1.0) -> Latent:
    """Mix two latents [B, C, h, w], directions and lengths apart; the second gets the size and the batch of the first.

    Args:
        samples1: The first; its mask is kept.
        samples2: The second.
        ratio: 1 is the first, 0 the second.
    """
    from nodes.diffusion.latents import interpolated

    return replace(samples1, samples=interpolated(samples1.samples, _alike(samples2, samples1), ratio))


@node("LatentBlend", category="_for_testing", title="Latent Blend")
def blend_latents(*, samples1: Latent, samples2: Latent, blend_factor: Fraction = 0.5) -> Latent:
    """Mix two latents [B, C, h, w]; the second gets the size of the first, a batch of one that of the other.

    Args:
        samples1: The first; its mask is kept.
        samples2: The second.
        blend_factor: 1 is the first, 0 the second.
    """
    from nodes.diffusion.latents import repeated

    first = repeated(samples1, len(samples2.samples)) if len(samples1.samples) == 1 else samples1
    second = _alike(samples2, first, "bicubic")
    return replace(first, samples=first.samples * blend_factor + second * (1 - blend_factor))


def _alike(latent: LatentValue, other: LatentValue, method: str = "bilinear") -> Tensor:
    """The samples of a latent in the shape of another."""
    from nodes.diffusion.denoiser import repeat_to
    from nodes.diffusion.latents import sized_like

    return repeat_to(sized_like(latent.samples, other.samples, method), len(other.samples))


@node("LatentComposite", category="latent", title="Latent Composite")
def composite_latents(
    *, samples_to: Latent, samples_from: Latent, x: Place = 0, y: Place = 0, feather: Place = 0
) -> Latent:  # fmt: skip
    """Lay one latent over another; all numbers are pixels of the picture, eight to a cell.

    Args:
        samples_to: Below; its size and mask are kept.
        samples_from: On top; what does not fit is cut off.
        x: Left edge of the one on top.
        y: Upper edge of the one on top.
        feather: How far the edges that lie inside fade in.
    """
    from nodes.diffusion.latents import feathered

    found = feathered(samples_from.samples, samples_to.samples, x // 8, y // 8, feather // 8)
    return replace(samples_to, samples=found)


@node("LatentCompositeMasked", category="latent")
def composite_latents_masked(
    *, destination: Latent, source: Latent, x: Place = 0, y: Place = 0, resize_source: bool = False,
    mask: Mask | None = None,
) -> Latent:  # fmt: skip
    """Lay one latent over another as far as a mask says; x and y are pixels of the picture, eight to a cell.

    Args:
        destination: Below; its size and mask are kept.
        source: On top; what does not fit is cut off.
        x: Left edge of the one on top.
        y: Upper edge of the one on top.
        resize_source: Stretch the one on top to the size of the one below.
        mask: 1 shows the one on top; stretched over it. Without one it covers.
    """
    from nodes.diffusion.compositing import paste
    from nodes.diffusion.latents import check_channels

    below, above = destination.samples, source.samples
    check_channels(above, below)
    return replace(destination, samples=paste(below, above, x // 8, y // 8, mask, resize_source=resize_source))


@node("LatentApplyOperation", category="latent/advanced/operations")
def apply_operation(*, samples: Latent, operation: Operation) -> Latent:
    """Apply an operation to latents [B, C, h, w].

    Args:
        samples: What to change.
        operation: Such as a tone map.
    """
    return replace(samples, samples=operation(samples.samples))


@node("LatentOperationTonemapReinhard", category="latent/advanced/operations")
def tonemap_operation(*, multiplier: ToneMultiplier = 1.0) -> Operation:
    """An operation that tames strong colours and contrasts (Reinhard et al. 2002).

    Args:
        multiplier: Less tames more.
    """
    return TonemapReinhard(multiplier)


@node("LatentOperationSharpen", category="latent/advanced/operations")
def sharpen_operation(
    *, sharpen_radius: SharpenRadius = 9, sigma: SharpenSigma = 1.0, alpha: SharpenAlpha = 0.1
) -> Operation:
    """An operation that sharpens.

    Args:
        sharpen_radius: How far around a cell is looked, in cells of eight pixels.
        sigma: How far of that counts.
        alpha: How strongly.
    """
    return Sharpen(sharpen_radius, sigma, alpha)
