"""Trains the ControlNet and the T2I-Adapter that follow edges, in the layouts of the original files.

python -m training.controlnet                                  the ControlNet
python -m training.controlnet --kind adapter --name adapter --steps 800    the T2I-Adapter

Half of the prompts are empty and none names sizes or places, so that the edges have to be believed. The error counts as
that of x0, up to a limit: where things are is decided while noise is high, and shows little in the error of the noise.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nodes.diffusion.adapter import Adapter, adapter_control
from nodes.diffusion.control_files import AdapterConfig
from nodes.diffusion.controlnet import ControlNet
from nodes.diffusion.unet import Control, UNet
from training import base, captions, loop, starter, vae
from training.edges import edges
from training.frozen import Frozen, Guide, grid
from training.latents import Latents
from training.pool import Pool
from training.scenes import Scene, random_scene

HINT_WIDTHS = (16, 16, 32, 32, 64, 64, 128)
ADAPTER = AdapterConfig(channels=(128, 128))  # of the UNet's two levels
_PREFIX = "control_model."  # of a ControlNet's tensors; an adapter's have none
_EMPTY = 0.5
_LEVELS = 300, 1000  # of noise: outlines are decided there
_HEAVIEST = 30.0  # weight of an error


class ControlJob:
    """A ControlNet or an adapter over the frozen UNet."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.frozen = Frozen(chosen.starter, chosen.device)
        self.pool, self.latents = Pool("square", chosen.out), Latents("square", chosen.out)
        self.net = Adapter(ADAPTER) if chosen.kind == "adapter" else _controlnet(self.frozen.unet)
        self.modules = nn.ModuleDict({"net": self.net})

    def loss(self, progress: float, rng: random.Random) -> tuple[Tensor, Mapping[str, float]]:
        """The denoising error, given edges."""
        z, scenes, numbers = self.latents.batch(loop.share(self.chosen), rng)
        hint = hints(vae.pixels(self.pool.pictures[numbers]).to(self.chosen.device))
        texts = ["" if rng.random() < _EMPTY else captions.plain(unplaced(scene)) for scene in scenes]
        t = torch.randint(*_LEVELS, (len(z),)).to(self.chosen.device)
        with loop.autocast(self.chosen):
            context = self.frozen.context(texts, rng)
            errors = self.frozen.errors(z.to(self.chosen.device), context, guide(self.net, hint), t)
        signal = base.alphas(t.device)[t]
        total = (errors * ((1 - signal) / signal).clamp(max=_HEAVIEST)).mean()
        return total, {"loss": total.item(), "mse": errors.mean().item()}

    def review(self) -> str:
        """Edge IoU with and without, and a picture."""
        with_it, without, picture = measure(self.frozen, self.net, 8)
        vae.save_picture(picture, self.chosen.out / self.chosen.name / "review.png")
        return f"edge IoU {with_it:.2f}, without {without:.2f}"

    def finish(self, folder: Path) -> None:
        """Writes the file."""
        prefix = _PREFIX if isinstance(self.net, ControlNet) else ""
        tensors = {prefix + name: value.half().contiguous().cpu() for name, value in self.net.state_dict().items()}
        save_file(tensors, folder / f"{self.chosen.name}.safetensors", {"modelspec.license": "Apache-2.0"})


def load(path: Path) -> ControlNet | Adapter:
    """Reads a trained ControlNet or adapter."""
    tensors = {name: value.float() for name, value in load_file(path).items()}
    net: ControlNet | Adapter = Adapter(ADAPTER)
    if any(name.startswith(_PREFIX) for name in tensors):
        net, tensors = ControlNet(base.CONFIG, hint_widths=HINT_WIDTHS), starter.cut(tensors, _PREFIX)
    net.load_state_dict(tensors)
    return net.eval().requires_grad_(False)


def guide(net: ControlNet | Adapter, hint: Tensor) -> Guide:
    """What the net adds for hints [B, 3, H, W]; they are repeated for a batch of prompts with and without words."""

    def add(x: Tensor, t: Tensor, context: Tensor) -> Control:
        seen = hint.repeat(len(x) // len(hint), 1, 1, 1)
        return adapter_control(net(seen), base.CONFIG) if isinstance(net, Adapter) else net(x, seen, t, context)

    return add


@torch.no_grad()
def measure(frozen: Frozen, net: ControlNet | Adapter, count: int) -> tuple[float, float, Tensor]:
    """Edge IoU with the net and without it, of prompts that name neither size nor place; a picture of the first 8."""
    rng = random.Random("controlled")
    scenes = [random_scene(rng, two=0.4) for _ in range(count)]
    pictures = frozen.pictures(scenes)
    hint = hints(pictures)
    texts = [captions.plain(unplaced(scene)) for scene in scenes]
    guided, plain = frozen.sample(texts, guide(net, hint)), frozen.sample(texts)
    return iou(guided, hint), iou(plain, hint), grid(*(row[:8] for row in (pictures, hint * 2 - 1, guided, plain)))


def hints(pictures: Tensor) -> Tensor:
    """The edges of pictures [B, 3, H, W] in -1..1, as three equal channels of 0 and 1."""
    return edges(pictures / 2 + 0.5).expand(-1, 3, -1, -1)


def unplaced(scene: Scene) -> Scene:
    """A scene of whose sizes and places a caption has nothing to say."""
    return replace(scene, things=tuple(replace(thing, size="medium", place="center") for thing in scene.things))


def iou(pictures: Tensor, hint: Tensor, reach: int = 2) -> float:
    """Intersection over union of the edges of pictures and of a hint, both thickened by `reach` pixels: the mean."""
    found, wanted = (F.max_pool2d(lines, 2 * reach + 1, 1, reach) > 0
                     for lines in (edges(pictures / 2 + 0.5), hint[:, :1]))  # fmt: skip
    both, either = (found & wanted).sum((1, 2, 3)), (found | wanted).sum((1, 2, 3))
    return (both / either.clamp(min=1)).mean().item()


def _controlnet(unet: UNet) -> ControlNet:
    """A ControlNet that starts as the UNet's encoder."""
    net = ControlNet(base.CONFIG, hint_widths=HINT_WIDTHS)
    own = unet.state_dict()
    net.load_state_dict({name: own.get(name, value) for name, value in net.state_dict().items()})
    for layer in net.input_hint_block:  # the hint is seen from the first step, through all these layers
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return net


if __name__ == "__main__":
    loop.run(
        loop.options("controlnet", steps=1200, batch=32, lr=1e-3, kind="controlnet", starter=str(starter.STARTER)),
        ControlJob,
    )
