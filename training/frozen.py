"""What training an adapter shares: the starter model frozen, and the loss of denoising with something added to it."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nodes.diffusion.unet import Control
from training import base, captions, loop, starter, text, vae
from training.scenes import Scene, random_scene, render

Guide = Callable[[Tensor, Tensor, Tensor], Control | None]  # of noisy latents, levels and prompts


class Frozen:
    """The starter model, none of whose weights change, and what is rendered and encoded on the fly."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.folder: Path = chosen.out / chosen.name
        self.unet, self.encoder, self.vae = starter.read(Path(chosen.starter))
        for module in (self.unet, self.encoder, self.vae):
            module.to(chosen.device)

    def draw(self, count: int, rng: random.Random, style: str | None = None) -> tuple[list[Scene], Tensor]:
        """Scenes and their pictures [B, 3, H, W] in -1..1."""
        scenes = [random_scene(rng, style=style) for _ in range(count)]
        return scenes, self.pictures(scenes)

    def pictures(self, scenes: Sequence[Scene]) -> Tensor:
        """Renders scenes: [B, 3, 128, 128] in -1..1."""
        return vae.pixels(np.stack([render(scene) for scene in scenes])).to(self.chosen.device)

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Latents as the UNet sees them."""
        with loop.autocast(self.chosen):
            moments = self.vae.quant_conv(self.vae.encoder(pictures))
        return moments.float().chunk(2, dim=1)[0] * vae.LATENT_SCALE

    def context(self, prompts: Sequence[str], rng: random.Random | None = None, length: int = 48) -> Tensor:
        """Encoded prompts [B, length, D]."""
        rows = text.tokens(prompts, length, rng).to(self.chosen.device)
        return self.encoder(rows).hidden

    def error(self, z: Tensor, context: Tensor, guide: Guide | None = None, t: Tensor | None = None) -> Tensor:
        """The weighted error of the UNet's guess at a noise level drawn by lot; `guide` says what is added to it."""
        noisy, t, noise = base.noised(z, t)
        control = guide(noisy, t, context) if guide else None
        guess = self.unet(noisy, t, context, control=control)
        return (base.weights(t) * (guess.float() - noise).pow(2).mean((1, 2, 3))).mean()

    def show(self, name: str, *rows: Tensor) -> None:
        """Writes pictures, a row for each batch."""
        vae.save_picture(torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1), self.folder / f"{name}.png")


def prompts(scenes: Sequence[Scene], rng: random.Random, empty: float) -> list[str]:
    """Captions, a share of them left empty."""
    return ["" if rng.random() < empty else captions.caption(scene, rng) for scene in scenes]
