"""Putting images and masks over each other: pasting, blend modes and Porter-Duff operators."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from nodes.diffusion.denoiser import repeat_to
from nodes.diffusion.resize import resize


def to_channels(image: Tensor, count: int) -> Tensor:
    """The first `count` channels of [B, H, W, C]; grey is spread over colours, a missing alpha is 1, opaque."""
    if image.shape[-1] == 1 < count:
        image = image.expand(-1, -1, -1, 3)
    return F.pad(image, (0, count - image.shape[-1]), value=1.0)


def paste(
    destination: Tensor, source: Tensor, x: int, y: int, mask: Tensor | None = None, *, resize_source: bool = False
) -> Tensor:
    """Lays a source over a destination, cut at its edges.

    Args:
        destination: [B, C, H, W].
        source: [N, C, h, w]; its batch is repeated or cut to B.
        x: left edge of the source in the destination, at least 0.
        y: top edge of the source in the destination, at least 0.
        mask: [M, h', w'], scaled to the source (bilinear) and repeated to B; 1 takes the source, 0 keeps the
            destination. None takes all of the source.
        resize_source: scale the source to H x W first, bilinear.

    Returns:
        [B, C, H, W].
    """
    if resize_source:
        source = F.interpolate(source, size=destination.shape[-2:], mode="bilinear")
    result = destination.clone()
    place = result[..., y : y + source.shape[-2], x : x + source.shape[-1]]  # [B, C, h, w] that is inside
    height, width = place.shape[-2:]
    over = repeat_to(source, len(destination))[..., :height, :width].to(destination)
    if mask is not None:
        weight = F.interpolate(channelled(mask).to(destination), size=source.shape[-2:], mode="bilinear")
        weight = repeat_to(weight, len(destination))[..., :height, :width]
        over = weight * over + (1 - weight) * place
    place.copy_(over)
    return result


def channelled(mask: Tensor) -> Tensor:
    """A mask [H, W] or [..., H, W] as [B, 1, H, W]."""
    return mask.reshape(-1, 1, *mask.shape[-2:])


def combine_masks(destination: Tensor, source: Tensor, x: int, y: int, operation: str) -> Tensor:
    """Combines a mask with another that lies on it at (x, y), cut at its edges; a batch of one goes with any batch.

    Args:
        destination: [B, H, W].
        source: [N, h, w].
        x: left edge of the source in the destination, at least 0.
        y: top edge of the source in the destination, at least 0.
        operation: `multiply`, `add`, `subtract`; or `and`, `or`, `xor`, which round to 0 or 1 first.

    Returns:
        [max(B, N), H, W], 0..1.
    """
    count = max(len(destination), len(source))
    result = repeat_to(destination, count).clone()
    below = result[:, y : y + source.shape[-2], x : x + source.shape[-1]]
    above = repeat_to(source, count)[:, : below.shape[-2], : below.shape[-1]].to(below)
    below.copy_(_mask_operation(below, above, operation))
    return result.clamp(0, 1)


def _mask_operation(a: Tensor, b: Tensor, operation: str) -> Tensor:
    match operation:
        case "multiply":
            return a * b
        case "add":
            return a + b
        case "subtract":
            return a - b
    a, b = a.round().bool(), b.round().bool()
    return {"and": a & b, "or": a | b, "xor": a ^ b}[operation].float()


def blend(image: Tensor, over: Tensor, factor: float, mode: str) -> Tensor:
    """Blends a second image into the first.

    Args:
        image: [B, H, W, C], 0..1.
        over: [N, h, w, c]; cut to the first image's aspect ratio and scaled to its size (bicubic) if it has another.
        factor: 0 gives the first image, 1 the blend.
        mode: `normal`, `multiply`, `screen`, `overlay`, `soft_light` (W3C, Compositing and Blending Level 1, section
            10.1), or `difference`, which keeps its sign.

    Returns:
        [max(B, N), H, W, C], 0..1.
    """
    over = fit(to_channels(over, image.shape[-1]).to(image), *image.shape[1:3])
    count = max(len(image), len(over))
    image, over = repeat_to(image, count), repeat_to(over, count)
    return (image * (1 - factor) + _blend_mode(image, over, mode) * factor).clamp(0, 1)


def _blend_mode(a: Tensor, b: Tensor, mode: str) -> Tensor:
    match mode:
        case "multiply":
            return a * b
        case "screen":
            return 1 - (1 - a) * (1 - b)
        case "overlay":
            return torch.where(a <= 0.5, 2 * a * b, 1 - 2 * (1 - a) * (1 - b))
        case "soft_light":
            lighter = torch.where(a <= 0.25, ((16 * a - 12) * a + 4) * a, a.sqrt())
            return torch.where(b <= 0.5, a - (1 - 2 * b) * a * (1 - a), a + (2 * b - 1) * (lighter - a))
        case "difference":
            return a - b
        case _:
            return b


Premultiplied = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(source, its alpha, destination, its alpha) -> (image, alpha), colours multiplied by their alpha."""

OPERATORS: dict[str, Premultiplied] = {
    "ADD": lambda s, sa, d, da: ((s + d).clamp(0, 1), (sa + da).clamp(0, 1)),
    "CLEAR": lambda s, sa, d, da: (torch.zeros_like(d), torch.zeros_like(da)),
    "DARKEN": lambda s, sa, d, da: ((1 - da) * s + (1 - sa) * d + torch.minimum(s, d), _union(sa, da)),
    "DST": lambda s, sa, d, da: (d, da),
    "DST_ATOP": lambda s, sa, d, da: (sa * d + (1 - da) * s, sa),
    "DST_IN": lambda s, sa, d, da: (d * sa, sa * da),
    "DST_OUT": lambda s, sa, d, da: ((1 - sa) * d, (1 - sa) * da),
    "DST_OVER": lambda s, sa, d, da: (d + (1 - da) * s, da + (1 - da) * sa),
    "LIGHTEN": lambda s, sa, d, da: ((1 - da) * s + (1 - sa) * d + torch.maximum(s, d), _union(sa, da)),
    "MULTIPLY": lambda s, sa, d, da: (s * d, sa * da),
    "OVERLAY": lambda s, sa, d, da: (
        torch.where(2 * d < da, 2 * s * d, sa * da - 2 * (da - s) * (sa - d)),
        _union(sa, da),
    ),
    "SCREEN": lambda s, sa, d, da: (s + d - s * d, _union(sa, da)),
    "SRC": lambda s, sa, d, da: (s, sa),
    "SRC_ATOP": lambda s, sa, d, da: (da * s + (1 - sa) * d, da),
    "SRC_IN": lambda s, sa, d, da: (s * da, sa * da),
    "SRC_OUT": lambda s, sa, d, da: ((1 - da) * s, (1 - da) * sa),
    "SRC_OVER": lambda s, sa, d, da: (s + (1 - sa) * d, sa + (1 - sa) * da),
    "XOR": lambda s, sa, d, da: ((1 - da) * s + (1 - sa) * d, (1 - da) * sa + (1 - sa) * da),
}


def porter_duff(
    source: Tensor, source_alpha: Tensor, destination: Tensor, destination_alpha: Tensor, mode: str
) -> tuple[Tensor, Tensor]:
    """Composes images with alpha: Porter & Duff 1984, table in section 4.3, and the separable modes beside it.

    `MULTIPLY` and `OVERLAY` are ComfyUI's, without the terms for what shows through where one image is transparent.

    Args:
        source: [B, H, W, C], 0..1, not multiplied by its alpha.
        source_alpha: [B, H, W, 1], 1 is opaque.
        destination: as `source`.
        destination_alpha: as `source_alpha`.
        mode: a key of `OPERATORS`.

    Returns:
        image [B, H, W, C], 0..1, divided by its alpha again and black where that is 0; and alpha [B, H, W, 1].
    """
    image, alpha = OPERATORS[mode](
        source * source_alpha, source_alpha, destination * destination_alpha, destination_alpha
    )
    return torch.where(alpha > 1e-5, image / alpha, 0).clamp(0, 1), alpha


def _union(a: Tensor, b: Tensor) -> Tensor:
    return a + b - a * b


def fit(x: Tensor, height: int, width: int) -> Tensor:
    """[B, H, W, C] cut in the middle to an aspect ratio and scaled to a size (bicubic), if it has another."""
    if x.shape[1:3] == (height, width):
        return x
    return resize(x.movedim(-1, 1), width, height, "bicubic", "center").movedim(1, -1)
