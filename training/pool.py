"""The pictures that training draws from: rendered once, kept on disk; a picture's scene follows from its number.

python -m training.pool
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import time
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from training.scenes import STYLES, Scene, random_scene, render

RUNS = Path("runs")
VALIDATION = 64  # the first pictures of each pool are never trained on


class Recipe(NamedTuple):
    """A pool: how many pictures, of which size, which share of them is drawn in a style, and held-out pairs or not."""

    name: str
    count: int
    width: int = 128
    height: int = 128
    styled: float = 0.0
    held: bool | None = False

    def scene(self, number: int) -> Scene:
        """The scene of a picture."""
        rng = random.Random(f"{self.name}-{number}")
        style = rng.choice(STYLES) if rng.random() < self.styled else None
        return random_scene(rng, held=self.held, aspect=self.width / self.height, style=style)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("square", 24_000),
        Recipe("styled", 4_000, styled=1.0),
        Recipe("wide", 2_000, 192, 128),
        Recipe("tall", 1_500, 128, 192),
        Recipe("big", 2_000, 192, 192),
        Recipe("judge", 12_000, held=None),
        Recipe("huge", 500, 512, 512, styled=0.25),
    )
}


class Pool:
    """A rendered pool."""

    def __init__(self, name: str, out: Path = RUNS) -> None:
        self.recipe = RECIPES[name]
        path = _path(out, name)
        if not path.exists():
            raise SystemExit(f"{path} is missing; make it with: python -m training.pool")
        self.pictures: np.ndarray = np.load(path, mmap_mode="r")  # [N, H, W, 3] uint8

    def __len__(self) -> int:
        return len(self.pictures)

    @cached_property
    def scenes(self) -> list[Scene]:
        """The scene of every picture."""
        return [self.recipe.scene(number) for number in range(len(self))]


def _path(out: Path, name: str) -> Path:
    return out / "pool" / f"{name}.npy"


def _render(task: tuple[Recipe, int]) -> np.ndarray:
    recipe, number = task
    return render(recipe.scene(number), recipe.width, recipe.height)


def main() -> None:
    """Renders the pools that are missing."""
    parser = argparse.ArgumentParser(prog="python -m training.pool")
    parser.add_argument("--out", type=Path, default=RUNS)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(chosen.workers) as workers:
        for recipe in RECIPES.values():
            path = _path(chosen.out, recipe.name)
            if path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            started = time.monotonic()
            shape = (recipe.count, recipe.height, recipe.width, 3)
            pictures = np.lib.format.open_memmap(part, "w+", np.uint8, shape)
            tasks = ((recipe, number) for number in range(recipe.count))
            for number, picture in enumerate(workers.imap(_render, tasks, chunksize=50)):
                pictures[number] = picture
            pictures.flush()
            part.replace(path)
            print(f"{path}: {recipe.count} pictures in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
