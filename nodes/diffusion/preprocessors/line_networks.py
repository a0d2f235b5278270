"""The small networks that draw: soft edges (HED), line art of photographs and of anime; with their files' names.

Sources: ControlNet's HED by lllyasviel (Apache-2.0, after Xie and Tu 2015); informative drawings by Chan, Durand and
Isola 2022 (MIT); its anime version, a pix2pix U-Net (Isola et al. 2017). Widths are those of the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from nodegraph.errors import FileProblem
from nodes.diffusion.file_weights import FileWeights
from nodes.diffusion.weights import read_tensors

if TYPE_CHECKING:
    from nodegraph.types import FileRef

WHERE = "the file is in https://huggingface.co/lllyasviel/Annotators; put it in the `annotators` folder"


class SoftEdges(nn.Module):
    """Edges of a picture [B, 3, H, W] in 0..255, as five logits [B, 1, h, w], each half as large as the one before."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        self.norm = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.blocks = len(widths)
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            self.add_module(f"block{i + 1}", _Block(3 if i == 0 else widths[i - 1], width, depth))

    def forward(self, x: Tensor) -> list[Tensor]:
        """The logits, the largest first."""
        x, found = x - self.norm, []
        for i in range(self.blocks):
            x = self.get_submodule(f"block{i + 1}")(F.max_pool2d(x, 2) if i else x)
            found.append(self.get_submodule(f"block{i + 1}.projection")(x))
        return found


class _Block(nn.Module):
    def __init__(self, inputs: int, width: int, depth: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(*(nn.Conv2d(width if i else inputs, width, 3, padding=1) for i in range(depth)))
        self.projection = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = F.relu(conv(x))
        return x


class Drawing(nn.Sequential):
    """Draws a picture [B, 3, H, W] in 0..1 as dark lines [B, 1, H, W] in 0..1; sides are multiples of 4."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.model0 = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7), *_normed(width))
        self.model1 = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, 2, 1), *_normed(2 * width),
            nn.Conv2d(2 * width, 4 * width, 3, 2, 1), *_normed(4 * width),
        )  # fmt: skip
        self.model2 = nn.Sequential(*(_Residual(4 * width) for _ in range(blocks)))
        self.model3 = nn.Sequential(
            nn.ConvTranspose2d(4 * width, 2 * width, 3, 2, 1, 1), *_normed(2 * width),
            nn.ConvTranspose2d(2 * width, width, 3, 2, 1, 1), *_normed(width),
        )  # fmt: skip
        self.model4 = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(width, 1, 7), nn.Sigmoid())


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), *_normed(width),
            nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


def _normed(width: int) -> tuple[nn.Module, nn.Module]:
    return nn.InstanceNorm2d(width), nn.ReLU()


class AnimeDrawing(nn.Module):
    """Draws a picture [B, 3, H, W] in -1..1 as dark lines [B, 1, H, W] in -1..1; sides are multiples of 2^levels.

    Args:
        widths: of each level, the outermost first.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        inner: nn.Module | None = None
        for i in reversed(range(1, len(widths))):
            inner = _Level(widths[i - 1], widths[i], inner)
        assert inner is not None
        down = nn.Conv2d(3, widths[0], 4, 2, 1)
        up = nn.ConvTranspose2d(2 * widths[0], 1, 4, 2, 1)
        layers = nn.Sequential(down, inner, nn.ReLU(), up, nn.Tanh())
        self.model = nn.ModuleDict({"model": layers})

    def forward(self, x: Tensor) -> Tensor:
        """The lines."""
        return self.model["model"](x)


class _Level(nn.Module):
    """One halving, what is within, and one doubling, beside what was given."""

    def __init__(self, outer: int, width: int, inner: nn.Module | None) -> None:
        super().__init__()
        down = [nn.LeakyReLU(0.2), nn.Conv2d(outer, width, 4, 2, 1)]
        if inner is not None:
            down += [nn.InstanceNorm2d(width), inner]
        up = nn.ConvTranspose2d(width if inner is None else 2 * width, outer, 4, 2, 1)
        self.model = nn.Sequential(*down, nn.ReLU(), up, nn.InstanceNorm2d(outer))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.model(x)], 1)


@dataclass(frozen=True, slots=True)
class LinePart(FileWeights):
    """The weights of such a network, as the engine loads models.

    Attributes:
        kind: `hed`, `lineart` or `lineart_anime`.
    """

    kind: str
    file: FileRef

    @property
    def fingerprint(self) -> str:
        """Equal for equal weights."""
        return f"{self.kind}-{self.file.digest}"

    def load(self, device: torch.device, dtype: torch.dtype, variants: Sequence[Any] = ()) -> nn.Module:
        """Builds the network. Raises FileProblem when the file holds another."""
        what, build, original = _KINDS[self.kind]
        tensors = {name.removeprefix("module."): tensor for name, tensor in read_tensors(self.file.path)}
        try:
            module = build(tensors)
            module.load_state_dict(tensors)
        except (KeyError, RuntimeError, IndexError) as error:
            raise FileProblem(
                f"{self.file.name}: is no network that draws {what}; expected {original} or one like it; {WHERE}"
            ) from error
        return module.to(device, dtype).requires_grad_(False).eval()


def _soft_edges(tensors: Mapping[str, Tensor]) -> SoftEdges:
    count = sum(name.endswith(".projection.weight") for name in tensors)
    names = [[name for name in tensors if name.startswith(f"block{i + 1}.convs.") and name.endswith(".weight")]
             for i in range(count)]  # fmt: skip
    return SoftEdges([len(tensors[of_block[0]]) for of_block in names], [len(of_block) for of_block in names])


def _drawing(tensors: Mapping[str, Tensor]) -> Drawing:
    blocks = {name.split(".")[1] for name in tensors if name.startswith("model2.")}
    return Drawing(len(tensors["model0.1.weight"]), len(blocks))


def _anime(tensors: Mapping[str, Tensor]) -> AnimeDrawing:
    widths, place = [len(tensors["model.model.0.weight"])], "model.model.1.model"
    while f"{place}.1.weight" in tensors:
        widths.append(len(tensors[f"{place}.1.weight"]))
        place += ".3.model"
    return AnimeDrawing(widths)


_KINDS = {
    "hed": ("soft edges", _soft_edges, "ControlNetHED.pth"),
    "lineart": ("line art", _drawing, "sk_model.pth"),
    "lineart_anime": ("anime line art", _anime, "netG.pth"),
}
