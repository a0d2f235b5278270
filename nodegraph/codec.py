"""Values to bytes and back: JSON for structure, safetensors for tensors. Never pickle, never code from a file."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nodegraph.types import Each

if TYPE_CHECKING:
    import torch

STRUCTURE = "nodegraph"


class NotStorable(TypeError):
    """A value that has no form on disk; it stays in memory."""


def encode(value: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """A value as JSON and the tensors it names.

    Raises:
        NotStorable: it holds something that is neither JSON, a tensor, nor a frozen dataclass of these.
    """
    found: dict[str, Any] = {}
    return _encode(value, found), found


def decode(structure: Any, found: Mapping[str, torch.Tensor], packages: Collection[str], device: str = "cpu") -> Any:
    """The value again.

    Args:
        structure: JSON from `encode`.
        found: its tensors.
        packages: the packages whose dataclasses may be made.
        device: where tensors go that were not on the CPU.

    Raises:
        NotStorable: it names a type outside these packages, or one that has changed.
    """
    if not isinstance(structure, dict):
        return structure
    stored = cast("dict[str, Any]", structure)
    kind, body = stored["is"], stored["of"]
    if kind == "tensor":
        return found[body].to(device) if "on" in stored else found[body]
    if kind == "dict":
        return {name: decode(item, found, packages, device) for name, item in body.items()}
    if kind in ("list", "tuple", "each"):
        items = [decode(item, found, packages, device) for item in body]
        return items if kind == "list" else Each(items) if kind == "each" else tuple(items)
    made = _dataclass(kind, packages)
    try:
        return made(**{name: decode(item, found, packages, device) for name, item in body.items()})
    except TypeError as error:
        raise NotStorable(f"{kind} has other fields now") from error


def write_file(path: Path, structure: Any, found: Mapping[str, torch.Tensor]) -> int:
    """Writes an encoded value with tensors -> bytes written. The file is not at its final name yet: rename it."""
    from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]  # PathLike of what?

    plain: dict[str, torch.Tensor] = {}
    storages: set[int] = set()
    for name, tensor in found.items():
        one = tensor.detach().cpu().contiguous()
        place = one.untyped_storage().data_ptr()
        plain[name] = one.clone() if place in storages else one  # safetensors refuses tensors that share memory
        storages.add(place)
    save_file(plain, path, metadata={STRUCTURE: json.dumps(structure)})
    return path.stat().st_size


def read_file(path: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    """Reads what `write_file` wrote.

    Raises:
        NotStorable: it is not such a file, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with cast(Any, safe_open(path, "pt")) as file:  # compiled, without types
            metadata: dict[str, str] = file.metadata() or {}
            structure = json.loads(metadata[STRUCTURE])
            return structure, {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise NotStorable(f"{path.name}: {error}") from error


_SEQUENCES: Mapping[type, str] = {list: "list", tuple: "tuple", Each: "each"}


def _encode(value: object, found: dict[str, Any]) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is dict:
        items = cast("dict[object, object]", value)
        if all(type(name) is str for name in items):
            return {"is": "dict", "of": {name: _encode(item, found) for name, item in items.items()}}
    if kind in _SEQUENCES:
        return {"is": _SEQUENCES[kind], "of": [_encode(item, found) for item in cast("Iterable[object]", value)]}
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and _is_frozen(value):
        fields = {field.name: _encode(getattr(value, field.name), found) for field in dataclasses.fields(value)}
        return {"is": f"{kind.__module__}:{kind.__qualname__}", "of": fields}
    import torch

    if isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_meta:
        name = str(len(found))
        found[name] = value
        place = {} if value.device.type == "cpu" else {"on": value.device.type}
        return {"is": "tensor", "of": name, **place}
    raise NotStorable(f"{kind.__name__} has no form on disk")


def _is_frozen(value: Any) -> bool:
    return value.__dataclass_params__.frozen


def _dataclass(name: str, packages: Collection[str]) -> Any:
    module, _, qualname = name.partition(":")
    if module.partition(".")[0] not in packages:
        raise NotStorable(f"{name} is not of a loaded node package")
    try:
        found = getattr(importlib.import_module(module), qualname)
    except (ImportError, AttributeError) as error:
        raise NotStorable(f"{name} is gone") from error
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise NotStorable(f"{name} is not a value type")
    return found
