"""What a model file tells of itself in its header, and the picture that lies beside it. No weight is read."""

from __future__ import annotations

import base64
import binascii
import io
import json
import os
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, cast

HEADER_BYTES = 16 << 20  # of a safetensors file
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
METADATA, COVERS = "__metadata__", "ssmd_cover_images"
WIDTHS = {768: "sd1", 1024: "sd2", 1280: "sdxl_refiner", 2048: "sdxl"}
"""Families by the width of the prompts that their cross-attention takes."""
ARCHITECTURES = {
    "stable-diffusion-xl-v1-refiner": "sdxl_refiner", "stable-diffusion-xl": "sdxl", "stable-diffusion-v1": "sd1",
    "stable-diffusion-v2": "sd2", "stable-diffusion-3": "sd3", "flux": "flux", "sdxl_refiner": "sdxl_refiner",
    "sdxl": "sdxl", "sd_v1": "sd1", "sd_v2": "sd2", "sd3": "sd3",
}  # fmt: skip
"""Families by how `modelspec.architecture` or `ss_base_model_version`, as trainers write them, begins."""
NARROW = ("lora_up.weight", "lora_B.weight", "lora_mid.weight")  # of a LoRA, that do not take the prompt


class Told(NamedTuple):
    """What the header of a model tells; nothing where there is none."""

    family: str | None = None
    tensors: int | None = None
    dtype: str | None = None
    has_metadata: bool = False
    has_cover: bool = False


def told_by(path: Path) -> Told:
    """What a model tells of itself; remembered as long as the file is the same.

    Raises:
        OSError: it is not there.
    """
    status = path.stat()
    return _told(path, status.st_mtime_ns, status.st_size)


def safetensors_header(path: Path) -> dict[str, Any]:
    """The JSON at the beginning of a safetensors file; empty where there is none to be read."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header: Any = json.loads(file.read(length)) if length <= HEADER_BYTES else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", header) if isinstance(header, dict) else {}


def metadata_of(header: Mapping[str, Any]) -> dict[str, Any]:
    """What a header says in words."""
    found = header.get(METADATA)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def picture_beside(path: Path) -> Path | None:
    """The picture that lies beside a model: of its name, with `.preview` or without."""
    stem = os.path.splitext(path.name)[0]
    for ending in (*PICTURES, *(f".preview{ending}" for ending in PICTURES)):
        if os.path.isfile(beside := path.with_name(stem + ending)):  # false for a name that is too long, too
            return beside
    return None


def cover_of(path: Path) -> io.BytesIO | None:
    """The picture that the metadata of a model holds."""
    try:
        covers: Any = json.loads(metadata_of(safetensors_header(path))[COVERS])
        return io.BytesIO(base64.b64decode(covers[0]))
    except (ValueError, RecursionError, TypeError, KeyError, IndexError, binascii.Error):
        return None


def family_of(header: Mapping[str, Any]) -> str | None:
    """The family a file belongs to, such as `sd1` or `sdxl`: as its metadata says, else by the shapes of its tensors.

    Those of a part tell it as well: of a LoRA, a ControlNet, an embedding.
    """
    metadata = metadata_of(header)
    for name in ("modelspec.architecture", "ss_base_model_version"):
        told = str(metadata.get(name, "")).lower()
        found = next((family for begin, family in ARCHITECTURES.items() if told.startswith(begin)), None)
        if found is not None:
            return found
    for name in header:
        if "attn2" in name and "to_k" in name and name.endswith(".weight") and not name.endswith(NARROW):
            return WIDTHS.get(_shape(header, name)[-1])
    if "clip_g" in header:
        return "sdxl"
    return WIDTHS.get(_shape(header, "emb_params")[-1]) if "emb_params" in header else None


@lru_cache(maxsize=8192)
def _told(path: Path, _modified_ns: int, _bytes: int) -> Told:
    if path.is_dir():
        return Told(_family_of_folder(path))
    if path.suffix.lower() not in (".safetensors", ".sft"):
        return Told()
    header = safetensors_header(path)
    names = [name for name in header if name != METADATA]
    sizes: Counter[str] = Counter()
    for name in names:
        entry = header[name]
        if isinstance(entry, dict):
            sizes[str(cast("dict[str, Any]", entry).get("dtype"))] += prod(_shape(header, name))
    metadata = metadata_of(header)
    dtype = sizes.most_common(1)[0][0] if sizes else None
    return Told(family_of(header), len(names) if header else None, dtype, bool(metadata), COVERS in metadata)


def _shape(header: Mapping[str, Any], name: str) -> list[int]:
    """The shape of a tensor; [0] where there is none."""
    try:
        return [int(size) for size in header[name]["shape"]] or [0]
    except (TypeError, ValueError, KeyError, OverflowError):
        return [0]


def _family_of_folder(path: Path) -> str | None:
    """The family of a model as diffusers saves it."""
    try:
        config: Any = json.loads((path / "unet/config.json").read_bytes())
        return WIDTHS.get(config["cross_attention_dim"])
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        return None
