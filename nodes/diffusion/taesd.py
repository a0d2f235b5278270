"""TAESD's decoder: a tiny network that shows latents as pictures, for previews; with the names of its original files.

Source: Ollin Boer Bohan's TAESD, https://github.com/madebyollin/taesd (MIT), whose layer numbers are its file's names.
"""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from nodegraph.errors import FileProblem
from nodes.diffusion.weights import read_tensors


class TinyDecoder(nn.Sequential):
    """Decodes latents as the UNet sees them, [B, C, h, w], into pictures [B, 3, 8 h, 8 w], about 0..1."""

    def __init__(self, latent_channels: int = 4, width: int = 64) -> None:
        layers: list[nn.Module] = [_Clamp(), nn.Conv2d(latent_channels, width, 3, padding=1), nn.ReLU()]
        for _ in range(3):
            layers += [_Block(width), _Block(width), _Block(width), nn.Upsample(scale_factor=2)]
            layers.append(nn.Conv2d(width, width, 3, padding=1, bias=False))
        super().__init__(*layers, _Block(width), nn.Conv2d(width, 3, 3, padding=1))


def read_decoder(path: Path) -> TinyDecoder:
    """The decoder of a file.

    Raises:
        FileProblem: it is none.
    """
    tensors = dict(read_tensors(path))
    first = tensors.get("1.weight")
    if first is None or first.ndim != 4:
        raise FileProblem(f"{path.name} is no TAESD decoder; expected the tensors of taesd_decoder.safetensors")
    decoder = TinyDecoder(first.shape[1], first.shape[0])
    try:
        decoder.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except RuntimeError as error:
        raise FileProblem(f"{path.name} is no TAESD decoder: {str(error).splitlines()[-1].strip()}") from error
    return decoder.requires_grad_(False).eval()


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
