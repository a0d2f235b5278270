"""A context for preprocessors, a picture, and files of models."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nodegraph.types import FileRef


class Host:
    """Loads what is asked for on the CPU, and keeps the notes."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps: list[tuple[int, int]] = []

    def use(self, part: Any) -> AbstractContextManager[Any]:
        return nullcontext(part.load(self.device, torch.float32))

    def step(self, i: int, n: int) -> None:
        self.steps.append((i, n))

    def note(self, text: str) -> None:
        self.notes.append(text)


def ref(path: Path) -> FileRef:
    return FileRef(path.name, str(path), path.name)


def picture(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth shapes with some grain [B, H, W, 3], of 8 bits."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, height // 8 + 2, width // 8 + 2, generator=random)
    x = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    x = x + 0.03 * torch.randn(x.shape, generator=random)
    return ((x.clamp(0, 1) * 255).round() / 255 + 1e-5).clamp(0, 1).movedim(1, -1)


def bytes_of(image: Tensor) -> Tensor:
    """[B, H, W, C] in 0..1 -> [B, C, H, W], whole numbers 0..255."""
    return (image * 255).floor().movedim(-1, 1)
