"""Trains the autoencoder: pictures of 128 pixels to latents of 16, and back.

python -m training.vae

Crops grow over the run: many small ones first (more colours in a step), whole pictures last. The loss compares pixels,
their differences at two scales, and colours averaged over 8 pixels, without which it settles on grey for long.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nodes.diffusion.architecture import VaeConfig
from nodes.diffusion.vae import AutoencoderKL
from training import loop
from training.pool import VALIDATION, Pool

CONFIG = VaeConfig(ch=32, ch_mult=(1, 1, 2, 2), num_res_blocks=1, norm_groups=8)
LATENT_SCALE = 0.18215  # SD1's
_STYLED = 0.15  # share of the crops
_CROPS = ((0.4, 32, 16), (0.88, 64, 4), (1.0, 128, 1))  # until this progress: side, how many for one whole picture


class VaeJob:
    """Both halves together, or the decoder alone on the latents of a finished encoder."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.folder: Path = chosen.out / chosen.name
        self.pools = [Pool("square", chosen.out), Pool("styled", chosen.out)]
        self.vae = AutoencoderKL(CONFIG)
        if chosen.init:
            self.vae.load_state_dict(load_file(chosen.init))
        if chosen.decoder_only:
            for part in (self.vae.encoder, self.vae.quant_conv):
                part.requires_grad_(False)
        self.modules = nn.ModuleDict({"vae": self.vae})

    def loss(self, progress: float, rng: random.Random) -> tuple[Tensor, Mapping[str, float]]:
        """See the module."""
        side, crops = next((side, crops) for until, side, crops in _CROPS if progress < until)
        count = max(loop.share(self.chosen) * crops // 4, 1)
        x = pixels(np.stack([self._crop(side, rng) for _ in range(count)])).to(self.chosen.device)
        with loop.autocast(self.chosen):
            with torch.set_grad_enabled(not self.chosen.decoder_only):
                mean, variance = self.vae.quant_conv(self.vae.encoder(x)).float().chunk(2, dim=1)
            variance = variance.clamp(-30, 20)
            z = mean + torch.randn_like(mean) * (variance / 2).exp()
            y = self.vae.decoder(self.vae.post_quant_conv(z))
        flat, slopes, l1 = difference(y.float(), x)
        kl = 0.5 * (mean * mean + variance.exp() - 1 - variance).mean()
        figures = {"l1": l1.item(), "slopes": slopes.item(), "kl": kl.item()}
        return flat + 0.7 * slopes + self.chosen.kl * kl * (not self.chosen.decoder_only), figures

    def review(self) -> str:
        """PSNR on pictures never trained on, and a picture of some of them."""
        reports: list[str] = []
        strips: list[Tensor] = []
        for name, pool in zip(("plain", "styled"), self.pools, strict=True):
            x = pixels(pool.pictures[:32]).to(self.chosen.device)
            mean, variance = self.vae.quant_conv(self.vae.encoder(x)).chunk(2, dim=1)
            y = self.vae.decoder(self.vae.post_quant_conv(mean)).clamp(-1, 1)
            reports.append(f"PSNR {name} {psnr(y, x):.2f}")
            strips += [torch.cat(list(x[:10]), dim=2), torch.cat(list(y[:10]), dim=2)]
            if name == "plain":
                sigma = (variance / 2).exp().mean((0, 2, 3)) / mean.std((0, 2, 3))
                reports.append(f"sigma/std {', '.join(f'{value:.3f}' for value in sigma.tolist())}")
        save_picture(torch.cat(strips, dim=1), self.folder / "review.png")
        return "  ".join(reports)

    def finish(self, folder: Path) -> None:
        """Normalises the latents, once, and writes the weights."""
        if not self.chosen.decoder_only:
            normalise(self.vae, pixels(self.pools[0].pictures[VALIDATION : VALIDATION + 400]).to(self.chosen.device))
        save_file({name: value.contiguous().cpu() for name, value in self.vae.state_dict().items()},
                  folder / "vae.safetensors")  # fmt: skip

    def _crop(self, side: int, rng: random.Random) -> np.ndarray:
        pool = self.pools[rng.random() < _STYLED]
        number = rng.randrange(VALIDATION, len(pool))
        picture = pool.pictures[number]
        full = picture.shape[0]
        if side < full:
            x = y = (full - side) / 2
            if rng.random() < 0.75:  # around a thing, where there is something to learn
                thing = rng.choice(pool.scenes[number].things)
                x = (thing.x + rng.uniform(-1.1, 1.1) * thing.radius + 1) * full / 2 - side / 2
                y = (thing.base + (rng.uniform(-1, 1) - 1) * thing.radius + 1) * full / 2 - side / 2
            else:
                x, y = (rng.uniform(0, full - side) for _ in range(2))
            left, top = (int(min(max(at, 0), full - side)) for at in (x, y))
            picture = picture[top : top + side, left : left + side]
        return picture[:, ::-1] if rng.random() < 0.5 else picture


def pixels(pictures: np.ndarray) -> Tensor:
    """Pictures [B, H, W, 3] uint8 as [B, 3, H, W] float, -1..1."""
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def difference(y: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How far pictures are apart: in pixels and averaged colours, in slopes at two scales, and in pixels alone."""
    l1 = (y - x).abs().mean()
    coarse = F.avg_pool2d(y, 8) - F.avg_pool2d(x, 8)
    chroma = coarse - coarse.mean(1, keepdim=True)
    flat = l1 + coarse.pow(2).mean() + coarse.abs().mean() + 2 * chroma.abs().mean()
    slopes = y.new_zeros(())
    for _ in range(2):
        for axis in (2, 3):
            slopes = slopes + (y.diff(dim=axis) - x.diff(dim=axis)).abs().mean()
        y, x = F.avg_pool2d(y, 2), F.avg_pool2d(x, 2)
    return flat, slopes, l1


def psnr(y: Tensor, x: Tensor) -> float:
    """Mean peak signal-to-noise ratio of pictures in -1..1, dB."""
    return -10 * ((y - x) / 2).pow(2).mean((1, 2, 3)).log10().mean().item()


def save_picture(picture: Tensor, path: Path) -> None:
    """Writes [3, H, W] in -1..1."""
    Image.fromarray(((picture.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()).save(path)


@torch.no_grad()
def normalise(vae: AutoencoderKL, x: Tensor) -> None:
    """Gives every channel of the latents mean 0 and, times SD1's factor, deviation 1. Exact: decoding undoes it."""
    z = torch.cat([vae.quant_conv(vae.encoder(part)).chunk(2, dim=1)[0] for part in x.split(20)])
    mean, gain = z.mean((0, 2, 3)), 1 / (LATENT_SCALE * z.std((0, 2, 3)))
    into, out = vae.quant_conv, vae.post_quant_conv
    channels = len(mean)
    into.weight[:channels] *= gain.view(-1, 1, 1, 1)
    into.bias[:channels] = (into.bias[:channels] - mean) * gain
    into.bias[channels:] += 2 * gain.log()
    out.bias += (out.weight[:, :, 0, 0] * mean).sum(1)
    out.weight /= gain.view(1, -1, 1, 1)


def load(path: Path) -> AutoencoderKL:
    """The trained autoencoder."""
    vae = AutoencoderKL(CONFIG)
    vae.load_state_dict(load_file(path))
    return vae.eval().requires_grad_(False)


if __name__ == "__main__":
    loop.run(
        loop.options("vae", steps=8000, batch=12, lr=1.2e-3, kl=4e-3, init="", decoder_only=0),
        VaeJob,
    )
