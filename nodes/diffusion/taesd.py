"""TAESD: a tiny autoencoder, for previews and in place of a VAE; with the names of its original files.

Source: Ollin Boer Bohan's TAESD, https://github.com/madebyollin/taesd (MIT), whose layer numbers are its file's names.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from nodegraph.errors import FileProblem
from nodes.diffusion.vae import cropped
from nodes.diffusion.weights import read_tensors

_Half = TypeVar("_Half", "TinyDecoder", "TinyEncoder")


class TinyDecoder(nn.Sequential):
    """Decodes latents as the UNet sees them, [B, C, h, w], into pictures [B, 3, 8 h, 8 w], about 0..1."""

    def __init__(self, latent_channels: int = 4, width: int = 64) -> None:
        layers: list[nn.Module] = [_Clamp(), nn.Conv2d(latent_channels, width, 3, padding=1), nn.ReLU()]
        for _ in range(3):
            layers += [_Block(width), _Block(width), _Block(width), nn.Upsample(scale_factor=2)]
            layers.append(nn.Conv2d(width, width, 3, padding=1, bias=False))
        super().__init__(*layers, _Block(width), nn.Conv2d(width, 3, 3, padding=1))


class TinyEncoder(nn.Sequential):
    """Encodes pictures [B, 3, 8 h, 8 w], 0..1, into latents as the UNet sees them, [B, C, h, w]."""

    def __init__(self, latent_channels: int = 4, width: int = 64) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), _Block(width)]
        for _ in range(3):
            layers.append(nn.Conv2d(width, width, 3, padding=1, stride=2, bias=False))
            layers += [_Block(width), _Block(width), _Block(width)]
        super().__init__(*layers, nn.Conv2d(width, latent_channels, 3, padding=1))


class TinyAutoencoder(nn.Module):
    """Encodes images [B, H, W, 3] into latents [B, 4, H/8, W/8] and back. Latents are unscaled, as those of a VAE.

    Args:
        decoder: its half.
        encoder: the other, or None where it is not there.
        latent_scale: what the UNet's family multiplies latents by.
    """

    scale = 8  # pixels of an image per latent, along each side

    def __init__(self, decoder: TinyDecoder, encoder: TinyEncoder | None, latent_scale: float) -> None:
        super().__init__()
        self.decoder, self.encoder, self.latent_scale = decoder, encoder, latent_scale

    def encode(self, images: Tensor) -> Tensor:
        """Encodes images.

        Args:
            images: [B, H, W, C] float, 0..1; alpha is dropped; cropped around its centre to a multiple of 8.

        Returns:
            [B, 4, H/8, W/8] float32.

        Raises:
            FileProblem: the encoder is not there.
            ValueError: an image is smaller than one latent.
        """
        if self.encoder is None:
            raise FileProblem(
                "this TAESD has only a decoder; put its encoder (taesd_encoder, taesdxl_encoder) beside it in the "
                "`vae_approx` folder, or wire a whole VAE"
            )
        pixels = cropped(images, self.scale)[..., :3].movedim(-1, 1)
        return self.encoder(pixels.to(next(self.encoder.parameters()))).float() / self.latent_scale

    def decode(self, latents: Tensor) -> Tensor:
        """Decodes latents [B, 4, h, w] into images [B, 8 h, 8 w, 3] float32, 0..1."""
        return self.pixels(latents).clamp(0, 1).movedim(1, -1).contiguous()

    def pixels(self, latents: Tensor) -> Tensor:
        """Decodes latents [B, 4, h, w] into [B, 3, 8 h, 8 w] float32, about 0..1: what tiles are averaged from."""
        return self.decoder((latents * self.latent_scale).to(next(self.decoder.parameters()))).float()


def read_decoder(path: Path) -> TinyDecoder:
    """The decoder of a file.

    Raises:
        FileProblem: it is none.
    """
    return _read(path, TinyDecoder, "decoder", first="1.weight", latents=1)


def read_encoder(path: Path) -> TinyEncoder:
    """The encoder of a file.

    Raises:
        FileProblem: it is none.
    """
    return _read(path, TinyEncoder, "encoder", first="14.weight", latents=0)


def _read(path: Path, half: type[_Half], name: str, *, first: str, latents: int) -> _Half:
    """One half, as wide as the convolution `first`, whose axis `latents` is that of the latents."""
    tensors = dict(read_tensors(path))
    found = tensors.get(first)
    if found is None or found.ndim != 4:
        raise FileProblem(f"{path.name} is no TAESD {name}; expected the tensors of taesd_{name}.safetensors")
    made = half(found.shape[latents], found.shape[1 - latents])
    try:
        made.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except RuntimeError as error:
        raise FileProblem(f"{path.name} is no TAESD {name}: {str(error).splitlines()[-1].strip()}") from error
    return made.requires_grad_(False).eval()


class _Clamp(nn.Module):
    """Bends what is far out towards -3..3."""

    def forward(self, x: Tensor) -> Tensor:
        return (x / 3).tanh() * 3


class _Block(nn.Module):
    """Three convolutions and what they were given."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)
