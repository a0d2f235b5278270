"""Text encoders alone in a file: which one it is, and under which names. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from nodegraph.errors import FileProblem
from nodegraph.types import FileRef
from nodes.diffusion.architecture import ClipConfig, Family
from nodes.diffusion.checkpoints import Part, Role, read_clip
from nodes.diffusion.foreign import name_kind, refuse_foreign
from nodes.diffusion.headers import read_header

_ALONE: Mapping[Role, Family] = {"clip_l": "sd1", "clip_h": "sd2", "clip_g": "sdxl_refiner"}  # whose only one it is
_NAMES: Mapping[Role, str] = {"clip_l": "CLIP-L", "clip_h": "OpenCLIP-H", "clip_g": "OpenCLIP-G"}
_TABLES = (
    "text_model.embeddings.token_embedding.weight",
    "embeddings.token_embedding.weight",
    "token_embedding.weight",
)


def read_encoder(path: str | Path, digest: str, family: Family | None = None) -> Part[ClipConfig]:
    """Reads the text encoder of a file, with the names of transformers or open_clip after any prefix.

    Args:
        path: the file.
        digest: of its content.
        family: of the model it is for; None for the one whose only text encoder it is.

    Raises:
        FileProblem: the file is damaged, holds no text encoder or several, or one of another kind.
    """
    path = Path(path)
    header = read_header(path)
    refuse_foreign(path.name, header.tensors, "a text encoder")
    tables = [(name, table) for name in header.tensors for table in _TABLES if name.endswith(table)]
    prefixes = {name: name[: -len(table)] for name, table in reversed(tables)}  # the longest table is the first
    if not prefixes:
        raise name_kind(path.name, header.tensors, "a text encoder")
    if len(prefixes) > 1:
        raise FileProblem(
            f"{path.name}: holds {len(prefixes)} text encoders; load it with CheckpointLoaderSimple, or save each alone"
        )
    (prefix,) = prefixes.values()
    role = _role(name.removeprefix(prefix) for name in header.tensors)
    return read_clip(path, digest, role, family or _ALONE[role], prefix, header)


def read_two_encoders(first: FileRef, second: FileRef) -> tuple[Part[ClipConfig], ...]:
    """The two text encoders of SDXL, CLIP-L before OpenCLIP-G, whichever file holds which.

    Raises:
        FileProblem: see `read_encoder`; or the two are others.
    """
    found = [read_encoder(file.path, file.digest, "sdxl") for file in (first, second)]
    parts: dict[Role, Part[ClipConfig]] = {part.role: part for part in found}
    if parts.keys() != {"clip_l", "clip_g"}:
        kinds = " and ".join(_NAMES[part.role] for part in found)
        raise FileProblem(f"{first.name} and {second.name}: are {kinds}; SDXL takes CLIP-L and OpenCLIP-G, one of each")
    return parts["clip_l"], parts["clip_g"]


def _role(names: Iterable[str]) -> Role:
    """By the number of layers: 12 in CLIP-L, 24 in OpenCLIP-H (23 as diffusers saves it), 32 in OpenCLIP-G."""
    names = set(names)

    def has(layer: int) -> bool:
        layers = (f"text_model.encoder.layers.{layer}.", f"encoder.layers.{layer}.", f"transformer.resblocks.{layer}.")
        return any(name.startswith(layers) for name in names)

    return "clip_g" if has(30) else "clip_h" if has(22) else "clip_l"
