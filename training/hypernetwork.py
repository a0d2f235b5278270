"""Trains a hypernetwork for flat shading, in the layout of A1111's web UI.

python -m training.hypernetwork

Two small networks change what the keys and the values of every attention are made of.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from nodes.diffusion.unet import Attention
from training import base, loop, starter, styles
from training.frozen import Frozen, prompts

_POOL = 3000


class Changed(nn.Module):
    """A projection of what a small network made of its input."""

    def __init__(self, project: nn.Module, net: nn.Module) -> None:
        super().__init__()
        self.project, self.net, self.scale = project, net, 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, N, C]."""
        return self.project(x + self.scale * self.net(x))


class HypernetworkJob:
    """The two networks over the frozen UNet."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.frozen = Frozen(chosen)
        self.nets = nn.ModuleDict({name: _net(base.CONFIG.context_dim) for name in ("keys", "values")})
        self.modules = nn.ModuleDict({"nets": self.nets})
        rng = random.Random("hypernetwork")
        self.scenes, self.values = [], torch.empty(0)
        for _ in range(0, _POOL, 50):
            scenes, pictures = self.frozen.draw(50, rng, "flat")
            self.scenes += scenes
            self.values = torch.cat([self.values, self.frozen.encode(pictures)])
        self.changed: list[Changed] = []
        for module in self.frozen.unet.modules():
            if isinstance(module, Attention):
                module.to_k = Changed(module.to_k, self.nets["keys"])
                module.to_v = Changed(module.to_v, self.nets["values"])
                self.changed += [module.to_k, module.to_v]

    def loss(self, progress: float, rng: random.Random) -> tuple[Tensor, Mapping[str, float]]:
        """The denoising error on flat pictures."""
        numbers = [rng.randrange(len(self.scenes)) for _ in range(loop.share(self.chosen))]
        with loop.autocast(self.chosen):
            context = self.frozen.context(prompts([self.scenes[number] for number in numbers], rng, 0.1), rng)
            total = self.frozen.error(self.values[numbers], context)
        return total, {"loss": total.item()}

    def review(self) -> str:
        """How round things are drawn at strength 0 and 1."""
        rows = []
        for scale in (0.0, 1.0):
            for module in self.changed:
                module.scale = scale
            rows.append(base.sample(self.frozen.unet, self.frozen.encoder, self.frozen.vae, base.PROMPTS, seed=0))
        self.frozen.show("review", *rows)
        before, after = (styles.roundness(row / 2 + 0.5).mean() for row in rows)
        return f"roundness {before:.2f} at 0, {after:.2f} at 1"

    def finish(self, folder: Path) -> None:
        """Writes the file."""
        parts = [{f"linear.{name}": value.half().cpu() for name, value in net.state_dict().items()}
                 for net in self.nets.values()]  # fmt: skip
        torch.save({base.CONFIG.context_dim: parts, "name": self.chosen.name, "step": self.chosen.steps,
                    "layer_structure": [1, 2, 1], "activation_func": "relu", "is_layer_norm": False,
                    "weight_initialization": "Normal", "use_dropout": False, "activate_output": False},
                   folder / f"{self.chosen.name}.pt")  # fmt: skip


def _net(width: int) -> nn.Sequential:
    """Starts by changing almost nothing."""
    net = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
    nn.init.normal_(net[2].weight, std=0.01)
    nn.init.zeros_(net[2].bias)
    return net


if __name__ == "__main__":
    loop.run(loop.options("hypernetwork", steps=500, batch=32, lr=2e-3, starter=str(starter.STARTER)),
             HypernetworkJob)  # fmt: skip
