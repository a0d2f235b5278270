"""The autoencoder between images and latents, with the names of the original files.

Source: Rombach et al. 2022 (arXiv:2112.10752), section 3.1, the KL-regularised variant; layers of taming-transformers.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from nodes.diffusion.architecture import VaeConfig

_EPS = 1e-6


class AutoencoderKL(nn.Module):
    """Encodes images [B, H, W, 3] into latents [B, 4, H/8, W/8] and back. Latents are unscaled."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(2 * config.z_channels, 2 * config.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(config.embed_dim, config.z_channels, 1)

    @property
    def scale(self) -> int:
        """Pixels of an image per latent, along each side."""
        return 2 ** (len(self.config.ch_mult) - 1)

    def encode(self, images: Tensor) -> Tensor:
        """Encodes images into the mode of the posterior.

        Args:
            images: [B, H, W, C] float, 0..1; alpha is dropped; cropped around its centre to a multiple of 8.

        Returns:
            [B, 4, H/8, W/8] float32.

        Raises:
            ValueError: an image is smaller than one latent.
        """
        dtype = self.quant_conv.weight.dtype
        pixels = cropped(images, self.scale)[..., : self.config.image_channels].movedim(-1, 1).to(dtype)
        moments = self.quant_conv(self.encoder(pixels * 2 - 1))
        return moments.chunk(2, dim=1)[0].float()

    def decode(self, latents: Tensor) -> Tensor:
        """Decodes latents [B, 4, h, w] into images [B, 8 h, 8 w, 3] float32, 0..1."""
        return self.pixels(latents).clamp(0, 1).movedim(1, -1).contiguous()

    def pixels(self, latents: Tensor) -> Tensor:
        """Decodes latents [B, 4, h, w] into [B, 3, 8 h, 8 w] float32, about 0..1: what tiles are averaged from."""
        pixels = self.decoder(self.post_quant_conv(latents.to(self.post_quant_conv.weight.dtype)))
        return pixels.float() / 2 + 0.5


def cropped(images: Tensor, multiple: int) -> Tensor:
    """Crops images [B, H, W, C] around their centre so that both sides are multiples of `multiple`.

    Raises:
        ValueError: a side is shorter than that.
    """
    height, width = (side - side % multiple for side in images.shape[1:3])
    if not height or not width:
        size = f"{images.shape[2]} x {images.shape[1]}"
        raise ValueError(f"an image of {size} pixels is too small to encode; expected {multiple} x {multiple} or more")
    top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
    return images[:, top : top + height, left : left + width]


class Encoder(nn.Module):
    """Maps pixels [B, 3, H, W], -1..1, to mean and log variance [B, 2 z, H/8, W/8]."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        groups, levels = config.norm_groups, len(config.ch_mult)
        self.conv_in = nn.Conv2d(config.image_channels, config.ch, 3, padding=1)
        self.down = nn.ModuleList()
        channels = config.ch
        for level, mult in enumerate(config.ch_mult):
            self.down.append(_Level(channels, mult * config.ch, config.num_res_blocks, groups))
            channels = mult * config.ch
            if level < levels - 1:
                self.down[level].downsample = _Downsample(channels)
        self.mid = _Middle(channels, groups)
        self.norm_out = nn.GroupNorm(groups, channels, eps=_EPS)
        self.conv_out = nn.Conv2d(channels, 2 * config.z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Encodes [B, 3, H, W]."""
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    """Maps latents [B, z, h, w] to pixels [B, 3, 8 h, 8 w], about -1..1."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        groups = config.norm_groups
        channels = config.ch * config.ch_mult[-1]
        self.conv_in = nn.Conv2d(config.z_channels, channels, 3, padding=1)
        self.mid = _Middle(channels, groups)
        levels: list[_Level] = []  # made from the lowest resolution up, numbered from the highest down
        for level in reversed(range(len(config.ch_mult))):
            out = config.ch_mult[level] * config.ch
            levels.insert(0, _Level(channels, out, config.num_res_blocks + 1, groups))
            channels = out
            if level:
                levels[0].upsample = _Upsample(channels)
        self.up = nn.ModuleList(levels)
        self.norm_out = nn.GroupNorm(groups, channels, eps=_EPS)
        self.conv_out = nn.Conv2d(channels, config.image_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Decodes [B, z, h, w]."""
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(h)))


class _Level(nn.Module):
    """The residual blocks of one resolution, then the step to the next one, where there is one."""

    def __init__(self, channels: int, out: int, count: int, groups: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(_ResBlock(out if i else channels, out, groups) for i in range(count))
        self.downsample: nn.Module | None = None
        self.upsample: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        step = self.downsample or self.upsample
        return x if step is None else step(x)


class _Middle(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.block_1 = _ResBlock(channels, channels, groups)
        self.attn_1 = _Attention(channels, groups)
        self.block_2 = _ResBlock(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class _ResBlock(nn.Module):
    def __init__(self, channels: int, out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels, eps=_EPS)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, out, eps=_EPS)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        if channels != out:
            self.nin_shortcut = nn.Conv2d(channels, out, 1)
        self.is_wider = channels != out

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if self.is_wider else x)


class _Attention(nn.Module):
    """Attention with one head between all pixels of the lowest resolution."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=_EPS)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (conv(h).flatten(2).transpose(1, 2).unsqueeze(1) for conv in (self.q, self.k, self.v))
        h = F.scaled_dot_product_attention(q, k, v)  # [B, 1, h * w, C]
        return x + self.proj_out(h.squeeze(1).transpose(1, 2).unflatten(2, x.shape[-2:]))


class _Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))  # only right and below, as it was trained


class _Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
