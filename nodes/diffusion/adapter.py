"""T2I-Adapters, which steer a UNet by features of a picture, the same at every step; named as in the original files.

Source: Mou et al. 2023 (arXiv:2302.08453); files and SDXL's variant: github.com/TencentARC/T2I-Adapter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.control_files import AdapterConfig
from nodes.diffusion.unet import Control


class Adapter(nn.Module):
    """A T2I-Adapter: features of a hint picture, one for each level of a UNet."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.config = config
        self.cell = 16 if config.is_xl else 8  # pixels of the hint, along each side, of one of the first features
        width = self.cell**2 * config.hint_channels
        halving = (2,) if config.is_xl else range(1, len(config.channels))
        self.body = nn.ModuleList()
        if not config.is_light:
            self.conv_in = nn.Conv2d(width, config.channels[0], 3, padding=1)
            width = config.channels[0]
        for level, out in enumerate(config.channels):
            down = _Half(width, config.is_strided) if level in halving else None
            if config.is_light:
                self.body.append(_LightLevel(width, out, config.blocks, down))
            else:
                blocks = (_Block(width if j == 0 else out, out, config.kernel, None if j else down)
                          for j in range(config.blocks))  # fmt: skip
                self.body.extend(blocks)
            width = out

    def forward(self, hint: Tensor) -> list[Tensor]:
        """Features [B, C, h, w] of each level for hints [B, C, H, W] in 0..1, sides multiples of `cell`."""
        h = F.pixel_unshuffle(hint.to(next(self.parameters()).dtype), self.cell)
        if self.config.is_light:
            return _each(self.body, h)
        features = _each(self.body, self.conv_in(h))
        return features[self.config.blocks - 1 :: self.config.blocks]


def adapter_control(features: Sequence[Tensor], config: UNetConfig, *, is_xl: bool = False) -> Control:
    """What an adapter's features add: each to the last residual block of its level of the UNet.

    Args:
        features: of each level.
        config: of the UNet.
        is_xl: the first is added after the step down from the first level instead, and the last in the middle, since
            the features have half the size.
    """
    ends: list[int] = []  # the last residual block of each level
    for count in config.num_res_blocks:
        ends.append((ends[-1] + 1 if ends else 0) + count)
    added: list[Tensor | None] = [None] * (ends[-1] + 1)
    places = [ends[0] + 1, *ends[1:]] if is_xl else ends
    for place, feature in zip(places, features, strict=not is_xl):
        added[place] = feature
    return Control(input=tuple(added), middle=features[-1] if is_xl else None)


def _each(layers: nn.ModuleList, x: Tensor) -> list[Tensor]:
    """What each of some layers in a row returns."""
    found: list[Tensor] = []
    for layer in layers:
        x = layer(x)
        found.append(x)
    return found


class _Half(nn.Module):
    """Halves a feature map, rounding up as the UNet does."""

    def __init__(self, channels: int, is_strided: bool) -> None:
        super().__init__()
        if is_strided:
            self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.is_strided = is_strided

    def forward(self, x: Tensor) -> Tensor:
        if self.is_strided:
            return self.op(x)
        return F.avg_pool2d(x, 2, padding=(x.shape[2] % 2, x.shape[3] % 2))  # as ComfyUI pads odd sizes


class _Block(nn.Module):
    """A residual block; `in_conv` where the width changes."""

    def __init__(self, channels: int, out: int, kernel: int, down: _Half | None) -> None:
        super().__init__()
        if down is not None:
            self.down_opt = down
        self.has_step = down is not None
        if channels != out:
            self.in_conv = nn.Conv2d(channels, out, kernel, padding=kernel // 2)
        self.is_wider = channels != out
        self.block1 = nn.Conv2d(out, out, 3, padding=1)
        self.block2 = nn.Conv2d(out, out, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.has_step:
            x = self.down_opt(x)
        if self.is_wider:
            x = self.in_conv(x)
        return x + self.block2(F.relu(self.block1(x)))


class _LightLevel(nn.Module):
    """A level of a light adapter: narrow residual blocks between two projections."""

    def __init__(self, channels: int, out: int, blocks: int, down: _Half | None) -> None:
        super().__init__()
        self.down = down
        self.in_conv = nn.Conv2d(channels, out // 4, 1)
        self.body = nn.Sequential(*(_Block(out // 4, out // 4, 3, None) for _ in range(blocks)))
        self.out_conv = nn.Conv2d(out // 4, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_conv(self.body(self.in_conv(x if self.down is None else self.down(x))))
