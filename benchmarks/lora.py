"""What LoRAs cost on a full-size SD 1.5 UNet with random weights: to apply, to turn, to hold, and per step.

    python benchmarks/lora.py [--device cuda] [--dtype fp16] [--rank 16] [--side 256]

Three LoRAs of every attention and feed-forward layer in kohya's layout, as most are. Each is timed by the model being
asked for, as a sampler does; files are in the page cache. `held` is what the ledger counts for the UNet's variants.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.memory import UNET, make_checkpoint
from nodegraph.devices import Device
from nodegraph.memory import Ledger
from nodegraph.models import Models
from nodes.diffusion.checkpoints import Part, read_unet
from nodes.diffusion.keymap import unet_modules
from nodes.diffusion.lora import LoraFile, LoraOverlay
from nodes.diffusion.weights import build

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
COUNT = 3


def make_lora(path: Path, rank: int, seed: int) -> None:
    """Writes a LoRA of all linear layers in transformers, and of the 1x1 convolutions around them."""
    with torch.device("meta"):
        layers = {
            name: module for name, module in build(UNET).named_modules()
            if isinstance(module, (nn.Linear, nn.Conv2d)) and (".transformer_blocks." in name or ".proj_" in name)
        }  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for name, theirs in unet_modules(UNET, layers).items():
        out, taken, *kernel = layers[name].weight.shape
        key = "lora_unet_" + theirs.replace(".", "_")
        tensors[f"{key}.lora_down.weight"] = torch.randn(rank, taken, *kernel, generator=generator).half() * 0.01
        tensors[f"{key}.lora_up.weight"] = torch.randn(out, rank, *kernel, generator=generator).half() * 0.01
        tensors[f"{key}.alpha"] = torch.tensor(float(rank))
    save_file(tensors, path, metadata={"ss_base_model_version": "sd_v1-5"})


class Bench:
    """A UNet asked for with LoRAs of some strengths."""

    def __init__(self, part: Part[Any], files: list[LoraFile], device: str, dtype: str) -> None:
        self.part, self.files, self.device = part, files, torch.device(device)
        self.ledger = Ledger(device, 64 << 30)
        self.models = Models(Device(device), dtype, lambda: self.ledger, threading.RLock())  # type: ignore[arg-type]

    def with_strengths(self, *strengths: float) -> Part[Any]:
        """The UNet with one LoRA after the other."""
        part = self.part
        for file, strength in zip(self.files, strengths, strict=False):
            part = part.overlaid(LoraOverlay(file, strength))
        return part

    def ask(self, what: str, *strengths: float) -> None:
        """Prints how long a model takes to come and what is held then."""
        self._sync()
        start = time.perf_counter()
        with self.models.use(self.with_strengths(*strengths)):
            self._sync()
            seconds = time.perf_counter() - start
        print(f"{what:42} {seconds * 1000:8.0f} ms   held {self.ledger.used / MIB:6.0f} MiB")

    @contextmanager
    def pair(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        """The UNet without LoRAs and with all of them."""
        with self.models.use(self.part) as plain, self.models.use(self.with_strengths(1.0, 1.0, 1.0)) as changed:
            yield plain, changed

    def steps(self, side: int, rounds: int) -> None:
        """Prints a step's time with and without LoRAs, taken in turns."""
        x = torch.randn(2, 4, side // 8, side // 8, device=self.device)
        context = torch.randn(2, 77, UNET.context_dim, device=self.device)
        timesteps = torch.full((2,), 500.0, device=self.device)
        times: list[list[float]] = [[], []]
        with self.pair() as networks, torch.no_grad():
            for _ in range(rounds + 1):
                for kind, network in enumerate(networks):
                    self._sync()
                    start = time.perf_counter()
                    network(x, timesteps, context)
                    self._sync()
                    times[kind].append(time.perf_counter() - start)
        plain, changed = (statistics.median(column[1:]) * 1000 for column in times)
        print(f"a step at {side} x {side} with CFG: {plain:.0f} ms without, {changed:.0f} ms with {COUNT} LoRAs")

    def _sync(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def main() -> None:
    """Makes the files and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["auto", "fp32", "fp16", "bf16"], default="auto")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "sd15.safetensors"
        make_checkpoint(checkpoint)
        files: list[LoraFile] = []
        for number in range(COUNT):
            path = Path(folder) / f"lora{number}.safetensors"
            make_lora(path, given.rank, number)
            files.append(LoraFile(path.name, str(path), str(number)))
        size = sum(Path(file.path).stat().st_size for file in files) / MIB
        print(f"{COUNT} LoRAs of rank {given.rank}, {size:.0f} MiB together, on {given.device} in {given.dtype}")
        bench = Bench(read_unet(checkpoint, "base"), files, given.device, given.dtype)
        bench.ask("the UNet without a LoRA")
        bench.ask("one LoRA", 1.0)
        bench.ask("three LoRAs", 1.0, 1.0, 1.0)
        bench.ask("the strength of the last one turned", 1.0, 1.0, 0.5)
        bench.ask("and again", 1.0, 1.0, 0.7)
        bench.ask("back to no LoRA")
        bench.steps(given.side, given.rounds)


if __name__ == "__main__":
    main()
