"""Measures every shipped part of the starter family by image analysis; `measure.py` does the base model's prompts.

python -m training.report                   the table
python -m training.report --grids FOLDER    pictures for the docs, too
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from nodes.diffusion.taesd import TinyDecoder
from training import controlnet, embedding, hypernetwork, lora, preview, upscaler, vae
from training.export import SHIPPED
from training.frozen import Frozen, grid
from training.scenes import random_scene, render

Result = tuple[str, Tensor]  # a line of the table, and a picture
_FRESH = 64  # renders no training has seen


def _autoencoder(frozen: Frozen) -> Result:
    x = _fresh(frozen)
    y = frozen.decode(frozen.encode(x))
    return f"{vae.psnr(y, x):.1f} dB PSNR on {_FRESH} fresh renders", grid(x[:8], y[:8])


def _control(name: str) -> Callable[[Frozen], Result]:
    def measured(frozen: Frozen) -> Result:
        with_it, without, picture = controlnet.measure(frozen, controlnet.load(SHIPPED[name]), 48)
        return f"edge IoU {with_it:.2f}, without it {without:.2f}", picture

    return measured


def _lora(style: str) -> Callable[[Frozen], Result]:
    def measured(frozen: Frozen) -> Result:
        figures, picture = lora.measure(frozen, lora.load(SHIPPED[style], frozen.unet), style)
        return ", ".join(f"{value:.3f} at {strength}" for strength, value in figures.items()), picture

    return measured


def _embedding(frozen: Frozen) -> Result:
    figures, picture = embedding.measure(frozen, embedding.load(SHIPPED["embedding"]))
    return "distance from lime: " + ", ".join(f"{word} {value:.3f}" for word, value in figures.items()), picture


def _hypernetwork(frozen: Frozen) -> Result:
    net = hypernetwork.load(SHIPPED["hypernetwork"], frozen.unet)
    before, after, picture = hypernetwork.measure(frozen, net)
    return f"roundness {before:.2f} at 0, {after:.2f} at 1", picture


def _upscaler(frozen: Frozen) -> Result:
    rng = random.Random("report-large")
    large = np.stack([render(random_scene(rng, held=None), 512) for _ in range(12)])
    small = upscaler.small_pictures(large)
    return upscaler.measure(upscaler.load(SHIPPED["upscaler"]), large, small, frozen.decode(frozen.encode(small)))


def _preview(frozen: Frozen) -> Result:
    decoder = TinyDecoder(width=preview.WIDTH)
    decoder.load_state_dict({name: value.float() for name, value in load_file(SHIPPED["preview"]).items()})
    x = _fresh(frozen)
    y = (decoder(frozen.encode(x)) * 2 - 1).clamp(-1, 1)
    return f"{vae.psnr(y, x):.1f} dB PSNR on {_FRESH} fresh renders", grid(x[:8], y[:8])


MEASURES: dict[str, Callable[[Frozen], Result]] = {
    "autoencoder": _autoencoder, "controlnet": _control("controlnet"), "adapter": _control("adapter"),
    "outlined": _lora("outlined"), "striped": _lora("striped"), "embedding": _embedding,
    "hypernetwork": _hypernetwork, "upscaler": _upscaler, "preview": _preview,
}  # fmt: skip


def _fresh(frozen: Frozen) -> Tensor:
    rng = random.Random("report")
    return frozen.pictures([random_scene(rng, held=None) for _ in range(_FRESH)])


@torch.no_grad()
def main() -> None:
    """Measures what has shipped."""
    parser = argparse.ArgumentParser(prog="python -m training.report")
    parser.add_argument("--grids", type=Path, help="folder for pictures")
    parser.add_argument("names", nargs="*", default=list(MEASURES))
    chosen = parser.parse_args()
    print("| what | measured |\n|---|---|")
    for name in chosen.names:
        if name in SHIPPED and not SHIPPED[name].exists():
            print(f"| {name} | not made yet |")
            continue
        line, picture = MEASURES[name](Frozen())  # each with a model of its own: some change it
        print(f"| {name} | {line} |", flush=True)
        if chosen.grids:
            chosen.grids.mkdir(parents=True, exist_ok=True)
            vae.save_picture(picture, chosen.grids / f"{name}.png")


if __name__ == "__main__":
    main()
