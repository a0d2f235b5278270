"""What training an adapter shares: the starter model frozen, and the loss of denoising with something added to it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nodes.diffusion.unet import Control
from training import base, captions, starter, text, vae
from training.scenes import Scene, random_scene, render

Guide = Callable[[Tensor, Tensor, Tensor], Control]  # of noisy latents, noise levels and encoded prompts


class Frozen:
    """The starter model, none of whose weights change, and what is rendered and encoded for it."""

    def __init__(self, checkpoint: Path | str = starter.STARTER, device: str = "cpu") -> None:
        self.device = device
        self.unet, self.encoder, self.vae = starter.read(Path(checkpoint))
        for module in (self.unet, self.encoder, self.vae):
            module.to(device)

    def autocast(self) -> torch.autocast:
        """bfloat16 for what gains by it."""
        return torch.autocast(self.device, torch.bfloat16)

    def pictures(self, scenes: Sequence[Scene]) -> Tensor:
        """Renders scenes: [B, 3, 128, 128] in -1..1."""
        return vae.pixels(np.stack([render(scene) for scene in scenes])).to(self.device)

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Latents of pictures, as the UNet sees them."""
        parts: list[Tensor] = []
        for part in pictures.split(50):
            with self.autocast():
                moments = self.vae.quant_conv(self.vae.encoder(part))
            parts.append(moments.float().chunk(2, dim=1)[0] * vae.LATENT_SCALE)
        return torch.cat(parts)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of latents as the UNet sees them: [B, 3, H, W] in -1..1."""
        parts = latents.split(20)
        return torch.cat([self.vae.decoder(self.vae.post_quant_conv(part / vae.LATENT_SCALE)) for part in parts]).clamp(
            -1, 1
        )

    def context(self, prompts: Sequence[str], rng: random.Random | None = None, length: int = 48) -> Tensor:
        """Encoded prompts [B, length, D]; with `rng`, unknown words are strewn in."""
        return self.encoder(text.tokens(prompts, length, rng).to(self.device)).hidden

    def error(self, z: Tensor, context: Tensor, guide: Guide | None = None, t: Tensor | None = None) -> Tensor:
        """The weighted error of the UNet's guess at noise levels `t` or some drawn by lot; `guide` adds to the UNet."""
        t = torch.randint(0, 1000, (len(z),), device=z.device) if t is None else t
        return (base.weights(t) * self.errors(z, context, guide, t)).mean()

    def errors(self, z: Tensor, context: Tensor, guide: Guide | None, t: Tensor) -> Tensor:
        """The squared error of the guess of each latent's noise: [B]."""
        noisy, t, noise = base.noised(z, t)
        control = guide(noisy, t, context) if guide else None
        guess = self.unet(noisy, t, context, control=control)
        return (guess.float() - noise).pow(2).mean((1, 2, 3))

    def sample(self, prompts: Sequence[str], guide: Guide | None = None, seed: int = 0) -> Tensor:
        """Pictures of prompts [B, 3, 128, 128] in -1..1, by 20 steps of DDIM at CFG 6."""
        empty = [""] * len(prompts)
        context = torch.cat([self.context([*empty, *prompts], length=77)])
        return self.decode(base.ddim(self.unet, context, seed=seed, guide=guide))


class Styled:
    """Pictures in a style, as latents, and what is said of them, which does not name the style."""

    def __init__(self, frozen: Frozen, style: str, count: int = 1500) -> None:
        rng = random.Random(f"styled-{style}")
        self.scenes = [random_scene(rng, style=style) for _ in range(count)]
        self.latents = torch.cat([frozen.encode(frozen.pictures(self.scenes[i : i + 50])) for i in range(0, count, 50)])

    def batch(self, count: int, rng: random.Random) -> tuple[Tensor, list[str]]:
        """Latents and captions drawn by lot."""
        numbers = [rng.randrange(len(self.scenes)) for _ in range(count)]
        return self.latents[numbers], prompts([self.scenes[number] for number in numbers], rng, 0.1)


def prompts(scenes: Sequence[Scene], rng: random.Random, empty: float) -> list[str]:
    """Captions, a share of them left empty."""
    return ["" if rng.random() < empty else captions.caption(scene, rng) for scene in scenes]


def grid(*rows: Tensor) -> Tensor:
    """Batches of pictures [B, 3, H, W] as one picture, a row for each."""
    return torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
