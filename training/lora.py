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
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nodes.diffusion.keymap import unet_modules
from training import base, loop, starter, styles
from training.frozen import Frozen, prompts

MEASURES = {"outlined": styles.darkness, "striped": styles.stripes}
_POOL = 3000  # pictures rendered for a style


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


class LoraJob:
    """A LoRA over the frozen UNet."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.frozen = Frozen(chosen)
        self.parts: dict[str, LowRank] = {}
        layers = {name: module for name, module in self.frozen.unet.named_modules()
                  if isinstance(module, (nn.Linear, nn.Conv2d))}  # fmt: skip
        self.names = unet_modules(base.CONFIG, layers)
        for name in self.names:
            weight = layers[name].weight
            self.parts[name] = LowRank(weight, min(chosen.rank, *weight.shape[:2]))
        self.modules = nn.ModuleDict({name.replace(".", "_"): part for name, part in self.parts.items()})
        rng = random.Random(f"lora-{chosen.style}")
        self.scenes, self.values = [], torch.empty(0)
        for _ in range(0, _POOL, 50):
            scenes, pictures = self.frozen.draw(50, rng, chosen.style)
            self.scenes += scenes
            self.values = torch.cat([self.values, self.frozen.encode(pictures)])
        for name, part in self.parts.items():
            parametrize.register_parametrization(self.frozen.unet.get_submodule(name), "weight", part)

    def loss(self, progress: float, rng: random.Random) -> tuple[Tensor, Mapping[str, float]]:
        """The denoising error on pictures in the style."""
        numbers = [rng.randrange(64, len(self.scenes)) for _ in range(loop.share(self.chosen))]
        with loop.autocast(self.chosen):
            context = self.frozen.context(prompts([self.scenes[number] for number in numbers], rng, 0.1), rng)
            total = self.frozen.error(self.values[numbers], context)
        return total, {"loss": total.item()}

    def review(self) -> str:
        """The style's measure with the LoRA at 0, 0.5 and 1."""
        rows = {}
        for scale in (0.0, 0.5, 1.0):
            for part in self.parts.values():
                part.scale = scale
            rows[scale] = base.sample(self.frozen.unet, self.frozen.encoder, self.frozen.vae, base.PROMPTS, seed=0)
        self.frozen.show("review", *rows.values())
        measure = MEASURES[self.chosen.style]
        return f"{self.chosen.style}: " + ", ".join(
            f"{measure(row / 2 + 0.5).mean():.3f} at {scale}" for scale, row in rows.items())  # fmt: skip

    def finish(self, folder: Path) -> None:
        """Writes the file."""
        tensors: dict[str, Tensor] = {}
        for name, part in self.parts.items():
            key = "lora_unet_" + self.names[name].replace(".", "_")
            up = part.up if part.down.ndim == 2 else part.up[:, :, None, None]
            rank = len(part.down)
            tensors |= {f"{key}.lora_down.weight": part.down, f"{key}.lora_up.weight": up,
                        f"{key}.alpha": torch.tensor(float(rank))}  # fmt: skip
        metadata = {"ss_network_module": "networks.lora", "ss_network_dim": str(self.chosen.rank),
                    "ss_network_alpha": str(self.chosen.rank), "modelspec.license": "Apache-2.0",
                    "ss_base_model_version": "sd_v1", "modelspec.title": self.chosen.style}  # fmt: skip
        halves = {name: value.half().contiguous().cpu() for name, value in tensors.items()}
        save_file(halves, folder / f"{self.chosen.name}.safetensors", metadata)


if __name__ == "__main__":
    options = loop.options("lora", steps=400, batch=32, lr=2e-3, style="outlined", rank=8,
                           starter=str(starter.STARTER))  # fmt: skip
    options.name = options.style if options.name == "lora" else options.name
    loop.run(options, LoraJob)
