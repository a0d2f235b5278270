"""ControlNets, which steer a UNet by a picture; with the names of the original files.

Source: Zhang et al. 2023 (arXiv:2302.05543); union ControlNets as ComfyUI reads those of
github.com/xinsir6/ControlNetPlus: the features of the noisy latents take no part in their transformer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.control_files import UnionConfig
from nodes.diffusion.unet import Block, Control, ResBlock, Timed, input_blocks, middle_block, timestep_embedding

HINT_WIDTHS = (16, 16, 32, 32, 96, 96, 256)
_HEADS = 8  # of the transformer over the features of hints


class ControlNet(Timed):
    """A copy of a UNet's encoder that sees a hint picture and returns what to add to the UNet."""

    def __init__(
        self, config: UNetConfig, hint_channels: int = 3, hint_widths: Sequence[int] = HINT_WIDTHS,
        union: UnionConfig | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config)
        self.input_blocks, widths = input_blocks(config)
        self.zero_convs = nn.ModuleList(nn.Sequential(_zero(nn.Conv2d(width, width, 1))) for width in widths)
        if config.middle_depth < 0:  # the small ones of SDXL
            self.middle_block = Block(ResBlock(widths[-1], widths[-1], 4 * config.model_channels, config.norm_groups))
        else:
            self.middle_block = middle_block(config)
        self.middle_block_out = nn.Sequential(_zero(nn.Conv2d(widths[-1], widths[-1], 1)))
        self.input_hint_block = _hint_block(hint_channels, hint_widths, config.model_channels)
        self.union = union
        if union is not None:
            width = config.model_channels
            self.task_embedding = nn.Parameter(torch.empty(union.types, width))
            self.transformer_layes = nn.Sequential(*(_UnionLayer(width) for _ in range(union.layers)))
            self.spatial_ch_projs = nn.Linear(width, width)
            self.control_add_embedding = _TypeEmbedding(union, 4 * width)

    def forward(
        self, x: Tensor, hint: Tensor, timesteps: Tensor, context: Tensor, y: Tensor | None = None,
        union_type: int | None = None,
    ) -> Control:  # fmt: skip
        """What to add to the UNet for a batch.

        Args:
            x: [B, C, h, w], the noisy latents that the UNet sees.
            hint: [B or 1, 3, 8 h, 8 w], 0..1.
            timesteps: [B].
            context: [B, T, D].
            y: [B, adm_in_channels], the vector conditioning of SDXL.
            union_type: which kind of hint a union ControlNet is given; None leaves that to it.
        """
        dtype = next(self.parameters()).dtype
        emb, context = self.embed(timesteps, y), context.to(dtype)
        seen = self.input_hint_block(hint.to(dtype))
        if self.union is not None:
            emb = emb + self.control_add_embedding(union_type)
            if union_type is not None:
                seen = self._typed(seen, union_type)
        h = self.input_blocks[0](x.to(dtype), emb, context) + seen
        outs = [self.zero_convs[0](h)]
        for block, zero in zip(self.input_blocks[1:], self.zero_convs[1:], strict=True):
            h = block(h, emb, context)
            outs.append(zero(h))
        return Control(output=tuple(outs), middle=self.middle_block_out(self.middle_block(h, emb, context)))

    def _typed(self, seen: Tensor, union_type: int) -> Tensor:
        """Features of a hint [B, C, h, w], moved by what a transformer makes of their mean and their kind."""
        mean = seen.mean((2, 3)) + self.task_embedding[union_type]
        moved = self.transformer_layes(mean[:, None])[:, 0]  # [B, C]
        return seen + self.spatial_ch_projs(moved)[:, :, None, None]


class _UnionLayer(nn.Module):
    """Attention and a feed-forward network over the features of hints [B, N, C]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, _HEADS, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        h = self.ln_1(x)
        x = x + self.attn(h, h, h, need_weights=False)[0]
        h = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](h * torch.sigmoid(1.702 * h))


class _TypeEmbedding(nn.Module):
    """Embeds which kind of hint is given: [1, out]."""

    def __init__(self, union: UnionConfig, out: int) -> None:
        super().__init__()
        self.types, self.features = union.types, union.features
        self.linear_1 = nn.Linear(union.types * union.features, out)
        self.linear_2 = nn.Linear(out, out)

    def forward(self, union_type: int | None) -> Tensor:
        weight = self.linear_1.weight
        marks = torch.tensor([float(i == union_type) for i in range(self.types)], device=weight.device)
        embedded = timestep_embedding(marks, self.features).to(weight.dtype).flatten()[None]
        return self.linear_2(F.silu(self.linear_1(embedded)))


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
