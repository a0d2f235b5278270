"""Latents turned, mirrored, cut and put side by side; a noise mask goes along."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from nodegraph.spec import node
from nodegraph.types import Choices, Widget
from nodes.types import Latent

if TYPE_CHECKING:
    from torch import Tensor

Rotation = Annotated[str, Choices(("none", "90 degrees", "180 degrees", "270 degrees"))]
FlipMethod = Annotated[str, Choices(("x-axis: vertically", "y-axis: horizontally"))]
Extent = Annotated[int, Field(ge=64, le=16384), Widget(step=8)]
Place = Annotated[int, Field(ge=0, le=16384), Widget(step=8)]
Index = Annotated[int, Field(ge=-16384, le=16384), Widget(step=1)]
Amount = Annotated[int, Field(ge=1, le=16384), Widget(step=1)]
Axis = Annotated[str, Choices(("x", "y", "t"))]
Side = Annotated[str, Choices(("x", "-x", "y", "-y", "t", "-t"))]

_SMALLEST = 8  # cells a side that cropping leaves at least, where there are as many
_AXES = {"x": -1, "y": -2, "t": -3}


@node("LatentRotate", category="latent/transform", title="Rotate Latent")
def rotate_latent(*, samples: Latent, rotation: Rotation) -> Latent:
    """Turn latents [B, C, h, w] clockwise.

    Args:
        samples: What to turn.
        rotation: By how much.
    """
    from nodes.diffusion.latents import moved

    turns = {"none": 0, "90 degrees": 1, "180 degrees": 2, "270 degrees": 3}[rotation]
    return moved(samples, lambda x: x.rot90(turns, (3, 2))) if turns else samples


@node("LatentFlip", category="latent/transform", title="Flip Latent")
def flip_latent(*, samples: Latent, flip_method: FlipMethod) -> Latent:
    """Mirror latents [B, C, h, w].

    Args:
        samples: What to mirror.
        flip_method: Top and bottom change places, or left and right.
    """
    from nodes.diffusion.latents import moved

    return moved(samples, lambda x: x.flip(2 if flip_method.startswith("x") else 3))


@node("LatentCrop", category="latent/transform", title="Crop Latent")
def crop_latent(
    *, samples: Latent, width: Extent = 512, height: Extent = 512, x: Place = 0, y: Place = 0
) -> Latent:  # fmt: skip
    """Cut a rectangle out of latents [B, C, h, w]; all numbers are pixels of the picture, eight to a cell.

    Args:
        samples: What to cut from.
        width: Of the rectangle; less where the latent ends.
        height: Of the rectangle; less where the latent ends.
        x: Left edge; moved so that 64 pixels are left.
        y: Upper edge; moved so that 64 pixels are left.
    """
    from nodes.diffusion.latents import moved

    rows, columns = samples.samples.shape[-2:]
    left, top = max(0, min(x // 8, columns - _SMALLEST)), max(0, min(y // 8, rows - _SMALLEST))
    return moved(samples, lambda t: t[..., top : top + height // 8, left : left + width // 8].clone())


@node("LatentCut", category="latent/advanced")
def cut_latent(*, samples: Latent, dim: Axis, index: Index = 0, amount: Amount = 1) -> Latent:
    """Cut a slice out of latents [B, C, h, w] along one axis; numbers are cells of eight pixels.

    Args:
        samples: What to cut from.
        dim: x is the width, y the height; t the axis before them, which in pictures is the channels.
        index: Where the slice begins; below 0 it is counted from the end.
        amount: How many cells; less where the latent ends.
    """
    from nodes.diffusion.latents import moved

    size = samples.samples.shape[_AXES[dim]]
    start = min(index, size - 1) if index >= 0 else max(size + index, 0)
    amount = min(amount, size - start)

    def cut(x: Tensor) -> Tensor:
        return x.narrow(_AXES[dim], start, amount).clone()

    return replace(samples, samples=cut(samples.samples)) if dim == "t" else moved(samples, cut)


@node("LatentConcat", category="latent/advanced")
def concat_latents(*, samples1: Latent, samples2: Latent, dim: Side) -> Latent:
    """Put latents [B, C, h, w] side by side; the second is repeated to the batch of the first.

    Args:
        samples1: The first.
        samples2: The second.
        dim: x to the right, y below; t along the axis before them, which in pictures is the channels; - the other way
            round.
    """
    from nodes.diffusion.denoiser import repeat_to
    from nodes.diffusion.latents import joined

    latents = [samples1, samples2]
    tensors = [samples1.samples, repeat_to(samples2.samples, len(samples1.samples))]
    if dim.startswith("-"):
        latents, tensors = latents[::-1], tensors[::-1]
    whole, mask = joined(latents, tensors, _AXES[dim[-1]])
    return replace(samples1, samples=whole, noise_mask=samples1.noise_mask if dim.endswith("t") else mask)
