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

from nodes.diffusion.unet import Attention, UNet
from training import base, loop, starter, styles, vae
from training.frozen import Frozen, Styled, grid

_STYLE = "flat"


class Hypernetwork(nn.ModuleDict):
    """The two networks; made, they take part in a UNet."""

    def __init__(self, unet: UNet) -> None:
        super().__init__({name: _net(base.CONFIG.context_dim) for name in ("to_k", "to_v")})
        self.changed: list[_Changed] = []
        for module in unet.modules():
            if isinstance(module, Attention):
                module.to_k, module.to_v = (_Changed(module.to_k, self["to_k"]), _Changed(module.to_v, self["to_v"]))
                self.changed += [module.to_k, module.to_v]

    def scaled(self, strength: float) -> None:
        """Sets the strength of the change."""
        for module in self.changed:
            module.strength = strength


class HypernetworkJob:
    """A hypernetwork over the frozen UNet."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.frozen = Frozen(chosen.starter, chosen.device)
        self.styled = Styled(self.frozen, _STYLE)
        self.net = Hypernetwork(self.frozen.unet)
        self.modules = nn.ModuleDict({"net": self.net})

    def loss(self, progress: float, rng: random.Random) -> tuple[Tensor, Mapping[str, float]]:
        """The denoising error on flat pictures."""
        z, texts = self.styled.batch(loop.share(self.chosen), rng)
        with loop.autocast(self.chosen):
            total = self.frozen.error(z, self.frozen.context(texts, rng))
        return total, {"loss": total.item()}

    def review(self) -> str:
        """How round things are drawn at strengths 0 and 1, and a picture."""
        before, after, picture = measure(self.frozen, self.net)
        vae.save_picture(picture, self.chosen.out / self.chosen.name / "review.png")
        return f"roundness {before:.2f} at 0, {after:.2f} at 1"

    def finish(self, folder: Path) -> None:
        """Writes the file."""
        parts = [{f"linear.{name}": value.half().cpu() for name, value in net.state_dict().items()}
                 for net in self.net.values()]  # fmt: skip
        torch.save({base.CONFIG.context_dim: parts, "name": self.chosen.name, "step": self.chosen.steps,
                    "layer_structure": [1, 2, 1], "activation_func": "relu", "is_layer_norm": False,
                    "weight_initialization": "Normal", "use_dropout": False, "activate_output": False},
                   folder / f"{self.chosen.name}.pt")  # fmt: skip


class _Changed(nn.Module):
    """A projection of its input and what a small network makes of that."""

    def __init__(self, project: nn.Module, net: nn.Module) -> None:
        super().__init__()
        self.project, self.net, self.strength = project, net, 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, N, C]."""
        return self.project(x + self.strength * self.net(x))


def load(path: Path, unet: UNet) -> Hypernetwork:
    """Reads a trained hypernetwork and makes it take part in a UNet."""
    net = Hypernetwork(unet)
    parts = torch.load(path, weights_only=True)[base.CONFIG.context_dim]
    for module, tensors in zip(net.values(), parts, strict=True):
        module.load_state_dict({name.removeprefix("linear."): value.float() for name, value in tensors.items()})
    return net


@torch.no_grad()
def measure(frozen: Frozen, net: Hypernetwork) -> tuple[float, float, Tensor]:
    """How round things are drawn at strengths 0 and 1, in the middle of pictures; a picture with a row for each."""
    rows: list[Tensor] = []
    for strength in (0.0, 1.0):
        net.scaled(strength)
        rows.append(frozen.sample(styles.PROMPTS))
    before, after = (styles.roundness(row[..., 32:96, 32:96] / 2 + 0.5).mean().item() for row in rows)
    return before, after, grid(*rows)


def _net(width: int) -> nn.Sequential:
    """Starts by changing almost nothing."""
    net = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
    nn.init.normal_(net[2].weight, std=0.01)
    nn.init.zeros_(net[2].bias)
    return net


if __name__ == "__main__":
    loop.run(loop.options("hypernetwork", steps=400, batch=32, lr=2e-3, starter=str(starter.STARTER)), HypernetworkJob)
