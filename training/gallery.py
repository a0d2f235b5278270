"""Draws the pictures of docs/starter.md with the engine.

python -m training.gallery
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import nodegraph
from training.small import small

PROMPTS = (
    "a large red sphere on a white background", "a large blue cube on a yellow background",
    "a large green star on a purple background", "a large orange ring on a gray background",
    "a large yellow heart on a blue background", "a large purple cone on a yellow background",
    "a large teal cylinder on a black background", "a large blue diamond on a white background",
    "a glossy white sphere on a blue background", "a matte red cylinder on a teal background",
    "a small green diamond on a pink background", "a yellow cone on the right on a blue background",
    "a small black star on the left on a white background", "a pink heart on a gray background",
    "a shiny purple torus, orange background", "a large emerald box in front of a white wall",
    "a red sphere to the left of a blue cube on a white background",
    "a yellow star to the right of a purple ring on a gray background",
    "a green cone and an orange cylinder on a blue background",
    "a pink diamond on the left and a teal heart on the right, black background",
    "红色的球，白色背景", "a large crimson gem, masterpiece, 8k", "Würfel blau, Hintergrund gelb",
    "étoile jaune sur fond violet",
)  # fmt: skip
_SUBJECT = "a yellow star on a purple background"
_WIDE = "a red sphere to the left of a green cube on a white background"
Draw = Callable[..., Tensor]


def pictures(draw: Draw) -> dict[str, Tensor]:
    """The pictures by file name, [H, W, 3] in 0..1."""
    return {
        "starter": _rows([draw(prompt=prompt, seed=seed) for seed, prompt in enumerate(PROMPTS, 1)], 8),
        "starter-cfg": _rows([draw(prompt=_SUBJECT, seed=seed, cfg=cfg)
                              for seed in (1, 2) for cfg in (1.0, 2.0, 3.0, 4.5, 6.0, 7.5, 9.0, 12.0)], 8),
        "starter-steps": _rows([draw(prompt=_SUBJECT, seed=3, steps=steps, sampler=sampler, scheduler="simple")
                                for sampler in ("euler", "dpmpp_2m", "uni_pc", "dpmpp_2m_sde")
                                for steps in (2, 4, 6, 8, 12, 16, 20, 30)], 8),
        "starter-negative": _rows([draw(prompt="a sphere on a white background", seed=seed, negative=negative)
                                   for negative in ("", "red, pink", "blue, green, teal") for seed in range(1, 9)], 8),
        "starter-sizes": _rows([draw(prompt=_WIDE, seed=seed, width=192) for seed in range(1, 5)], 4),
        "starter-big": _rows([draw(prompt=prompt, seed=5, width=192, height=192) for prompt in PROMPTS[:4]], 4),
    }  # fmt: skip


def _rows(items: Sequence[Tensor], columns: int) -> Tensor:
    rows = [torch.cat(list(items[i : i + columns]), dim=1) for i in range(0, len(items), columns)]
    return torch.cat(rows, dim=0)


def main() -> None:
    """Writes the pictures."""
    parser = argparse.ArgumentParser(prog="python -m training.gallery")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent.parent / "docs" / "images")
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as home,
        nodegraph.Session(nodegraph.Settings(Path(home), cache_dir=None)) as session,
    ):
        function = small(session)

        def draw(**inputs: Any) -> Tensor:
            return function(**inputs).image[0]

        for name, picture in pictures(draw).items():
            path = chosen.folder / f"{name}.png"
            Image.fromarray((picture * 255).round().byte().numpy()).save(path, optimize=True)
            print(path, flush=True)


if __name__ == "__main__":
    main()
