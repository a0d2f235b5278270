"""Loads the weights of a part into a module: mapped from the file, tensor by tensor, with no second copy in memory."""

from __future__ import annotations

import mmap
import pickle
import threading
import zipfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nodegraph.errors import FileProblem, some_of
from nodes.diffusion import checkpoints
from nodes.diffusion.architecture import ClipConfig, UNetConfig, VaeConfig
from nodes.diffusion.headers import PICKLES, TensorEntry
from nodes.diffusion.inert import STAND_INS
from nodes.diffusion.keymap import Source, squeezed
from nodes.diffusion.overlays import Change

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_ALLOWING = threading.Lock()  # what torch allows in a pickle is one set for all threads


def load_part(
    part: checkpoints.Part[Any], device: torch.device | str, dtype: torch.dtype, variants: Sequence[nn.Module] = ()
) -> nn.Module:
    """Builds the network of a part, in evaluation mode, with its weights on `device` in `dtype`.

    Where device and dtype are those of the file, the weights are the mapped file itself: the pages are shared with
    every process that maps it, and dropped by the system when memory is short. Else each tensor is converted alone
    and its pages are dropped, so that the peak is what is held plus one tensor. A file should be replaced by renaming
    another over it: one that is rewritten in place changes under the modules that map it.

    What overlays change is made from the file, on the device, in float32.

    Args:
        part: which.
        device: where to.
        dtype: of the weights.
        variants: networks that this made of the same base, device and dtype; they share the tensors that are alike.

    Raises:
        FileProblem: the file lacks the part, or has tensors missing or of other shapes; an overlay is none for it.
    """
    alike = {(name, made): tensor for variant in variants for name, made, tensor in _made(variant)}
    made_by: dict[str, tuple[str, ...]] = {}
    with recipe(part, device) as found:
        weights: dict[str, Tensor] = {}
        for name in found.names:
            made = made_by[name] = found.key(name)
            shared = alike.get((name, made))
            if shared is not None:
                weights[name] = shared
            elif made:
                weights[name] = found.tensor(name, alike.get((name, ()))).to(dtype)
            else:
                weights[name] = found.stored(name, dtype)
        module = found.module
    module.load_state_dict(weights, assign=True)
    module.made_by = made_by  # type: ignore[assignment]  # plain data, for the next variant
    return module.requires_grad_(False).eval()


def _made(module: nn.Module) -> Iterator[tuple[str, tuple[str, ...], Tensor]]:
    """The tensors of a loaded network: name, what made it of the file, itself."""
    made_by: Mapping[str, tuple[str, ...]] = getattr(module, "made_by", {})
    for name, tensor in module.state_dict().items():
        if name in made_by:
            yield name, made_by[name], tensor


class Recipe:
    """The tensors of a part, one by one: as they are in the file, or as its overlays make them.

    Attributes:
        names: of all of them.
        module: the network, still without weights.
    """

    def __init__(self, part: checkpoints.Part[Any], device: torch.device | str, stack: ExitStack) -> None:
        entries = checkpoints.part_entries(part)
        if not entries:
            raise checkpoints.lacks(part)
        with torch.device("meta"):
            self.module = build(part.config)
        wanted = {name: tensor.shape for name, tensor in self.module.state_dict().items()}
        sources = checkpoints.sources(part.role, part.layout, entries)
        _compare(Path(part.path).name, wanted, sources, entries)
        self.names = tuple(wanted)
        self._part, self._device = part, torch.device(device)
        self._shapes, self._sources, self._entries = wanted, sources, entries
        paths = {entry.path for entry in entries.values()}
        self._readers = {path: stack.enter_context(_reader(path)) for path in paths}
        self._keys = [overlay.keys(part) for overlay in part.overlays]
        self._changes: list[Mapping[str, Change] | None] = [None] * len(part.overlays)

    def key(self, name: str) -> tuple[str, ...]:
        """What is done to a tensor of the file, equal where the same is done; () where nothing is."""
        return tuple(keys[name] for keys in self._keys if name in keys)

    def shape(self, name: str) -> torch.Size:
        """Of a tensor."""
        return self._shapes[name]

    def dtype(self, name: str) -> torch.dtype:
        """In which a tensor is stored."""
        return DTYPES[self._entries[self._sources[name].name].dtype]

    def stored(self, name: str, dtype: torch.dtype, *, is_own: bool = False) -> Tensor:
        """A tensor as it is in the file, on the device in `dtype`; with `is_own` never the mapped file itself."""
        source = self._sources[name]
        entry = self._entries[source.name]
        reader = self._readers[entry.path]
        found = reader.tensor(self._part.prefix + source.name, entry, source.third)
        found = (found.t() if source.transposed else found).reshape(self._shapes[name])
        converted = found.to(self._device).to(dtype)
        if is_own and converted is found:
            converted = found.clone()
        if converted is not found:
            reader.drop(entry)
        return converted

    def tensor(self, name: str, loaded: Tensor | None = None) -> Tensor:
        """A tensor as the overlays make it, float32 on the device.

        Args:
            name: which.
            loaded: the file's tensor where it is on the device already; taken if it lost nothing on the way there.
        """
        if loaded is not None and torch.promote_types(loaded.dtype, self.dtype(name)) == loaded.dtype:
            weight = loaded.to(torch.float32, copy=True)
        else:
            weight = self.stored(name, torch.float32, is_own=bool(self.key(name)))  # overlays work in its place
        for number, overlay in enumerate(self._part.overlays):
            if name not in self._keys[number]:
                continue
            changes = self._changes[number]
            if changes is None:
                changes = self._changes[number] = overlay.changes(self._part, self._device)
            weight = changes[name](weight)
        return weight


@contextmanager
def recipe(part: checkpoints.Part[Any], device: torch.device | str) -> Generator[Recipe]:
    """The tensors of a part with its overlays, to be taken one by one.

    Raises:
        FileProblem: see `load_part`.
    """
    with ExitStack() as stack:
        yield Recipe(part, device, stack)


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
    for wrapper in ("state_dict", "model", "params_ema", "params", "adapter"):
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict):
        raise FileProblem(f"{path.name}: holds no named tensors; choose another file")
    return {name: tensor for name, tensor in found.items() if isinstance(name, str) and isinstance(tensor, Tensor)}


def unpickled(path: Path, instead: str, classes: Sequence[type] = ()) -> Any:
    """What is in a pickle, by torch's `weights_only`: tensors and containers, and nothing is executed.

    What training tools leave beside the tensors becomes an `Inert`.

    Args:
        path: the file.
        instead: what to say of a file that torch cannot read.
        classes: further containers it may hold.

    Raises:
        FileProblem: it is damaged, or is more than these and would have to run code.
    """
    try:
        is_zip = zipfile.is_zipfile(path)  # since torch 1.6; only these can be mapped
        with _ALLOWING, torch.serialization.safe_globals([*STAND_INS, *classes]):
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
            f"{where}: lacks {some_of(missing)}; it is incomplete or of an architecture that is not supported"
        )
    odd: list[str] = []
    for name, shape in wanted.items():
        source = sources[name]
        found = source.cut(entries[source.name].shape)
        if squeezed(found) != squeezed(tuple(shape)):
            odd.append(f"{source.name} is {list(found)}, not {list(shape)}")
    if odd:
        raise FileProblem(f"{where}: has tensors of other shapes than its architecture: {some_of(odd)}")
