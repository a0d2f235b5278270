"""Latents in files: safetensors in ComfyUI's layout, as its `.latent` files have it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from nodegraph.errors import FileProblem

TENSOR, VERSION = "latent_tensor", "latent_format_version_0"
_SCALE_BEFORE_VERSIONS = 0.18215  # files without a version hold latents as SD1's UNet sees them


def write_latent(file: BinaryIO, latent: Tensor, texts: Mapping[str, str]) -> None:
    """Writes a latent [B, C, h, w], unscaled, with texts by key beside it."""
    tensors = {TENSOR: latent.detach().cpu().contiguous(), VERSION: torch.tensor([])}
    file.write(save(tensors, metadata=dict(texts)))


def read_latent(path: str, name: str) -> Tensor:
    """Reads a latent [B, C, h, w], unscaled, float32.

    Args:
        path: where it is.
        name: for messages.

    Raises:
        FileProblem: it is damaged, or holds no latent.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise FileProblem(f"{name} cannot be read as a latent: {error}") from error
    latent = tensors.get(TENSOR)
    if latent is None:
        raise FileProblem(f"{name} holds no {TENSOR!r}; use a file that SaveLatent wrote")
    return latent.float() if VERSION in tensors else latent.float() / _SCALE_BEFORE_VERSIONS
