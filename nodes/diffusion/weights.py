"""Loads the weights of a part into a module: mapped from the file, tensor by tensor, with no second copy in memory."""

from __future__ import annotations

import mmap
import pickle
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nodegraph.errors import FileProblem
from nodes.diffusion import checkpoints
from nodes.diffusion.architecture import ClipConfig, UNetConfig, VaeConfig
from nodes.diffusion.headers import PICKLES, TensorEntry
from nodes.diffusion.keymap import Source

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_SHOWN = 3  # names listed in a message


def load_part(part: checkpoints.Part[Any], device: torch.device | str, dtype: torch.dtype) -> nn.Module:
    """Builds the network of a part, in evaluation mode, with its weights on `device` in `dtype`.

    Where device and dtype are those of the file, the weights are the mapped file itself: the pages are shared with
    every process that maps it, and dropped by the system when memory is short. Else each tensor is converted alone
    and its pages are dropped, so that the peak is what is held plus one tensor. A file should be replaced by renaming
    another over it: one that is rewritten in place changes under the modules that map it.

    Raises:
        FileProblem: the file lacks the part, or has tensors missing or of other shapes.
    """
    entries = checkpoints.part_entries(part)
    if not entries:
        raise checkpoints.lacks(part)
    sources = checkpoints.sources(part.role, part.layout, entries)
    with torch.device("meta"):
        module = build(part.config)
    wanted = {name: tensor.shape for name, tensor in module.state_dict().items()}
    _compare(Path(part.path).name, wanted, sources, entries)
    with ExitStack() as stack:
        readers = {path: stack.enter_context(_reader(path)) for path in {entry.path for entry in entries.values()}}
        weights: dict[str, Tensor] = {}
        for name, shape in wanted.items():
            source = sources[name]
            entry = entries[source.name]
            reader = readers[entry.path]
            stored = reader.tensor(part.prefix + source.name, entry, source.third)
            stored = (stored.t() if source.transposed else stored).reshape(shape)
            weights[name] = stored.to(device).to(dtype)
            if weights[name] is not stored:
                reader.drop(entry)
    module.load_state_dict(weights, assign=True)
    return module.requires_grad_(False).eval()


def build(config: UNetConfig | VaeConfig | ClipConfig) -> nn.Module:
    """Makes the module that a configuration describes, with whatever weights torch gives it."""
    if isinstance(config, UNetConfig):
        from nodes.diffusion.unet import UNet

        return UNet(config)
    if isinstance(config, VaeConfig):
        from nodes.diffusion.vae import AutoencoderKL

        return AutoencoderKL(config)
    from nodes.diffusion.clip import ClipTextModel

    return ClipTextModel(config)


def read_tensors(path: str | Path) -> Iterator[tuple[str, Tensor]]:
    """Yields every tensor of a weight file, mapped from it: for small files such as LoRAs, whose names vary.

    Raises:
        FileProblem: the file is damaged or not a weight file.
    """
    entries = checkpoints.read_header(path).tensors
    with _reader(str(path)) as reader:
        for name, entry in entries.items():
            yield name, reader.tensor(name, entry)


def pickle_tensors(path: Path) -> dict[str, Tensor]:
    """Reads the tensors of a pickle with torch's `weights_only`: nothing in it is executed.

    Raises:
        FileProblem: it is damaged, or is more than tensors and would have to run code.
    """
    found = unpickled(path, "is not a checkpoint that torch can read; download it again")
    for wrapper in ("state_dict", "model", "params_ema", "params"):
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict):
        raise FileProblem(f"{path.name}: holds no named tensors; choose another file")
    return {name: tensor for name, tensor in found.items() if isinstance(name, str) and isinstance(tensor, Tensor)}


def unpickled(path: Path, instead: str, classes: Sequence[type] = ()) -> Any:
    """What is in a pickle, by torch's `weights_only`: tensors and containers, and nothing is executed.

    Args:
        path: the file.
        instead: what to say of a file that torch cannot read.
        classes: further containers it may hold.

    Raises:
        FileProblem: it is damaged, or is more than these and would have to run code.
    """
    try:
        is_zip = zipfile.is_zipfile(path)  # since torch 1.6; only these can be mapped
        with torch.serialization.safe_globals(list(classes)):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise FileProblem(
            f"{path.name}: is damaged or would have to run code, which is refused; use a .safetensors version"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, AttributeError, UnicodeDecodeError) as error:
        raise FileProblem(f"{path.name}: {instead}") from error


def pickled_entry(path: str, tensor: Tensor) -> TensorEntry:
    """The entry of a tensor of a pickle, whose place in the file is torch's affair."""
    return TensorEntry(path, _NAMES.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape), 0, tensor.nbytes)


class _SafetensorsReader:
    """A mapped safetensors file. Its tensors stay valid after it is closed: they keep the mapping alive."""

    def __init__(self, path: str) -> None:
        with open(path, "rb") as file:
            # A private, writable mapping: torch warns of read-only memory, and nothing written would reach the file.
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def tensor(self, _: str, entry: TensorEntry, third: int | None = None) -> Tensor:
        """A tensor or a third of its rows: a mapping of its own, so that a module counts the bytes it uses."""
        dtype = DTYPES[entry.dtype]
        if entry.nbytes == 0:
            return torch.empty(entry.shape, dtype=dtype)
        shape, start, count = entry.shape, entry.start, entry.nbytes // dtype.itemsize
        if third is not None:
            shape, count = (shape[0] // 3, *shape[1:]), count // 3
            start += third * count * dtype.itemsize
        if start % dtype.itemsize:  # after a header of odd length; such addresses are slow or illegal
            copy = bytearray(self._map[start : start + count * dtype.itemsize])
            return torch.frombuffer(copy, dtype=dtype).view(shape)
        return torch.frombuffer(self._map, dtype=dtype, count=count, offset=start).view(shape)

    def drop(self, entry: TensorEntry) -> None:
        """Gives back the pages read for a tensor; they can be read again from the file."""
        start = entry.start - entry.start % mmap.PAGESIZE
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED, start, entry.stop - start)

    def __enter__(self) -> _SafetensorsReader:
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the mapping to the tensors that use it."""


class _PickleReader:
    """The tensors of a pickle, mapped by torch where its format allows."""

    def __init__(self, path: str) -> None:
        self._tensors = pickle_tensors(Path(path))

    def tensor(self, name: str, _: TensorEntry, third: int | None = None) -> Tensor:
        tensor = self._tensors[name]
        return tensor if third is None else tensor.chunk(3)[third]

    def drop(self, _: TensorEntry) -> None:
        """Torch's mapping cannot be dropped in pieces."""

    def __enter__(self) -> _PickleReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._tensors.clear()


def _reader(path: str) -> _SafetensorsReader | _PickleReader:
    return _PickleReader(path) if Path(path).suffix.lower() in PICKLES else _SafetensorsReader(path)


def _compare(
    where: str, wanted: Mapping[str, torch.Size], sources: Mapping[str, Source], entries: Mapping[str, TensorEntry]
) -> None:
    """Raises when tensors are missing or cannot take the shapes wanted."""
    missing = [name for name in wanted if name not in sources]
    if missing:
        raise FileProblem(
            f"{where}: lacks {_some(missing)}; it is incomplete or of an architecture that is not supported"
        )
    odd: list[str] = []
    for name, shape in wanted.items():
        source = sources[name]
        found = _cut_shape(entries[source.name].shape, source)
        # a linear layer and a 1x1 convolution hold the same numbers
        if _squeezed(found) != _squeezed(tuple(shape)):
            odd.append(f"{source.name} is {list(found)}, not {list(shape)}")
    if odd:
        raise FileProblem(f"{where}: has tensors of other shapes than its architecture: {_some(odd)}")


def _cut_shape(shape: tuple[int, ...], source: Source) -> tuple[int, ...]:
    if source.third is not None:
        shape = (shape[0] // 3, *shape[1:]) if shape else shape
    return shape[::-1] if source.transposed else shape


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:2] if shape[2:] == (1, 1) else shape


def _some(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
