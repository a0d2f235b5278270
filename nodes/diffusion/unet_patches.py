"""Patches of the UNet: of feature maps between its blocks, and of self-attention."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from typing_extensions import override

from nodes.diffusion.patches import Hooks, Patch, Start
from nodes.diffusion.resize import resize
from nodes.diffusion.token_merging import merging
from nodes.diffusion.tweaks import Site, Spot, Tweaks, Undo
from nodes.diffusion.unet import split_heads

if TYPE_CHECKING:
    from nodes.diffusion.guidance import Moment

_MIDDLE: tuple[Spot, int] = ("middle", 0)
_SMALLEST_TILE = 4  # latent pixels


@dataclass(frozen=True, slots=True)
class FreeU(Patch):
    """Strengthens the backbone of the decoder and weakens the low frequencies of its skip connections.

    Source: Si et al. 2023 (arXiv:2309.11497); `by_structure` is its second version, which strengthens where the
    feature map is high.

    Attributes:
        b1, b2: factors of the backbone where it is 4 and 2 times as wide as the UNet's first block.
        s1, s2: factors of the low frequencies there.
    """

    b1: float
    b2: float
    s1: float
    s2: float
    by_structure: bool

    @override
    def start(self, run: Start) -> Hooks:
        width = run.config.model_channels
        factors = {4 * width: (self.b1, self.s1), 2 * width: (self.b2, self.s2)}

        def join(h: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
            if h.shape[1] not in factors:
                return h, skip
            backbone, low = factors[h.shape[1]]
            first, second = h.tensor_split([h.shape[1] // 2], dim=1)
            if self.by_structure:
                mean = h.mean(1, keepdim=True)
                lowest, highest = mean.amin((-1, -2), keepdim=True), mean.amax((-1, -2), keepdim=True)
                height = ((mean - lowest) / (highest - lowest)).nan_to_num()  # a flat map is high nowhere
                first = first * ((backbone - 1) * height + 1)
            else:
                first = first * backbone
            return torch.cat([first, second], dim=1), _scale_low_frequencies(skip, low)

        return Hooks(tweaks=Tweaks(outputs=(join,)))


def _scale_low_frequencies(x: Tensor, scale: float) -> Tensor:
    """Scales the mean and the lowest frequencies, of either sign, of [B, C, h, w]."""
    spectrum = torch.fft.fftshift(torch.fft.fftn(x.float(), dim=(-2, -1)), dim=(-2, -1))
    mask = torch.ones(x.shape[-2:], device=x.device)
    row, column = x.shape[-2] // 2, x.shape[-1] // 2
    mask[row - 1 : row + 1, column - 1 : column + 1] = scale
    return torch.fft.ifftn(torch.fft.ifftshift(spectrum * mask, dim=(-2, -1)), dim=(-2, -1)).real.to(x.dtype)


@dataclass(frozen=True, slots=True)
class DeepShrink(Patch):
    """Shrinks the feature map at an input block while noise is high, so that large pictures keep their composition.

    Source: kohya-ss' "Deep Shrink" (2023).
    """

    block: int
    factor: float
    start_percent: float
    end_percent: float
    after_skip: bool
    downscale_method: str
    upscale_method: str

    @override
    def start(self, run: Start) -> Hooks:
        high, low = (run.parametrisation.sigma_at(percent) for percent in (self.start_percent, self.end_percent))

        def shrink(h: Tensor, number: int, sigma: float) -> Tensor:
            if number != self.block or not low <= sigma <= high:
                return h
            width, height = (max(1, round(side / self.factor)) for side in (h.shape[-1], h.shape[-2]))
            return resize(h, width, height, self.downscale_method)

        def join(h: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
            if h.shape[-2:] == skip.shape[-2:]:
                return h, skip
            return resize(h, skip.shape[-1], skip.shape[-2], self.upscale_method), skip

        if self.after_skip:
            return Hooks(tweaks=Tweaks(skipped=(shrink,), outputs=(join,)))
        return Hooks(tweaks=Tweaks(inputs=(shrink,), outputs=(join,)))


@dataclass(frozen=True, slots=True)
class HyperTile(Patch):
    """Cuts the queries of self-attention at high resolution into tiles (tfernd's HyperTile, MIT, 2023).

    Attributes:
        tile_size: of the picture, in pixels.
        swap_size: of how many sizes of tile one is drawn for each attention.
        max_depth: how many levels of the UNet are tiled, beyond the first.
        scale_depth: tiles of deeper levels are larger.
    """

    tile_size: int
    swap_size: int
    max_depth: int
    scale_depth: bool

    @override
    def start(self, run: Start) -> Hooks:
        width = run.config.model_channels
        widths = [width * 2**depth for depth in range(self.max_depth + 1)]
        tile = max(32, self.tile_size) // 8
        drawn = 0

        def tiles(length: int, smallest: int) -> int:
            nonlocal drawn
            drawn += 1
            smallest = min(smallest, length)
            divisors = [n for n in range(smallest, length + 1) if length % n == 0][: self.swap_size]
            return length // random.Random(drawn).choice(divisors)

        def cut(x: Tensor, site: Site) -> tuple[Tensor, Undo]:
            if x.shape[-1] not in widths:
                return x, lambda y: y
            width_, height = _sides(x.shape[1], site.size)  # the wrong way round, as in ComfyUI
            smallest = tile * (2 ** (x.shape[-1] // width - 1) if self.scale_depth else 1)
            rows, columns = tiles(height, smallest), tiles(width_, smallest)
            shape = (rows, height // rows, columns, width_ // columns)
            parts = x.unflatten(1, shape).transpose(2, 3).flatten(3, 4).flatten(0, 2)  # [B * tiles, N / tiles, C]

            def undo(y: Tensor) -> Tensor:
                y = y.unflatten(0, (-1, rows, columns)).unflatten(3, (shape[1], shape[3]))
                return y.transpose(2, 3).flatten(1, 4)

            return parts, undo

        return Hooks(tweaks=Tweaks(queries=(cut,)))


def _sides(tokens: int, size: tuple[int, int]) -> tuple[int, int]:
    """The height and width of a feature map of so many pixels in a UNet whose latents have this size."""
    for halvings in range(8):
        height, width = -(-size[0] // 2**halvings), -(-size[1] // 2**halvings)
        if height * width == tokens:
            return height, width
    aspect = size[0] / size[1]  # a map shrunk otherwise: the divisors nearest in shape
    pairs = [(n, tokens // n) for n in range(1, tokens + 1) if tokens % n == 0]
    return min(pairs, key=lambda pair: abs(pair[0] / pair[1] - aspect))


@dataclass(frozen=True, slots=True)
class TokenMerging(Patch):
    """Merges similar queries of the first level before self-attention and spreads the result (Bolya & Hoffman 2023).

    Source: "Token Merging for Fast Stable Diffusion" (arXiv:2303.17604).
    """

    ratio: float

    @override
    def start(self, run: Start) -> Hooks:
        generator: torch.Generator | None = None

        def merge(x: Tensor, site: Site) -> tuple[Tensor, Undo]:
            nonlocal generator
            if x.shape[1] != site.size[0] * site.size[1]:
                return x, lambda y: y
            generator = generator or run.generator()
            return merging(x, site.size, int(x.shape[1] * self.ratio), generator)

        return Hooks(tweaks=Tweaks(queries=(merge,)))


@dataclass(frozen=True, slots=True)
class PerturbedAttention(Patch):
    """Guides away from what the UNet makes when its middle self-attention sees only itself (Ahn et al. 2024).

    Source: "Self-Rectifying Diffusion Sampling with Perturbed-Attention Guidance" (arXiv:2403.17377).
    """

    scale: float

    @override
    def start(self, run: Start) -> Hooks:
        def identity(q: Tensor, k: Tensor, v: Tensor, site: Site) -> Tensor:
            return v

        def after(x0: Tensor, cond: Tensor, uncond: Tensor, moment: Moment) -> Tensor:
            tweaks = moment.guidance.hooks.tweaks
            tweaks = replace(tweaks, attend={**tweaks.attend, _MIDDLE: identity})
            return x0 + (cond - moment.again(moment.positive, moment.x, tweaks)) * self.scale

        return Hooks(after=(after,) if self.scale else (), needs_uncond=True)


@dataclass(frozen=True, slots=True)
class SelfAttentionGuidance(Patch):
    """Guides away from what the UNet makes of x0 blurred where its middle self-attention looks (Hong et al. 2022).

    Source: "Improving Sample Quality of Diffusion Models Using Self-Attention Guidance" (arXiv:2210.00939).
    """

    scale: float
    blur_sigma: float

    @override
    def start(self, run: Start) -> Hooks:
        # How much each pixel is looked at under the negative prompt, [B, h * w], by the size of the latents.
        seen: dict[tuple[int, int], Tensor] = {}

        def attend(q: Tensor, k: Tensor, v: Tensor, site: Site) -> Tensor:
            q, k, v = (split_heads(t, site.heads) for t in (q, k, v))
            weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
            parts = weights.chunk(len(site.sides))
            negative = next((part for part, side in zip(parts, site.sides, strict=True) if side == 1), None)
            if negative is not None:
                seen[site.size] = negative.mean(1).sum(1)
            return (weights @ v).transpose(1, 2).flatten(2)

        def after(x0: Tensor, cond: Tensor, uncond: Tensor, moment: Moment) -> Tensor:
            looked_at = seen.get((x0.shape[-2], x0.shape[-1]))
            if min(x0.shape[-2:]) <= _SMALLEST_TILE or looked_at is None or len(looked_at) != len(x0):
                return x0
            degraded = _blurred_where(uncond, looked_at, self.blur_sigma)
            again = moment.again(moment.negative, degraded + moment.x - uncond)
            return x0 + (degraded - again) * self.scale

        return Hooks(after=(after,), tweaks=Tweaks(attend={_MIDDLE: attend}), needs_uncond=True)


def _blurred_where(x0: Tensor, looked_at: Tensor, sigma: float, threshold: float = 1.0) -> Tensor:
    """x0 [B, C, h, w], blurred where a pixel [B, N] is looked at more than evenly."""
    height, width = x0.shape[-2:]
    mask = (looked_at > threshold).to(x0).reshape(len(x0), 1, *_sides(looked_at.shape[1], (height, width)))
    mask = F.interpolate(mask, (height, width))
    places = torch.arange(-4, 5, dtype=x0.dtype, device=x0.device)
    line = torch.exp(-0.5 * (places / sigma).square()) if sigma else (places == 0).to(x0)
    line = line / line.sum()
    kernel = (line[:, None] * line).expand(x0.shape[1], 1, 9, 9)
    blurred = F.conv2d(F.pad(x0, (4, 4, 4, 4), mode="reflect"), kernel, groups=x0.shape[1])
    return blurred * mask + x0 * (1 - mask)
