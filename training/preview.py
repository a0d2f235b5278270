"""Trains the preview decoder, in TAESD's layout, and fits the factors that turn a latent into a rough picture.

python -m training.preview
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import save_file
from torch import Tensor, nn

from nodes.diffusion.taesd import TinyDecoder
from training import loop, vae
from training.latents import Latents
from training.pool import Pool

WIDTH = 24


class PreviewJob:
    """The decoder."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.folder: Path = chosen.out / chosen.name
        self.pairs = [(Latents(name, chosen.out), Pool(name, chosen.out)) for name in ("square", "styled")]
        self.decoder = TinyDecoder(width=WIDTH)
        self.modules = nn.ModuleDict({"decoder": self.decoder})

    def loss(self, progress: float, rng: random.Random) -> tuple[Tensor, Mapping[str, float]]:
        """How far decoded latents are from their pictures, in crops of 64 pixels."""
        zs, xs = [], []
        for _ in range(loop.share(self.chosen)):
            latents, pool = self.pairs[rng.random() < 0.15]
            z, _, (number,) = latents.batch(1, rng)
            left, top = rng.randint(0, 8), rng.randint(0, 8)
            zs.append(z[:, :, top : top + 8, left : left + 8])
            xs.append(pool.pictures[number, 8 * top : 8 * top + 64, 8 * left : 8 * left + 64])
        x = torch.cat([vae.pixels(part[None]) for part in xs]).to(self.chosen.device)
        with loop.autocast(self.chosen):
            y = self.decoder(torch.cat(zs).to(self.chosen.device)).float() * 2 - 1
        flat, slopes, l1 = vae.difference(y, x)
        return flat + 0.5 * slopes, {"l1": l1.item()}

    def review(self) -> str:
        """PSNR on pictures never trained on."""
        latents, pool = self.pairs[0]
        x = vae.pixels(pool.pictures[:32]).to(self.chosen.device)
        y = (self.decoder(latents.values[:32].float().to(self.chosen.device)) * 2 - 1).clamp(-1, 1)
        vae.save_picture(torch.cat([torch.cat(list(x[:10]), 2), torch.cat(list(y[:10]), 2)], 1),
                         self.folder / "review.png")  # fmt: skip
        return f"PSNR {vae.psnr(y, x):.2f}"

    def finish(self, folder: Path) -> None:
        """Writes the decoder; prints the factors."""
        tensors = {name: value.half().contiguous().cpu() for name, value in self.decoder.state_dict().items()}
        save_file(tensors, folder / "preview.safetensors", {"modelspec.license": "Apache-2.0"})
        factors, bias = rgb_factors(*self.pairs[0])
        print(f"latent to RGB: {factors.tolist()} + {bias.tolist()}")


def rgb_factors(latents: Latents, pool: Pool, count: int = 500) -> tuple[Tensor, Tensor]:
    """The linear map from a latent to the mean colour of its 8 x 8 pixels that fits best: [4, 3] and [3], to -1..1."""
    z = latents.values[:count].float().permute(0, 2, 3, 1).reshape(-1, 4)
    x = F.avg_pool2d(vae.pixels(pool.pictures[:count]), 8).permute(0, 2, 3, 1).reshape(-1, 3)
    fit = torch.linalg.lstsq(torch.cat([z, torch.ones(len(z), 1)], 1), x).solution
    return fit[:4], fit[4]


if __name__ == "__main__":
    loop.run(loop.options("preview", steps=1500, batch=24, lr=2e-3), PreviewJob)
