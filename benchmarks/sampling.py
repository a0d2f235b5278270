"""What sampling costs beyond the UNet's own calls: `python benchmarks/sampling.py [--device cuda] [--steps 20]`.

Each model is sampled with `euler` and CFG, and called as often with the same batch of two, in turns; the figure is the
median over the rounds of time sampled / time called. One model ships, the other is random and of middle size.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

import nodes
from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.checkpoints import read_checkpoint
from nodes.diffusion.sampling import parametrisation_of, sample
from nodes.diffusion.schedules import sampling_sigmas
from nodes.diffusion.unet import UNet
from nodes.types import Cond, GuiderValue, LatentValue, ModelValue, NoiseValue, SamplerValue

STARTER = Path(nodes.__file__).parent / "models" / "checkpoints" / "starter.safetensors"
MIDDLE = UNetConfig(
    in_channels=4, out_channels=4, model_channels=128, channel_mult=(1, 2, 4), num_res_blocks=(1, 1, 1),
    transformer_depth=(1, 1, 1), middle_depth=1, context_dim=768, num_heads=8, head_channels=None, use_linear=False,
)  # fmt: skip


class Silent:
    """Progress nobody follows."""

    def check(self) -> None:
        """Never ends the run."""

    def step(self, i: int, n: int, x0: Tensor) -> None:
        """Says nothing."""


def measure(network: nn.Module, model: ModelValue, side: int, steps: int, rounds: int, device: str) -> str:
    """A line: milliseconds called and sampled, and what is added."""
    config: UNetConfig = model.unet.config
    latent = LatentValue(torch.zeros(1, 4, side, side, device=device))
    prompts = {name: (Cond(torch.randn(1, 77, config.context_dim)),) for name in ("positive", "negative")}
    guider = GuiderValue(model, "cfg", prompts, (7.0,))
    sigmas = sampling_sigmas("euler", "normal", steps, 1.0, parametrisation_of(model).table)
    x = torch.randn(2, 4, side, side, device=device)
    context = torch.randn(2, 77, config.context_dim, device=device)
    timesteps = torch.full((2,), 500.0, device=device)

    def call() -> None:
        with torch.no_grad():
            for _ in range(steps):
                network(x, timesteps, context)

    def draw() -> None:
        sample(
            lambda _: nullcontext(network), guider, latent, noise=NoiseValue(), sampler=SamplerValue("euler"),
            sigmas=sigmas, progress=Silent(),
        )  # fmt: skip

    times = [(_seconds(call, device), _seconds(draw, device)) for _ in range(rounds + 1)][1:]
    called, drawn = (statistics.median(column) for column in zip(*times, strict=True))
    added = statistics.median(100 * (drawn / called - 1) for called, drawn in times)
    return f"{1000 * called:8.1f} ms called, {1000 * drawn:8.1f} ms sampled, {added:+.1f} %"


def _seconds(act: Callable[[], None], device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    act()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Measures both models."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    dtype = torch.float32 if chosen.device == "cpu" else torch.float16
    starter = read_checkpoint(STARTER, "").unet
    assert starter is not None
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ours = starter.load(chosen.device, dtype)
    shared = chosen.steps, chosen.rounds, chosen.device
    print(f"starter, 128 x 128, one thread    {measure(ours, ModelValue(starter), 16, *shared)}")
    torch.set_num_threads(threads)
    middle = UNet(MIDDLE).to(chosen.device, dtype).eval().requires_grad_(False)
    model = ModelValue(replace(starter, config=MIDDLE))
    size = sum(p.numel() for p in middle.parameters()) / 1e6
    print(f"random {size:.0f} M, 128 x 128           {measure(middle, model, 16, *shared)}")


if __name__ == "__main__":
    main()
