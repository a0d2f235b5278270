"""Reads the table of contents of a weight file: names, dtypes, shapes, positions. No torch, no tensor is read."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nodegraph.errors import FileProblem

PICKLES = (".ckpt", ".pt", ".pth", ".bin")
FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
ITEM_BYTES = FLOATS | {"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_HEADER_LIMIT = 100_000_000
_LFS_POINTER = b"version https://git-lfs"


class TensorEntry(NamedTuple):
    """One tensor of a file. `start` and `stop` are positions in the file, in bytes (0 and the size in a pickle)."""

    path: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """Bytes the tensor takes in the file."""
        return self.stop - self.start


class Header(NamedTuple):
    """What a weight file holds: its tensors by name, and the metadata its maker wrote."""

    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]


def read_header(path: str | Path) -> Header:
    """Reads the header of a .safetensors file, or lists the tensors of a pickle (.ckpt, .pt, .pth, .bin).

    Only a pickle needs torch, which is imported then; it is read with `weights_only`, so nothing in it is executed.
    The format: https://github.com/huggingface/safetensors, "Format".

    Raises:
        FileProblem: the file is missing, empty, cut short, or is not a weight file.
    """
    path = Path(path)
    start = sniff(path)
    if path.suffix.lower() in PICKLES:
        from nodes.diffusion.weights import pickle_tensors, pickled_entry

        return Header({name: pickled_entry(str(path), tensor) for name, tensor in pickle_tensors(path).items()}, {})
    size = path.stat().st_size
    length = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else 0
    if not 2 <= length <= _HEADER_LIMIT or start[8:9] not in (b"{", b""):
        raise FileProblem(f"{path.name}: is not a safetensors file; download it again or choose another")
    if 8 + length > size:
        raise _cut_short(path, 8 + length, size)
    with path.open("rb") as file:
        file.seek(8)
        table = _table(path, file.read(length))
    metadata = table.pop("__metadata__", None)
    tensors = {name: _entry(path, name, fields, 8 + length) for name, fields in table.items()}
    end = max((entry.stop for entry in tensors.values()), default=0)
    if end > size:
        raise _cut_short(path, end, size)
    return Header(tensors, metadata if isinstance(metadata, dict) else {})


def sniff(path: Path) -> bytes:
    """Returns the first bytes of a file, having made sure that they could be those of a weight file.

    Raises:
        FileProblem: it is missing, empty, a web page, a git-lfs pointer, or a GGUF file.
    """
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise FileProblem(f"{path.name}: cannot be read ({error.strerror}); check that the file is there") from error
    if not start:
        raise FileProblem(f"{path.name}: is empty (0 bytes); download it again")
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise FileProblem(f"{path.name}: is a web page saved under the name of a model; download the file itself")
    if start.startswith(_LFS_POINTER):
        raise FileProblem(f"{path.name}: is a git-lfs pointer, not the model; run `git lfs pull` where it came from")
    if start.startswith(b"GGUF") or path.suffix.lower() == ".gguf":
        raise FileProblem(f"{path.name}: is a GGUF file, which is not supported; use the .safetensors version")
    return start


def floats(entry: TensorEntry, name: str) -> tuple[float, ...]:
    """Reads one small float tensor; straight from a safetensors file, without torch or numpy."""
    if Path(entry.path).suffix.lower() in PICKLES:
        from nodes.diffusion.weights import pickle_tensors

        return tuple(pickle_tensors(Path(entry.path))[name].flatten().tolist())
    with Path(entry.path).open("rb") as file:
        file.seek(entry.start)
        data = file.read(entry.nbytes)
    count = math.prod(entry.shape)
    if entry.dtype == "BF16":  # the upper half of a float32
        return struct.unpack(f"<{count}f", b"".join(b"\0\0" + data[i : i + 2] for i in range(0, 2 * count, 2)))
    code = {"F64": "d", "F32": "f", "F16": "e"}[entry.dtype]
    return struct.unpack(f"<{count}{code}", data)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object from a file of a model folder.

    Raises:
        FileProblem: the file is missing or is not a JSON object.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileProblem(f"{path.parent.name}/{path.name}: cannot be read as JSON ({error})") from error
    if not isinstance(document, dict):
        raise FileProblem(f"{path.parent.name}/{path.name}: is not a JSON object")
    return document


def _table(path: Path, header: bytes) -> dict[str, Any]:
    try:
        table = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise FileProblem(f"{path.name}: its safetensors header is damaged ({error}); download it again") from error
    if not isinstance(table, dict):
        raise FileProblem(f"{path.name}: its safetensors header is not a table of tensors; download it again")
    return table


def _entry(path: Path, name: str, fields: Any, base: int) -> TensorEntry:
    try:
        dtype, shape, (start, stop) = fields["dtype"], tuple(fields["shape"]), fields["data_offsets"]
        is_sound = 0 <= start <= stop and all(type(n) is int and n >= 0 for n in (*shape, start, stop))
        if is_sound and (dtype not in ITEM_BYTES or stop - start == ITEM_BYTES[dtype] * math.prod(shape)):
            return TensorEntry(os.fspath(path), str(dtype), shape, base + start, base + stop)
    except (TypeError, KeyError, ValueError):
        pass  # of another form: told below
    raise FileProblem(f"{path.name}: the entry of tensor {name!r} in its header is damaged; download it again")


def _cut_short(path: Path, expected: int, size: int) -> FileProblem:
    return FileProblem(f"{path.name}: is cut short, {size:,} of {expected:,} bytes are there; download it again")
