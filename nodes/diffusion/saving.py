"""Models written to safetensors files as the original tools name their tensors, one tensor in memory at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from nodes.diffusion.architecture import ClipConfig, Family, UNetConfig, VaeConfig
from nodes.diffusion.checkpoints import Part
from nodes.diffusion.keymap import Source, clip_sources
from nodes.diffusion.weights import DTYPES, Recipe

_CODES = {dtype: code for code, dtype in DTYPES.items()}
_ARCHITECTURES: Mapping[Family, str] = {
    "sd1": "stable-diffusion-v1", "sd2": "stable-diffusion-v2-512", "sdxl": "stable-diffusion-xl-v1-base",
    "sdxl_refiner": "stable-diffusion-xl-v1-refiner",
}  # fmt: skip
_OPEN_CLIP = ("token_embedding.weight", "positional_embedding", "ln_final.weight", "ln_final.bias", "text_projection")
_OPEN_CLIP_LAYER = (
    "ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias", "attn.in_proj_weight", "attn.in_proj_bias",
    "attn.out_proj.weight", "attn.out_proj.bias", "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight",
    "mlp.c_proj.bias",
)  # fmt: skip


class Entry(NamedTuple):
    """A tensor of a file that is to be written; `make` gives it, on any device, once."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[], Tensor]


def write_safetensors(
    file: BinaryIO, entries: Iterable[Entry], metadata: Mapping[str, str],
    done: Callable[[int, int], None] = lambda i, n: None,
) -> None:  # fmt: skip
    """Writes a safetensors file, making each tensor when it is its turn.

    The library's own writer wants all tensors at once, twice the memory of a model that is merged on the way. The
    format: https://github.com/huggingface/safetensors, "Format"; as the library does, the widest dtypes come first, so
    that all tensors are aligned.

    Args:
        file: open for writing.
        entries: the tensors; `shape` and `dtype` must be those of what `make` gives.
        metadata: texts by name.
        done: called after each tensor with its number and how many there are.

    Raises:
        ValueError: a tensor is not as its entry says.
    """
    rows = sorted(entries, key=lambda entry: (-entry.dtype.itemsize, entry.name))
    table: dict[str, Any] = {"__metadata__": dict(metadata)}
    stop = 0
    for row in rows:
        start, stop = stop, stop + math.prod(row.shape) * row.dtype.itemsize
        table[row.name] = {"dtype": _CODES[row.dtype], "shape": list(row.shape), "data_offsets": [start, stop]}
    header = json.dumps(table, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    file.write(len(header).to_bytes(8, "little") + header)
    for number, row in enumerate(rows, 1):
        tensor = row.make()
        if tensor.dtype != row.dtype or tuple(tensor.shape) != row.shape:
            raise ValueError(f"{row.name}: made {tensor.dtype} {list(tensor.shape)}, not {row.dtype} {list(row.shape)}")
        file.write(tensor.contiguous().reshape(-1).cpu().view(torch.uint8).numpy().data)
        done(number, len(rows))


def part_entries(found: Recipe, prefix: str = "", *, is_open_clip: bool = False) -> list[Entry]:
    """The tensors of a part with what its overlays make of them, in the dtypes of its file.

    Args:
        found: the part, opened.
        prefix: before our names, which are the original ones.
        is_open_clip: of a text encoder, with the names and shapes of open_clip in place of those of transformers.
    """
    names: Mapping[str, Sequence[tuple[str, Source]]] = {name: [(name, Source(name))] for name in found.names}
    if is_open_clip:
        names = _open_clip(found.names)
    return [_entry(found, prefix + name, pieces) for name, pieces in names.items()]


def checkpoint_metadata(unet: Part[UNetConfig], title: str) -> dict[str, str]:
    """What a file with a UNet says of itself, by the names of the Stability AI model metadata standard.

    Source: https://github.com/Stability-AI/ModelSpec; `predict_key` and the values are those that ComfyUI writes.
    """
    config, architecture = unet.config, _ARCHITECTURES[unet.family]
    if config.prediction == "v" and unet.family == "sd2":
        architecture = "stable-diffusion-v2-768-v"
    if config.in_channels == 9:
        architecture = architecture.removesuffix("-base") + "-inpainting"
    elif config.in_channels == 8 and unet.family == "sdxl":
        architecture = "stable-diffusion-xl-v1-edit"
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": architecture,
        "modelspec.implementation": "sgm" if "xl" in unet.family else "https://github.com/CompVis/stable-diffusion",
        "modelspec.title": title,
        "modelspec.predict_key": "v" if config.prediction == "v" else "epsilon",
        "modelspec.prediction_type": "v" if config.prediction == "v" else "epsilon",
    }


def markers(config: UNetConfig, is_zero_snr: bool) -> list[Entry]:
    """The empty tensors by which a file of a v-predicting UNet is known, as in ComfyUI."""
    names = ["v_pred"] * (config.prediction == "v")
    names += ["ztsnr"] * (config.prediction == "v" and (is_zero_snr or config.zero_terminal_snr))
    return [Entry(name, torch.float32, (0,), lambda: torch.empty(0)) for name in names]


def arch(parts: Iterable[Part[Any]]) -> str:
    """What the shapes of tensors do not tell of networks, as JSON: head counts, norm groups, activations."""
    return json.dumps({part.role: _hints(part.config) for part in parts})


def _hints(config: UNetConfig | VaeConfig | ClipConfig) -> dict[str, Any]:
    if isinstance(config, VaeConfig):
        return {"norm_groups": config.norm_groups}
    if isinstance(config, ClipConfig):
        return {"heads": config.heads, "act": config.activation}
    return {"num_heads": config.num_heads, "num_head_channels": config.head_channels,
            "norm_groups": config.norm_groups, "latent_scale": config.latent_scale}  # fmt: skip


def _open_clip(ours: Iterable[str]) -> dict[str, list[tuple[str, Source]]]:
    """The names of open_clip that hold our tensors, each with these in the order of its rows."""
    ours = set(ours)
    layers = sum(name.endswith(".layer_norm1.weight") for name in ours)
    theirs = [f"transformer.resblocks.{i}.{name}" for i in range(layers) for name in _OPEN_CLIP_LAYER]
    found: dict[str, list[tuple[str, Source]]] = {}
    for name, source in clip_sources([*_OPEN_CLIP, *theirs]).items():
        if name in ours:
            found.setdefault(source.name, []).append((name, source))
    return {name: sorted(pieces, key=lambda piece: piece[1].third or 0) for name, pieces in found.items()}


def _entry(found: Recipe, name: str, pieces: Sequence[tuple[str, Source]]) -> Entry:
    first, source = pieces[0]
    dtype, shape = found.dtype(first), tuple(found.shape(first))

    def make() -> Tensor:
        tensor = torch.cat([_final(found, ours, dtype) for ours, _ in pieces]) if len(pieces) > 1 else \
            _final(found, first, dtype)  # fmt: skip
        return tensor.t() if source.transposed else tensor

    shape = shape[::-1] if source.transposed else (shape[0] * len(pieces), *shape[1:])
    return Entry(name, dtype, shape, make)


def _final(found: Recipe, name: str, dtype: torch.dtype) -> Tensor:
    return found.tensor(name).to(dtype) if found.key(name) else found.stored(name, dtype)
