"""Textual inversion: the files that prompts name, and the vectors in them that stand in the places of tokens.

Source: Gal et al. 2022 (arXiv:2208.01618). No torch at import, so that planning can look for the files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from nodegraph.errors import FileProblem, did_you_mean
from nodegraph.types import FileRef
from nodes.diffusion.foreign import refuse_foreign
from nodes.diffusion.headers import FLOATS, PICKLES, read_header, sniff

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph.files import Folders
    from nodes.diffusion.architecture import ClipConfig
    from nodes.diffusion.checkpoints import Part

KIND = "embeddings"
_SUFFIXES = ("", ".safetensors", ".pt", ".bin")
_ROLES = ("clip_l", "clip_g")
_MODELS = {768: "SD1", 1024: "SD2", 1280: "the second encoder of SDXL"}
_NOT_ONE = "is not a textual inversion that can be read; expected one tensor, `emb_params`, or `clip_l` and `clip_g`"


def find_embedding(files: Folders, name: str) -> FileRef:
    """The file of an embedding: `name` with or without its suffix, in the folder itself or in any below it.

    Raises:
        FileProblem: there is none; the nearest name is told.
    """
    known = files.names(KIND)
    wanted = name.replace("\\", "/").strip("/")
    for suffix in _SUFFIXES:
        if wanted + suffix in known:
            return files.find(KIND, wanted + suffix)
    below = [other for other in known if any(other.endswith(f"/{wanted}{suffix}") for suffix in _SUFFIXES)]
    if below:
        return files.find(KIND, below[0])
    near = did_you_mean(wanted, [other for full in known for other in (_stem(full), PurePosixPath(_stem(full)).name)])
    raise FileProblem(
        f"the prompt names the embedding {name!r}, which is not among the {KIND}; "
        + (near or f"put its file in the {KIND!r} folder of the models")
    )


def embedding_problems(files: Folders, names: Iterable[str]) -> list[FileProblem]:
    """What is wrong with the embeddings that a prompt names, found without torch; a pickle is only sniffed at."""
    problems: list[FileProblem] = []
    for name in names:
        try:
            path = Path(find_embedding(files, name).path)
            if path.suffix.lower() in PICKLES:
                sniff(path)
            else:
                shapes = {key: entry.shape for key, entry in read_header(path).tensors.items() if entry.dtype in FLOATS}
                _chosen(path.name, shapes)
        except FileProblem as error:
            problems.append(error)
    return problems


def embeddings_digest(files: Folders, names: Iterable[str] | None) -> str:
    """The content of these embeddings, of all there are for None, as one string; what is missing counts as that."""
    if names is None:
        return " ".join(f"{name}\0{_digest(files, name)}" for name in files.names(KIND))
    return " ".join(_digest(files, name) for name in names)


def _digest(files: Folders, name: str) -> str:
    try:
        return find_embedding(files, name).digest
    except FileProblem:
        return "missing"


def _stem(name: str) -> str:
    return next((name.removesuffix(suffix) for suffix in _SUFFIXES[1:] if name.endswith(suffix)), name)


def read_embedding(file: FileRef, part: Part[ClipConfig]) -> Tensor:
    """The vectors [n, D] of an embedding for one text encoder: those under its role, or the only ones in the file.

    Reads safetensors with `emb_params` or with `clip_l` and `clip_g`, files of one tensor under any name, and
    pickles of these and of AUTOMATIC1111's form (`string_to_param`), with torch's `weights_only`.

    Raises:
        FileProblem: the file holds no embedding.
        ValueError: its vectors are not as wide as those of the text encoder.
    """
    path = Path(file.path)
    tensors = _read_pickle(path) if path.suffix.lower() in PICKLES else _read_safetensors(path)
    chosen = _chosen(path.name, {key: tuple(tensor.shape) for key, tensor in tensors.items()})
    if part.role in chosen:
        vectors = tensors[chosen[part.role]]
    elif "" in chosen:
        vectors = tensors[chosen[""]]
    else:
        raise ValueError(
            f"embedding {file.name!r} is one of SDXL and has no vectors for this text encoder ({part.role}); use one "
            f"made for {_MODELS.get(part.config.hidden, 'this model')}"
        )
    vectors = vectors.detach().reshape(-1, vectors.shape[-1])
    width, expected = vectors.shape[-1], part.config.hidden
    if width != expected:
        raise ValueError(
            f"embedding {file.name!r} has vectors of width {width}{_of(width)}, and this text encoder ({part.role}) "
            f"takes {expected}{_of(expected)}; use an embedding made for this model, or remove it from the prompt"
        )
    return vectors


def _of(width: int) -> str:
    return f" ({_MODELS[width]})" if width in _MODELS else ""


def _chosen(where: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Which tensor is for which role; "" stands for any.

    Raises:
        FileProblem: there is no such tensor, or too many.
    """
    found = {role: role for role in _ROLES if role in shapes}
    if not found:
        key = "emb_params" if "emb_params" in shapes else next(iter(shapes), "")
        if not shapes or (len(shapes) > 1 and key != "emb_params"):
            refuse_foreign(where, shapes, "a textual inversion")
            raise FileProblem(f"{where}: {_NOT_ONE}")
        found = {"": key}
    for key in found.values():
        if not 1 <= len(shapes[key]) <= 3 or math.prod(shapes[key]) == 0:
            raise FileProblem(f"{where}: {_NOT_ONE}")
    return found


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from nodes.diffusion.weights import read_tensors

    return {name: tensor for name, tensor in read_tensors(path) if tensor.is_floating_point()}


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a pickled embedding; of AUTOMATIC1111's form those of `string_to_param`.

    Nothing in the file is executed: torch's `weights_only` builds tensors and containers alone. A `ParameterDict`,
    which old files have, is such a container.
    """
    import torch
    from torch import Tensor

    from nodes.diffusion.weights import unpickled

    sniff(path)
    found: Any = unpickled(path, _NOT_ONE, [torch.nn.ParameterDict])
    if isinstance(found, Tensor):
        return {"": found}
    if isinstance(found, dict) and "string_to_param" in found:
        found = dict(list(dict(found["string_to_param"]).items())[:1])
    if not isinstance(found, dict):
        raise FileProblem(f"{path.name}: {_NOT_ONE}")
    floats = (item for item in found.items() if isinstance(item[1], Tensor) and item[1].is_floating_point())
    return {str(name): tensor for name, tensor in floats}
