"""Trains the 4x upscaler, a Real-ESRGAN of the compact kind (`SRVGGNetCompact`), which spandrel and ComfyUI read.

python -m training.upscaler

Source: Wang et al. 2021 (arXiv:2107.10833), without the adversarial part: the domain is simple enough. It starts as
bicubic upscaling, so that training only has to sharpen. A part of the small pictures went through the autoencoder, so
that what it makes of edges is mended too.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import save_file
from torch import Tensor, nn

from training import loop, vae
from training.frozen import Frozen, grid
from training.pool import VALIDATION, Pool
from training.starter import STARTER

WIDTH, DEPTH, SCALE = 48, 8, 4
_SIDE = 32  # of a small crop
_INSIDE, _BORDER = 0.6, 12  # until this progress so many pixels at the edges of a crop do not count
_DECODED = 0.5  # share of the small pictures that went through the autoencoder


class UpscalerJob:
    """The upscaler."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.folder: Path = chosen.out / chosen.name
        self.pool = Pool("huge", chosen.out)
        self.small = small_pictures(self.pool.pictures)
        frozen = Frozen(chosen.starter, chosen.device)
        with frozen.autocast():
            self.decoded = frozen.decode(frozen.encode(self.small.to(chosen.device))).float().cpu()
        from spandrel.architectures.Compact import Compact

        self.net = Compact(num_feat=WIDTH, num_conv=DEPTH, upscale=SCALE)
        _start_as_bicubic(self.net)
        self.modules = nn.ModuleDict({"net": self.net})

    def loss(self, progress: float, rng: random.Random) -> tuple[Tensor, Mapping[str, float]]:
        """Pixels and their differences."""
        xs, ys = zip(*(self._pair(rng) for _ in range(loop.share(self.chosen))), strict=True)
        x, y = torch.stack(xs).to(self.chosen.device), torch.stack(ys).to(self.chosen.device)
        with loop.autocast(self.chosen):
            guess = self.net(x).float()
        if progress < _INSIDE:
            guess, y = (picture[..., _BORDER:-_BORDER, _BORDER:-_BORDER] for picture in (guess, y))
        l1 = (guess - y).abs().mean()
        slopes = sum(((guess.diff(dim=axis) - y.diff(dim=axis)).abs().mean() for axis in (2, 3)), l1.new_zeros(()))
        return l1 + 0.5 * slopes + 2 * (guess - y).pow(2).mean(), {"l1": l1.item()}

    def review(self) -> str:
        """PSNR against bicubic upscaling, of renders and of decoded pictures; a picture."""
        figures, picture = measure(self.net, self.pool.pictures[:10], self.small[:10], self.decoded[:10])
        vae.save_picture(picture, self.folder / "review.png")
        return figures

    def finish(self, folder: Path) -> None:
        """Writes the file."""
        tensors = {name: value.half().contiguous().cpu() for name, value in self.net.state_dict().items()}
        save_file(tensors, folder / "upscaler.safetensors", {"modelspec.license": "Apache-2.0"})

    def _pair(self, rng: random.Random) -> tuple[Tensor, Tensor]:
        """A small crop, 0..1, and the large one."""
        number = rng.randrange(VALIDATION, len(self.pool))
        thing = rng.choice(self.pool.scenes[number].things)
        side = self.small.shape[-1]
        x = (thing.x + rng.uniform(-1.2, 1.2) * thing.radius + 1) * side / 2 - _SIDE / 2
        y = (thing.base + (rng.uniform(-1.2, 1.2) - 1) * thing.radius + 1) * side / 2 - _SIDE / 2
        left, top = (int(min(max(at, 0), side - _SIDE)) for at in (x, y))
        source = self.decoded if rng.random() < _DECODED else self.small
        small = source[number, :, top : top + _SIDE, left : left + _SIDE]
        large = self.pool.pictures[number, SCALE * top :, SCALE * left :][: SCALE * _SIDE, : SCALE * _SIDE]
        large = vae.pixels(large[None])[0]
        if rng.random() < 0.5:
            small, large = small.flip(-1), large.flip(-1)
        return small / 2 + 0.5, large / 2 + 0.5


@torch.no_grad()
def measure(net: nn.Module, large: np.ndarray, *small: Tensor) -> tuple[str, Tensor]:
    """PSNR and bicubic's for small versions of large pictures: rendered and decoded; a picture of the middles of 4."""
    y = vae.pixels(large)
    reports: list[str] = []
    rows: list[Tensor] = []
    for name, x in zip(("rendered", "decoded"), small, strict=True):
        ours = torch.cat([net(part[None] / 2 + 0.5) for part in x]).clamp(0, 1) * 2 - 1
        bicubic = F.interpolate(x, scale_factor=SCALE, mode="bicubic").clamp(-1, 1)
        reports.append(f"{name} {vae.psnr(ours, y):.2f} dB, bicubic {vae.psnr(bicubic, y):.2f} dB")
        rows += [bicubic, ours]
    return "; ".join(reports), grid(*(row[:4, :, 128:384, 128:384] for row in (*rows, y)))


def load(path: Path) -> nn.Module:
    """A trained upscaler, read by spandrel as it reads anyone's."""
    from spandrel import ModelLoader

    return ModelLoader().load_from_file(str(path)).model.eval().requires_grad_(False)


def small_pictures(pictures: np.ndarray) -> Tensor:
    """Pictures [N, H, W, 3] uint8, a quarter of their size: [N, 3, H/4, W/4] in -1..1."""
    return torch.cat([F.avg_pool2d(vae.pixels(pictures[i : i + 50]), SCALE) for i in range(0, len(pictures), 50)])


@torch.no_grad()
def _start_as_bicubic(net: nn.Module) -> None:
    """Some channels carry how each pixel's neighbours differ from it to the last layer, which weighs them.

    All channels are zero where the picture is flat, so that steps of training change edges alone.
    """
    first, *middle, last = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    slopes = [module for module in net.modules() if isinstance(module, nn.PReLU)]
    carried = 27  # a colour's nine neighbours after another's; the one in the middle stays zero
    for conv in (first, *middle):
        nn.init.kaiming_normal_(conv.weight, a=0.25)
        conv.weight[:carried] = 0
    first.weight -= first.weight.mean((2, 3), keepdim=True)
    for number in range(carried):
        colour, place = divmod(number, 9)
        first.weight[number, colour, place // 3, place % 3] += 1
        first.weight[number, colour, 1, 1] -= 1
        for conv in middle:
            conv.weight[number, number, 1, 1] = 1
    for slope in slopes:
        slope.weight[:carried] = 1
    nn.init.normal_(last.weight, std=1e-3)
    for conv in (first, *middle, last):
        nn.init.zeros_(conv.bias)
    taps = F.interpolate(torch.eye(5)[:, None, None], size=(1, 20), mode="bicubic")[
        :, 0, 0, 8:12
    ]  # [5, 4]: the middle's
    for colour, row, column in itertools.product(range(3), range(5), range(5)):
        far = [min(max(at - 2, -1), 1) for at in (row, column)]  # which pixel, seen from the middle
        near = [at - 2 - step for at, step in zip((row, column), far, strict=True)]  # which neighbour of that pixel
        weights = (taps[row][:, None] * taps[column]).flatten()
        out, of = slice(16 * colour, 16 * colour + 16), 9 * colour + 4
        last.weight[out, of + 3 * near[0] + near[1], far[0] + 1, far[1] + 1] += weights
        last.weight[out, of + 3 * far[0] + far[1], 1, 1] += weights


if __name__ == "__main__":
    loop.run(loop.options("upscaler", steps=3000, batch=16, lr=2e-3, starter=str(STARTER)), UpscalerJob)
