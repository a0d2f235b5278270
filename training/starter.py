"""The base model as one file: written in the layout of the original SD1 files, and read back for training.

python -m training.starter    takes the shipped file apart into runs/, as if its parts had been trained here
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load_file, save_file
from torch import Tensor

from nodes.diffusion.clip import ClipTextModel
from nodes.diffusion.unet import UNet
from nodes.diffusion.vae import AutoencoderKL
from training import base, text, vae
from training.pool import RUNS

MODELS = Path(__file__).parent.parent / "nodes" / "models"
STARTER = MODELS / "checkpoints" / "starter.safetensors"
UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
_TABLE = "text_model.embeddings.token_embedding.weight"
_ARCH = {  # what shapes do not show
    "family": "sd15",
    "unet": {"num_heads": base.CONFIG.num_heads, "norm_groups": base.CONFIG.norm_groups},
    "vae": {"norm_groups": vae.CONFIG.norm_groups},
    "clip_l": {"heads": text.CONFIG.heads, "act": text.CONFIG.activation},
}


class Starter(NamedTuple):
    """The networks of a starter checkpoint, frozen; the text encoder with its small table."""

    unet: UNet
    encoder: ClipTextModel
    vae: AutoencoderKL


def write(unet: Mapping[str, Tensor], encoder: Mapping[str, Tensor], decoder: Mapping[str, Tensor], path: Path) -> None:
    """Writes the weights of a UNet, a small text encoder and an autoencoder as a checkpoint in fp16."""
    words = {**encoder, _TABLE: text.full_table(encoder[_TABLE])}
    tensors = {prefix + name: value.half().contiguous() for prefix, part in
               ((UNET, unet), (VAE, decoder), (TEXT, words)) for name, value in part.items()}  # fmt: skip
    odd = [name for name, value in tensors.items() if not value.isfinite().all()]
    if odd:
        raise SystemExit(f"{odd[0]} has numbers beyond half precision")
    metadata = {"arch": json.dumps(_ARCH), "modelspec.title": "starter", "modelspec.license": "Apache-2.0",
                "modelspec.architecture": "stable-diffusion-v1", "modelspec.resolution": "128x128"}  # fmt: skip
    save_file(tensors, path, metadata)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def read(path: Path = STARTER) -> Starter:
    """Reads a checkpoint that `write` wrote."""
    tensors = load_file(path)
    words = cut(tensors, TEXT)
    words[_TABLE] = text.small_table(words[_TABLE])
    starter = Starter(UNet(base.CONFIG), text.small_encoder(), AutoencoderKL(vae.CONFIG))
    for module, state in zip(starter, (cut(tensors, UNET), words, cut(tensors, VAE)), strict=True):
        module.load_state_dict({name: value.float() for name, value in state.items()})
        module.eval().requires_grad_(False)
    return starter


def cut(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def main() -> None:
    """Writes the parts of the shipped file where their runs would."""
    parser = argparse.ArgumentParser(prog="python -m training.starter")
    parser.add_argument("--out", type=Path, default=RUNS)
    out: Path = parser.parse_args().out
    starter = read()
    parts = {"vae": starter.vae.state_dict(), "text": starter.encoder.state_dict()}
    both = {"unet": starter.unet.state_dict(), "text": starter.encoder.state_dict()}
    parts["base"] = {f"{part}.{name}": value for part, state in both.items() for name, value in state.items()}
    for name, tensors in parts.items():
        path = out / name / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path)
        print(path)


if __name__ == "__main__":
    main()
