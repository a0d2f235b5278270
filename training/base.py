"""Trains the base model: the UNet and the text encoder together, on latents and captions.

python -m training.base

Noise prediction on SD1's noise levels. The weight of a noise level is that of Hang et al. 2023 (arXiv:2303.09556,
gamma 5), raised where noise is high: that is where background and place are decided.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.schedules import model_sigmas
from nodes.diffusion.unet import Control, UNet
from training import captions, loop, text, vae
from training.latents import Latents
from training.pool import VALIDATION
from training.scenes import Scene

CONFIG = UNetConfig(
    in_channels=4, out_channels=4, model_channels=128, channel_mult=(1, 1), num_res_blocks=(1, 1),
    transformer_depth=(0, 1), middle_depth=1, context_dim=text.CONFIG.hidden, num_heads=8, head_channels=None,
    use_linear=False,
)  # fmt: skip
_UNCONDITIONAL = 0.1  # share of empty prompts, for classifier-free guidance
_OFFSET = 0.05  # noise of whole channels, so that brightness is learnt
_OTHER_SIZES = {"wide": 0.06, "tall": 0.05, "big": 0.12}  # share of the steps of the second half
_LONG = 77  # tokens of a prompt when it is used; most training takes shorter ones
PROMPTS = (
    "a large red sphere on a blue background", "a small yellow star on the left on a purple background",
    "a blue cube on a white background", "a green cone to the left of an orange ring on a gray background",
    "a large pink heart on a teal background", "a white cylinder on a black background",
    "a purple diamond on a yellow background", "a teal sphere to the left of a red cube on a white background",
)  # fmt: skip


class BaseJob:
    """The UNet and its text encoder."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.folder: Path = chosen.out / chosen.name
        self.latents = {name: Latents(name, chosen.out) for name in ("square", *_OTHER_SIZES)}
        self.unet = UNet(CONFIG)
        self.encoder = text.load(chosen.out / "text" / "text.safetensors")
        if chosen.init:
            from training import starter  # which needs this module

            found = starter.read(Path(chosen.init))
            self.unet.load_state_dict(found.unet.state_dict())
            self.encoder.load_state_dict(found.encoder.state_dict())
        else:
            nn.init.zeros_(self.unet.out[-1].weight)
            nn.init.zeros_(self.unet.out[-1].bias)
        self.modules = nn.ModuleDict({"unet": self.unet, "text": self.encoder})

    def loss(self, progress: float, rng: random.Random) -> tuple[Tensor, Mapping[str, float]]:
        """See the module."""
        name = self._size(progress)
        latents = self.latents[name]
        count = loop.share(self.chosen) * 256 // latents.values[0, 0].numel()
        z, scenes, _ = latents.batch(max(count, 1), rng)
        length = _LONG if progress > 0.75 else 40
        rows = text.tokens(prompts(scenes, rng), length, rng).to(self.chosen.device)
        noisy, t, noise = noised(z.to(self.chosen.device))
        with loop.autocast(self.chosen):
            guess = self.unet(noisy, t, self.encoder(rows).hidden)
        errors = (guess.float() - noise).pow(2).mean((1, 2, 3))
        return (weights(t) * errors).mean(), {"mse": errors.mean().item()}

    def review(self) -> str:
        """The error at four noise levels on pictures never trained on; a picture of samples."""
        square = self.latents["square"]
        z = square.values[:VALIDATION].float().to(self.chosen.device)
        rng = random.Random("review")
        rows = text.tokens([captions.plain(scene) for scene in square.scenes[:VALIDATION]], _LONG)
        context = self.encoder(rows.to(self.chosen.device)).hidden
        torch.manual_seed(rng.getrandbits(62))
        errors: list[str] = []
        for level in (100, 400, 700, 950):
            noisy, t, noise = noised(z, torch.full((len(z),), level, device=z.device), offset=0)
            errors.append(f"mse at {level} {(self.unet(noisy, t, context) - noise).pow(2).mean().item():.4f}")
        rows = text.tokens([""] * len(PROMPTS) + list(PROMPTS), _LONG).to(z.device)
        sampled = ddim(self.unet, self.encoder(rows).hidden, seed=0) / vae.LATENT_SCALE
        decoder = vae.load(self.chosen.out / "vae" / "vae.safetensors").to(z.device)
        strip = decoder.decoder(decoder.post_quant_conv(sampled))
        vae.save_picture(torch.cat(list(strip), dim=2), self.folder / "review.png")
        return "  ".join(errors)

    def finish(self, folder: Path) -> None:
        """Writes both networks."""
        save_file({name: value.contiguous().cpu() for name, value in self.modules.state_dict().items()},
                  folder / "base.safetensors")  # fmt: skip

    def _size(self, progress: float) -> str:
        """The size of this step's pictures, the same on all workers."""
        lot = random.Random(f"size-{progress}").random()
        if progress < self.chosen.sizes_from:
            return "square"
        for name, share in _OTHER_SIZES.items():
            if lot < share:
                return name
            lot -= share
        return "square"


def prompts(scenes: Sequence[Scene], rng: random.Random) -> list[str]:
    """Captions, some of them left empty."""
    return ["" if rng.random() < _UNCONDITIONAL else captions.caption(scene, rng) for scene in scenes]


def alphas(device: torch.device | str = "cpu") -> Tensor:
    """SD1's cumulative signal, [1000]."""
    return (1 / (model_sigmas() ** 2 + 1)).float().to(device)


def noised(z: Tensor, t: Tensor | None = None, offset: float = _OFFSET) -> tuple[Tensor, Tensor, Tensor]:
    """Latents with noise of a level drawn by lot, the levels [B] and the noise."""
    t = torch.randint(0, 1000, (len(z),), device=z.device) if t is None else t
    noise = torch.randn_like(z) + offset * torch.randn(*z.shape[:2], 1, 1, device=z.device)
    signal = alphas(z.device)[t].view(-1, 1, 1, 1)
    return signal.sqrt() * z + (1 - signal).sqrt() * noise, t, noise


def weights(t: Tensor) -> Tensor:
    """What the error at each noise level counts."""
    signal = alphas(t.device)[t]
    snr = signal / (1 - signal)
    return snr.clamp(max=5) / snr * snr.clamp(0.03, 1) ** -0.5


@torch.no_grad()
def ddim(
    unet: nn.Module, context: Tensor, *, seed: int, steps: int = 20, cfg: float = 6.0,
    size: tuple[int, int] = (16, 16), guide: Callable[[Tensor, Tensor, Tensor], Control] | None = None,
) -> Tensor:  # fmt: skip
    """Latents sampled by DDIM (Song et al. 2020, arXiv:2010.02502), to look at while training.

    Args:
        context: encoded prompts, first those without and then those with words: [2 B, T, D].
        guide: what to add to the UNet, of its noisy latents, levels and prompts.

    Returns:
        [B, 4, *size].
    """
    count = len(context) // 2
    x = torch.randn(count, 4, *size, generator=torch.Generator().manual_seed(seed)).to(context.device)
    signal = alphas(context.device)
    levels = torch.linspace(999, 0, steps + 1, device=context.device).round().long()
    for t, below in itertools.pairwise(levels):
        both, at = torch.cat([x, x]), t.expand(2 * count)
        control = guide(both, at, context) if guide else None
        without, with_prompt = unet(both, at, context, control=control).chunk(2)
        noise = without + cfg * (with_prompt - without)
        clean = (x - (1 - signal[t]).sqrt() * noise) / signal[t].sqrt()
        x = signal[below].sqrt() * clean + (1 - signal[below]).sqrt() * noise
    return x


if __name__ == "__main__":
    loop.run(loop.options("base", steps=5000, batch=48, lr=1e-3, init="", sizes_from=0.5), BaseJob)
