"""ControlNets and T2I-Adapters, which steer a UNet by a picture; with the names of the original files.

Source: Zhang et al. 2023 (arXiv:2302.05543) and Mou et al. 2023 (arXiv:2302.08453).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.unet import Control, Timed, input_blocks, middle_block

HINT_WIDTHS = (16, 16, 32, 32, 96, 96, 256)


class ControlNet(Timed):
    """A copy of a UNet's encoder that sees a hint picture and returns what to add to the UNet."""

    def __init__(self, config: UNetConfig, hint_channels: int = 3, hint_widths: Sequence[int] = HINT_WIDTHS) -> None:
        super().__init__(config)
        self.input_blocks, widths = input_blocks(config)
        self.zero_convs = nn.ModuleList(nn.Sequential(_zero(nn.Conv2d(width, width, 1))) for width in widths)
        self.middle_block = middle_block(config)
        self.middle_block_out = nn.Sequential(_zero(nn.Conv2d(widths[-1], widths[-1], 1)))
        self.input_hint_block = _hint_block(hint_channels, hint_widths, config.model_channels)

    def forward(self, x: Tensor, hint: Tensor, timesteps: Tensor, context: Tensor, y: Tensor | None = None) -> Control:
        """What to add to the UNet for a batch.

        Args:
            x: [B, C, h, w], the noisy latents that the UNet sees.
            hint: [B, 3, 8 h, 8 w], 0..1.
            timesteps: [B].
            context: [B, T, D].
            y: [B, adm_in_channels], the vector conditioning of SDXL.
        """
        dtype = next(self.parameters()).dtype
        emb, context = self.embed(timesteps, y), context.to(dtype)
        h = self.input_blocks[0](x.to(dtype), emb, context) + self.input_hint_block(hint.to(dtype))
        outs = [self.zero_convs[0](h)]
        for block, zero in zip(self.input_blocks[1:], self.zero_convs[1:], strict=True):
            h = block(h, emb, context)
            outs.append(zero(h))
        return Control(output=tuple(outs), middle=self.middle_block_out(self.middle_block(h, emb, context)))


class Adapter(nn.Module):
    """A T2I-Adapter: features of a hint picture, one for each level of a UNet, the same at every step."""

    def __init__(self, channels: Sequence[int], blocks: int = 2, hint_channels: int = 3, kernel: int = 1) -> None:
        super().__init__()
        self.blocks = blocks
        self.conv_in = nn.Conv2d(64 * hint_channels, channels[0], 3, padding=1)
        self.body = nn.ModuleList()
        width = channels[0]
        for level, out in enumerate(channels):
            for j in range(blocks):
                self.body.append(_AdapterBlock(width, out, bool(level) and j == 0, kernel))
                width = out

    def forward(self, hint: Tensor) -> list[Tensor]:
        """Features [B, C, h, w] of each level for hints [B, 3, 8 h, 8 w] in 0..1."""
        h = self.conv_in(F.pixel_unshuffle(hint, 8))
        features: list[Tensor] = []
        for i, block in enumerate(self.body):
            h = block(h)
            if (i + 1) % self.blocks == 0:
                features.append(h)
        return features


def adapter_control(features: Sequence[Tensor], config: UNetConfig) -> Control:
    """What an adapter's features add: each to the last residual block of its level of the UNet."""
    added: list[Tensor | None] = [None]  # the first block is the convolution
    for feature, count in zip(features, config.num_res_blocks, strict=True):
        added += [None] * (count - 1) + [feature, None]  # None: the step down
    return Control(input=tuple(added))


class _AdapterBlock(nn.Module):
    """A residual block; `in_conv` where the width changes."""

    def __init__(self, channels: int, out: int, down: bool, kernel: int) -> None:
        super().__init__()
        self.down = down
        if channels != out:
            self.in_conv = nn.Conv2d(channels, out, kernel, padding=kernel // 2)
        self.is_wider = channels != out
        self.block1 = nn.Conv2d(out, out, 3, padding=1)
        self.block2 = nn.Conv2d(out, out, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.down:
            x = F.avg_pool2d(x, 2)
        if self.is_wider:
            x = self.in_conv(x)
        return x + self.block2(F.relu(self.block1(x)))


def _hint_block(channels: int, widths: Sequence[int], out: int) -> nn.Sequential:
    """Convolutions from a picture to latent size; every other one from the third on halves it."""
    layers: list[nn.Module] = []
    for i, width in enumerate(widths):
        layers += [nn.Conv2d(channels, width, 3, stride=2 if i and i % 2 == 0 else 1, padding=1), nn.SiLU()]
        channels = width
    return nn.Sequential(*layers, _zero(nn.Conv2d(channels, out, 3, padding=1)))


def _zero(conv: nn.Conv2d) -> nn.Conv2d:
    """Starts at zero, so that an untrained ControlNet changes nothing."""
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
