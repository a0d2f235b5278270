"""Trains the ControlNet and the T2I-Adapter that follow edges, in the layouts of the original files.

python -m training.controlnet                 the ControlNet
python -m training.controlnet --kind adapter  the T2I-Adapter

Half of the prompts are empty, so that the edges have to be believed.
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

from nodes.diffusion.controlnet import Adapter, ControlNet, adapter_control
from nodes.diffusion.unet import Control
from training import base, captions, loop, starter, vae
from training.edges import edges
from training.frozen import Frozen, prompts
from training.latents import Latents
from training.pool import Pool
from training.scenes import Scene, random_scene

HINT_WIDTHS = (16, 16, 32, 32, 64, 64, 128)
ADAPTER_CHANNELS = (128, 128)  # of the UNet's two levels
_EMPTY = 0.5


class ControlJob:
    """A ControlNet or an adapter over the frozen UNet."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.frozen = Frozen(chosen)
        self.pool, self.latents = Pool("square", chosen.out), Latents("square", chosen.out)
        self.is_adapter = chosen.kind == "adapter"
        self.net: nn.Module = Adapter(ADAPTER_CHANNELS) if self.is_adapter else self._controlnet()
        self.modules = nn.ModuleDict({"net": self.net})

    def loss(self, progress: float, rng: random.Random) -> tuple[Tensor, Mapping[str, float]]:
        """The denoising error, given edges."""
        z, scenes, numbers = self.latents.batch(loop.share(self.chosen), rng)
        hint = hints(vae.pixels(self.pool.pictures[numbers]).to(self.chosen.device))
        t = torch.randint(0, 1000, (len(z),))
        t = torch.where(torch.rand(len(z)) < 0.5, (1000 - (1000 - t) * 0.6).long(), t)  # where outlines are decided
        with loop.autocast(self.chosen):
            context = self.frozen.context(prompts(scenes, rng, _EMPTY), rng)
            total = self.frozen.error(z.to(self.chosen.device), context, self._guide(hint), t.to(self.chosen.device))
        return total, {"loss": total.item()}

    def review(self) -> str:
        """Edge IoU of pictures in other colours with and without the control; a picture of them."""
        scenes, wanted, texts = recoloured(8)
        hint = hints(self.frozen.pictures(scenes))
        size = dict(seed=3, size=(16, 16))
        plain = base.sample(self.frozen.unet, self.frozen.encoder, self.frozen.vae, texts, **size)
        guided = base.sample(_Guided(self.frozen.unet, self._guide(hint.repeat(2, 1, 1, 1))), self.frozen.encoder,
                             self.frozen.vae, texts, **size)  # fmt: skip
        self.frozen.show("review", self.frozen.pictures(wanted), hint * 2 - 1, guided, plain)
        return f"edge IoU {iou(guided, hint):.2f}, without {iou(plain, hint):.2f}"

    def finish(self, folder: Path) -> None:
        """Writes the file under its prefix."""
        prefix = "" if self.is_adapter else "control_model."
        tensors = {prefix + name: value.half().contiguous().cpu() for name, value in self.net.state_dict().items()}
        save_file(tensors, folder / f"{self.chosen.name}.safetensors", {"modelspec.license": "Apache-2.0"})

    def _controlnet(self) -> ControlNet:
        net = ControlNet(base.CONFIG, hint_widths=HINT_WIDTHS)
        own = self.frozen.unet.state_dict()
        net.load_state_dict({name: own.get(name, value) for name, value in net.state_dict().items()})
        last = net.input_hint_block[-1]
        nn.init.normal_(last.weight, std=0.01)  # not zero: the hint is seen from the first step
        return net

    def _guide(self, hint: Tensor) -> object:
        def guide(x: Tensor, t: Tensor, context: Tensor) -> Control:
            if self.is_adapter:
                return adapter_control(self.net(hint), base.CONFIG)
            return self.net(x, hint, t, context)

        return guide


class _Guided(nn.Module):
    """A UNet with its control."""

    def __init__(self, unet: nn.Module, guide: object) -> None:
        super().__init__()
        self.unet, self.guide = unet, guide

    def forward(self, x: Tensor, t: Tensor, context: Tensor, control: object = None) -> Tensor:
        return self.unet(x, t, context, control=self.guide(x, t, context))


def hints(pictures: Tensor) -> Tensor:
    """The edges of pictures [B, 3, H, W] in -1..1, as three equal channels of 0 and 1."""
    return edges(pictures / 2 + 0.5).expand(-1, 3, -1, -1)


def recoloured(count: int) -> tuple[list[Scene], list[Scene], list[str]]:
    """Scenes for their edges, the same in other colours, and prompts for those that name no place or size."""
    rng = random.Random("recoloured")
    scenes: list[Scene] = []
    wanted: list[Scene] = []
    texts: list[str] = []
    while len(scenes) < count:
        scene, other = (random_scene(rng, two=0.4) for _ in range(2))
        if len(scene.things) != len(other.things):
            continue
        things = tuple(
            type(thing)(thing.shape, new.colour, "medium", "center", thing.glossy, thing.x, thing.base, thing.radius,
                        thing.turn)
            for thing, new in zip(scene.things, other.things, strict=True)
        )  # fmt: skip
        scenes.append(scene)
        wanted.append(Scene(other.background, things, scene.horizon, scene.light))
        texts.append(captions.plain(wanted[-1]))
    return scenes, wanted, texts


def iou(pictures: Tensor, hint: Tensor, reach: int = 2) -> float:
    """Intersection over union of the edges of pictures and of a hint, both thickened by `reach` pixels: the mean."""
    found, wanted = (F.max_pool2d(lines, 2 * reach + 1, 1, reach) > 0
                     for lines in (edges(pictures / 2 + 0.5), hint[:, :1]))  # fmt: skip
    both, either = (found & wanted).sum((1, 2, 3)), (found | wanted).sum((1, 2, 3))
    return (both / either.clamp(min=1)).mean().item()


if __name__ == "__main__":
    loop.run(
        loop.options("controlnet", steps=1500, batch=48, lr=1e-3, kind="controlnet", starter=str(starter.STARTER)),
        ControlJob,
    )
