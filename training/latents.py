"""Encodes the pools with the trained autoencoder, so that nothing else has to.

python -m training.latents
"""

from __future__ import annotations

import argparse
import os
import random
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing as mp
from torch import Tensor

from training import vae
from training.pool import RECIPES, RUNS, VALIDATION, Pool
from training.scenes import Scene

ENCODED = ("square", "styled", "wide", "tall", "big")  # pools; the others are used as pictures alone
_CHUNK = 50


class Latents:
    """The latents of a pool, times SD1's factor, as a UNet sees them."""

    def __init__(self, name: str, out: Path = RUNS) -> None:
        self.recipe = RECIPES[name]
        path = _path(out, name)
        if not path.exists():
            raise SystemExit(f"{path} is missing; make it with: python -m training.latents")
        self.values = torch.from_numpy(np.load(path))  # [N, 4, h, w] fp16

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def scenes(self) -> list[Scene]:
        """The scene of every picture."""
        return [self.recipe.scene(number) for number in range(len(self))]

    def batch(self, count: int, rng: random.Random) -> tuple[Tensor, list[Scene], list[int]]:
        """Latents drawn by lot [count, 4, h, w], their scenes and their numbers."""
        numbers = [rng.randrange(VALIDATION, len(self)) for _ in range(count)]
        return self.values[numbers].float(), [self.scenes[number] for number in numbers], numbers


def _path(out: Path, name: str) -> Path:
    return out / "latents" / f"{name}.npy"


def _encode(rank: int, chosen: argparse.Namespace) -> None:
    if chosen.device == "cpu":
        torch.set_num_threads(1)
    model = vae.load(chosen.out / "vae" / "vae.safetensors").to(chosen.device)
    for name in ENCODED[rank :: chosen.workers]:
        if _path(chosen.out, name).exists():
            continue
        pool = Pool(name, chosen.out)
        parts: list[np.ndarray] = []
        for start in range(0, len(pool), _CHUNK):
            x = vae.pixels(pool.pictures[start : start + _CHUNK]).to(chosen.device)
            with torch.no_grad(), torch.autocast(chosen.device, torch.bfloat16):
                mean = model.quant_conv(model.encoder(x)).float().chunk(2, dim=1)[0]
            parts.append((mean * vae.LATENT_SCALE).half().cpu().numpy())
            if start % 2000 == 0:
                print(f"{name} {start}/{len(pool)}", flush=True)
        _path(chosen.out, name).parent.mkdir(parents=True, exist_ok=True)
        np.save(_path(chosen.out, name), np.concatenate(parts))


def main() -> None:
    """Encodes the pools that are not encoded yet."""
    parser = argparse.ArgumentParser(prog="python -m training.latents")
    parser.add_argument("--out", type=Path, default=RUNS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    mp.spawn(_encode, (chosen,), nprocs=chosen.workers)


if __name__ == "__main__":
    main()
