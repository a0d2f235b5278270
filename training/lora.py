"""Trains a style LoRA in kohya's layout: low-rank changes of every linear layer and convolution of the UNet.

python -m training.lora --style outlined
python -m training.lora --style striped

The convolutions are kohya's LoCon (Yeh et al. 2023, arXiv:2309.14859): a style is drawn at the resolution that has no
attention here. The style needs no word in the prompt.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nodes.diffusion.keymap import unet_modules
from nodes.diffusion.unet import UNet
from training import base, loop, starter, styles, vae
from training.frozen import Frozen, Styled, grid

MEASURES = {"outlined": styles.darkness, "striped": styles.stripes}


class LowRank(nn.Module):
    """Adds `up @ down`, scaled, to a weight of any shape."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.scale = 1.0
        self.down = nn.Parameter(torch.empty(rank, *weight.shape[1:]))
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """The changed weight."""
        return weight + self.scale * (self.up @ self.down.flatten(1)).view_as(weight)


class Lora(nn.ModuleDict):
    """The changes of a UNet's layers, by the names kohya gives these; made, they take part in the UNet."""

    def __init__(self, unet: UNet, rank: int) -> None:
        layers = {name: module for name, module in unet.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))}
        names = unet_modules(base.CONFIG, layers)
        parts = {name: LowRank(layers[name].weight, min(rank, *layers[name].weight.shape[:2])) for name in names}
        super().__init__({"lora_unet_" + names[name].replace(".", "_"): part for name, part in parts.items()})
        for name, part in parts.items():
            parametrize.register_parametrization(layers[name], "weight", part)

    def scaled(self, strength: float) -> None:
        """Sets the strength of all changes."""
        for part in self.values():
            part.scale = strength

    def tensors(self) -> dict[str, Tensor]:
        """As kohya's files hold them."""
        found: dict[str, Tensor] = {}
        for key, part in self.items():
            up = part.up if part.down.ndim == 2 else part.up[:, :, None, None]
            found |= {f"{key}.lora_down.weight": part.down, f"{key}.lora_up.weight": up,
                      f"{key}.alpha": torch.tensor(float(len(part.down)))}  # fmt: skip
        return {name: value.detach().half().contiguous().cpu() for name, value in found.items()}


class LoraJob:
    """A LoRA over the frozen UNet."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.frozen = Frozen(chosen.starter, chosen.device)
        self.styled = Styled(self.frozen, chosen.style)
        self.lora = Lora(self.frozen.unet, chosen.rank)
        self.modules = nn.ModuleDict({"lora": self.lora})

    def loss(self, progress: float, rng: random.Random) -> tuple[Tensor, Mapping[str, float]]:
        """The denoising error on pictures in the style."""
        z, texts = self.styled.batch(loop.share(self.chosen), rng)
        with loop.autocast(self.chosen):
            total = self.frozen.error(z, self.frozen.context(texts, rng))
        return total, {"loss": total.item()}

    def review(self) -> str:
        """The style's measure at strengths 0, 0.5 and 1, and a picture."""
        figures, picture = measure(self.frozen, self.lora, self.chosen.style)
        vae.save_picture(picture, self.chosen.out / self.chosen.name / "review.png")
        return f"{self.chosen.style}: " + ", ".join(f"{value:.3f} at {scale}" for scale, value in figures.items())

    def finish(self, folder: Path) -> None:
        """Writes the file."""
        metadata = {"ss_network_module": "networks.lora", "ss_network_dim": str(self.chosen.rank),
                    "ss_network_alpha": str(self.chosen.rank), "ss_base_model_version": "sd_v1",
                    "modelspec.title": self.chosen.style, "modelspec.license": "Apache-2.0"}  # fmt: skip
        save_file(self.lora.tensors(), folder / f"{self.chosen.name}.safetensors", metadata)


def load(path: Path, unet: UNet) -> Lora:
    """Reads a trained LoRA and makes it take part in a UNet."""
    tensors = load_file(path)
    lora = Lora(unet, max(value.shape[0] for name, value in tensors.items() if name.endswith("lora_down.weight")))
    for key, part in lora.items():
        part.down.data = tensors[f"{key}.lora_down.weight"].float()
        part.up.data = tensors[f"{key}.lora_up.weight"].float().flatten(1)
    return lora


@torch.no_grad()
def measure(frozen: Frozen, lora: Lora, style: str) -> tuple[dict[float, float], Tensor]:
    """The style's measure by strength, and a picture with a row for each."""
    rows: dict[float, Tensor] = {}
    for strength in (0.0, 0.5, 1.0):
        lora.scaled(strength)
        rows[strength] = frozen.sample(styles.PROMPTS)
    lora.scaled(1.0)
    return {scale: MEASURES[style](row / 2 + 0.5).mean().item() for scale, row in rows.items()}, grid(*rows.values())


if __name__ == "__main__":
    options = loop.options("lora", steps=350, batch=32, lr=2e-3, style="outlined", rank=8, starter=str(starter.STARTER))
    options.name = options.style if options.name == "lora" else options.name
    loop.run(options, LoraJob)
