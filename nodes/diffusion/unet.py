"""The UNet of Stable Diffusion 1, 2, XL and the XL refiner, with the names of the original files.

Source: Rombach et al. 2022 (arXiv:2112.10752) and Podell et al. 2023 (arXiv:2307.01952); residual blocks and the
timestep embedding after Dhariwal & Nichol 2021 (arXiv:2105.05233).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.tweaks import NO_TWEAKS, Tweaked, Tweaks


@dataclass(frozen=True, slots=True)
class Control:
    """What a ControlNet or an adapter adds inside the UNet; None adds nothing.

    Attributes:
        input: added to what each input block returns, in their order.
        middle: added to what the middle block returns.
        output: added to the skip connection that each input block hands to the decoder, in their order.
    """

    input: tuple[Tensor | None, ...] = ()
    middle: Tensor | None = None
    output: tuple[Tensor | None, ...] = ()


class Timed(nn.Module):
    """What a UNet and a ControlNet share: how they are told the timestep and the vector conditioning."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.time_embed = embedding(config.model_channels, 4 * config.model_channels)
        if config.adm_in_channels is not None:
            self.label_emb = nn.Sequential(embedding(config.adm_in_channels, 4 * config.model_channels))
        elif config.num_classes is not None:
            self.label_emb = nn.Embedding(config.num_classes, 4 * config.model_channels)

    def embed(self, timesteps: Tensor, y: Tensor | None) -> Tensor:
        """Embeds timesteps [B] and the vector conditioning into [B, 4 * model_channels].

        `y` is [B, adm_in_channels], or [B] whole numbers below num_classes.
        """
        dtype = next(self.parameters()).dtype
        emb = self.time_embed(timestep_embedding(timesteps, self.config.model_channels).to(dtype))
        if self.config.adm_in_channels is None and self.config.num_classes is None:
            return emb
        if y is None:
            wanted = f"of width {self.config.adm_in_channels}" if self.config.num_classes is None else "of one number"
            raise ValueError(f"this model needs a vector conditioning y {wanted}; none was given")
        return emb + self.label_emb(y.to(dtype) if self.config.num_classes is None else y.long())


class UNet(Timed):
    """Predicts noise or v from a noisy latent, a timestep and a prompt."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        self.input_blocks, skips = input_blocks(config)
        self.middle_block = middle_block(config)
        self.output_blocks = _output_blocks(config, skips)
        width = config.model_channels
        self.out = nn.Sequential(
            nn.GroupNorm(config.norm_groups, width), nn.SiLU(), nn.Conv2d(width, config.out_channels, 3, padding=1)
        )

    def forward(
        self, x: Tensor, timesteps: Tensor, context: Tensor, y: Tensor | None = None,
        control: Control | None = None, tweaks: Tweaks = NO_TWEAKS,
    ) -> Tensor:  # fmt: skip
        """Predicts for a batch; computes in the dtype of the weights and returns that of `x`.

        Args:
            x: [B, C, h, w], scaled as the model was trained; any h and w.
            timesteps: [B], 0..999, fractions allowed.
            context: [B, T, D], the encoded prompt.
            y: [B, adm_in_channels], the vector conditioning of SDXL; [B] for a model with classes.
            control: residuals to add, where they have the size of what they are added to.
            tweaks: what patches change.

        Returns:
            [B, out_channels, h, w].
        """
        dtype = next(self.parameters()).dtype
        control = control or Control()
        emb = self.embed(timesteps, y)
        h, context = x.to(dtype), context.to(dtype)
        skips: list[Tensor] = []
        for i, block in enumerate(self.input_blocks):
            h = _plus(block(h, emb, context, tweaked=tweaks.at("input", i, x)), control.input, i)
            for change in tweaks.inputs:
                h = change(h, i, tweaks.sigma)
            skips.append(_plus(h, control.output, i))
            for change in tweaks.skipped:
                h = change(h, i, tweaks.sigma)
        h = self.middle_block(h, emb, context, tweaked=tweaks.at("middle", 0, x))
        h = _plus(h, (control.middle,), 0)
        for i, block in enumerate(self.output_blocks):
            skip = skips.pop()
            for join in tweaks.outputs:
                h, skip = join(h, skip)
            h = torch.cat([h, skip], dim=1)
            h = block(h, emb, context, skips[-1].shape[-2:] if skips else None, tweaks.at("output", i, x))
        return self.out(h).to(x.dtype)


def timestep_embedding(timesteps: Tensor, width: int) -> Tensor:
    """Embeds numbers [B] as cosines, then sines, of falling frequency: [B, width] float32.

    Source: Vaswani et al. 2017, section 3.5, in the order of guided-diffusion's `timestep_embedding`.
    """
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=timesteps.device)
    angles = timesteps[:, None].float() * torch.exp(steps * (-math.log(10000.0) / half))[None]
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=-1), (0, width % 2))


class Block(nn.Sequential):
    """Layers in a row, each given what it takes: the embedding, the prompt, or neither."""

    def forward(  # type: ignore[override]
        self, x: Tensor, emb: Tensor, context: Tensor, size: torch.Size | None = None, tweaked: Tweaked | None = None
    ) -> Tensor:
        """Maps x: [B, C, h, w]; emb: [B, 4 * model_channels]; context: [B, T, D]; an upsampler in it reaches `size`."""
        for layer in self:
            if isinstance(layer, ResBlock):
                x = layer(x, emb)
            elif isinstance(layer, SpatialTransformer):
                x = layer(x, context, tweaked)
            elif isinstance(layer, Upsample):
                x = layer(x, size)
            else:
                x = layer(x)
        return x


class ResBlock(nn.Module):
    """A residual block that adds the embedding of the timestep between its two convolutions."""

    def __init__(self, channels: int, out: int, emb: int, groups: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(groups, channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, out))
        # index 2 is the dropout of training
        self.out_layers = nn.Sequential(
            nn.GroupNorm(groups, out), nn.SiLU(), nn.Identity(), nn.Conv2d(out, out, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Maps [B, channels, h, w] to [B, out, h, w]."""
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class SpatialTransformer(nn.Module):
    """Transformer blocks over the pixels of a feature map, attending to each other and to the prompt."""

    def __init__(self, channels: int, depth: int, config: UNetConfig, is_cross_only: bool = False) -> None:
        super().__init__()
        self.use_linear = config.use_linear
        self.norm = nn.GroupNorm(config.norm_groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels) if config.use_linear else nn.Conv2d(channels, channels, 1)
        heads = config.num_heads or channels // (config.head_channels or channels)
        blocks = (TransformerBlock(channels, heads, config.context_dim, is_cross_only) for _ in range(depth))
        self.transformer_blocks = nn.ModuleList(blocks)
        self.proj_out = nn.Linear(channels, channels) if config.use_linear else nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, context: Tensor, tweaked: Tweaked | None = None) -> Tensor:
        """Maps [B, C, h, w], with a prompt [B, T, D], to the same shape."""
        height, width = x.shape[-2:]
        h = self.norm(x)
        if not self.use_linear:
            h = self.proj_in(h)
        h = h.flatten(2).transpose(1, 2)  # [B, h * w, C]
        if self.use_linear:
            h = self.proj_in(h)
        for block in self.transformer_blocks:
            h = block(h, context, tweaked)
        if self.use_linear:
            h = self.proj_out(h)
        h = h.transpose(1, 2).unflatten(2, (height, width))
        return x + (h if self.use_linear else self.proj_out(h))


class TransformerBlock(nn.Module):
    """Self-attention, attention to the prompt, and a gated feed-forward network, each with a residual.

    Where it is cross-only both attentions are to the prompt.
    """

    def __init__(self, channels: int, heads: int, context_dim: int, is_cross_only: bool = False) -> None:
        super().__init__()
        self.is_cross_only = is_cross_only
        self.attn1 = Attention(channels, context_dim if is_cross_only else channels, heads)
        self.attn2 = Attention(channels, context_dim, heads)
        self.ff = FeedForward(channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(self, x: Tensor, context: Tensor, tweaked: Tweaked | None = None) -> Tensor:
        """Maps [B, h * w, C], with a prompt [B, T, D], to the same shape."""
        h = self.norm1(x)
        if self.is_cross_only:
            x = x + (self.attn1(h, context) if tweaked is None else tweaked.cross(self.attn1, h, context))
        else:
            x = x + (self.attn1(h, h) if tweaked is None else tweaked(self.attn1, h))
        h = self.norm2(x)
        x = x + (self.attn2(h, context) if tweaked is None else tweaked.cross(self.attn2, h, context))
        return x + self.ff(self.norm3(x))


class Attention(nn.Module):
    """Multi-head attention of queries from `x` to keys and values from `context` (Vaswani et al. 2017, eq. 1)."""

    def __init__(self, channels: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_dim, channels, bias=False)
        self.to_v = nn.Linear(context_dim, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Maps x: [B, N, C] and context: [B, T, D] to [B, N, C]."""
        return self.to_out(self.attend(self.to_q(x), self.to_k(context), self.to_v(context)))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention itself: queries [B, N, C], keys and values [B, T, C] to [B, N, C]."""
        q, k, v = (split_heads(t, self.heads) for t in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, N, C] as [B, heads, N, C / heads]."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """A feed-forward network gated by GELU (Shazeer 2020, GEGLU)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # index 1 is the dropout of training
        self.net = nn.Sequential(_Gate(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, N, C] to the same shape."""
        return self.net(x)


class _Gate(nn.Module):
    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class Downsample(nn.Module):
    """Halves a feature map, rounding up, with a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, C, h, w] to [B, C, ceil(h / 2), ceil(w / 2)]."""
        return self.op(x)


class Upsample(nn.Module):
    """Doubles a feature map by repeating pixels, then convolves.

    A size that is odd was halved upwards, so the size to come back to is that of the skip connection joined next.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: torch.Size | None = None) -> Tensor:
        """Maps [B, C, h, w] to [B, C, *size], or to [B, C, 2 h, 2 w]."""
        return self.conv(F.interpolate(x, size=size or (2 * x.shape[-2], 2 * x.shape[-1]), mode="nearest"))


def embedding(channels: int, out: int) -> nn.Sequential:
    """Two linear layers that embed a vector: [B, channels] to [B, out]."""
    return nn.Sequential(nn.Linear(channels, out), nn.SiLU(), nn.Linear(out, out))


def input_blocks(config: UNetConfig) -> tuple[nn.ModuleList, list[int]]:
    """The encoder, which a ControlNet shares, and the channels that each of its blocks returns."""
    channels = config.model_channels
    blocks = nn.ModuleList([Block(nn.Conv2d(config.in_channels, channels, 3, padding=1))])
    widths = [channels]
    for level, mult in enumerate(config.channel_mult):
        for _ in range(config.num_res_blocks[level]):
            blocks.append(_block(config, channels, mult * config.model_channels, level))
            channels = mult * config.model_channels
            widths.append(channels)
        if level < len(config.channel_mult) - 1:
            blocks.append(Block(Downsample(channels)))
            widths.append(channels)
    return blocks, widths


def middle_block(config: UNetConfig) -> Block:
    """The block at the lowest resolution, which a ControlNet shares."""
    channels = config.model_channels * config.channel_mult[-1]
    first, last = (ResBlock(channels, channels, 4 * config.model_channels, config.norm_groups) for _ in range(2))
    return Block(first, SpatialTransformer(channels, config.middle_depth, config), last)


def _output_blocks(config: UNetConfig, skips: list[int]) -> nn.ModuleList:
    skips = list(skips)
    blocks = nn.ModuleList()
    channels = skips[-1]
    for level in reversed(range(len(config.channel_mult))):
        out = config.channel_mult[level] * config.model_channels
        for i in range(config.num_res_blocks[level] + 1):
            block = _block(config, channels + skips.pop(), out, level)
            channels = out
            if level and i == config.num_res_blocks[level]:
                block.append(Upsample(channels))
            blocks.append(block)
    return blocks


def _block(config: UNetConfig, channels: int, out: int, level: int) -> Block:
    block = Block(ResBlock(channels, out, 4 * config.model_channels, config.norm_groups))
    depth = config.transformer_depth[level]
    if depth:
        block.append(SpatialTransformer(out, depth, config, any(config.is_cross_only[level : level + 1])))
    return block


def _plus(x: Tensor, residuals: tuple[Tensor | None, ...], i: int) -> Tensor:
    """Adds a residual, if there is one of this size: where a patch shrinks x there is none, as in ComfyUI."""
    residual = residuals[i] if i < len(residuals) else None
    return x if residual is None or residual.shape[-2:] != x.shape[-2:] else x + residual.to(x)
