"""Peak memory of a full-size SD 1.5 checkpoint with random weights: loaded and run for one step at 256 x 256.

    python benchmarks/memory.py [--dtype fp32|fp16|bf16] [--checkpoint FILE]

Without a file it makes one (fp16, 2.1 GB) in a temporary folder. `held` is what the models have in memory at the end;
`peak` is the process's largest resident set, pages of the mapped file included; `base` is the process with torch
imported and nothing loaded.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from nodes.diffusion.architecture import ClipConfig, UNetConfig, VaeConfig

UNET = UNetConfig(
    in_channels=4, out_channels=4, model_channels=320, channel_mult=(1, 2, 4, 4), num_res_blocks=(2, 2, 2, 2),
    transformer_depth=(1, 1, 1, 0), middle_depth=1, context_dim=768, num_heads=8, head_channels=None, use_linear=False,
)  # fmt: skip
MIB = 1 << 20


def make_checkpoint(path: Path) -> None:
    """Writes random fp16 weights with the names and shapes of an SD 1.5 file."""
    import torch
    from safetensors.torch import save_file

    from nodes.diffusion.weights import build

    parts = {
        "model.diffusion_model.": UNET, "first_stage_model.": VaeConfig(),
        "cond_stage_model.transformer.": ClipConfig(),
    }  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, torch.Tensor] = {}
    for prefix, config in parts.items():
        for name, tensor in build(config).state_dict().items():
            scale = (tensor[0].numel() if tensor.dim() > 1 else 1) ** -0.5
            values = torch.empty(tensor.shape, dtype=torch.float16).normal_(0, scale, generator=generator)
            tensors[prefix + name] = values + 1 if name.endswith("norm.weight") else values
    save_file(tensors, path, metadata={"format": "pt"})


def peak_bytes() -> int:
    """Largest resident set of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike getrusage, not inherited from the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def child(checkpoint: Path, dtype: str) -> None:
    """Loads and runs one step in this process and prints the figures."""
    import torch

    from nodegraph.running import Function
    from nodegraph.session import Session, Settings

    base = peak_bytes()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "models/checkpoints").mkdir(parents=True)
        (home / "models/checkpoints/full.safetensors").symlink_to(checkpoint.resolve())
        with Session(Settings(home=home, device="cpu", dtype=dtype, cache_dir=None)) as session:  # type: ignore[arg-type]
            document = session.open("text_to_image")  # without what enlarges the picture
            workflow = document.workflow.model_copy(update={"outputs": {"image": "8.IMAGE"}})
            image = Function(session, workflow, document.origin)(
                checkpoint="full.safetensors", prompt="a cat", steps=1, width=256, height=256, sampler="euler"
            ).image
            held = sum(model.nbytes for model in session.models.loaded.values())
    peak = peak_bytes()
    print(
        f"{dtype}: torch {torch.__version__}, picture {list(image.shape)}, finite {bool(torch.isfinite(image).all())}"
    )
    print(f"held {held / MIB:.0f} MiB, peak {peak / MIB:.0f} MiB, base {base / MIB:.0f} MiB")
    print(f"peak / held {peak / held:.2f}, (peak - base) / held {(peak - base) / held:.2f}")


def main() -> None:
    """Runs the measurement in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=["fp32", "fp16", "bf16"], default="fp32")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.checkpoint, given.dtype)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = given.checkpoint or Path(folder) / "sd15.safetensors"
        if given.checkpoint is None:
            make_checkpoint(path)
        command = [sys.executable, __file__, "--child", "--checkpoint", str(path), "--dtype", given.dtype]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
