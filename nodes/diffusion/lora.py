"""LoRAs over the weights of a part: which tensors a file changes, what of it fits, and the overlay that does it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from nodegraph.errors import FileProblem, some_of
from nodes.diffusion.architecture import family_name
from nodes.diffusion.checkpoints import Part, part_entries, sources
from nodes.diffusion.lora_blocks import Blocks, block_of
from nodes.diffusion.lora_names import Pieces, is_of_text_encoder, layer_names, pieces_of
from nodes.diffusion.lora_shapes import Adapter, adapters_of, extent, lora_family, prompt_width, read_lora

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nodes.diffusion.overlays import Change


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A LoRA file: its name for people, where it lies, and the digest of its content."""

    name: str
    path: str
    digest: str


@dataclass(frozen=True, slots=True)
class LoraOverlay:
    """A LoRA over the weights of one part.

    Attributes:
        strength: 1 is as trained, 0 nothing; any number.
        blocks: factors of the strength in blocks of the UNet.
    """

    file: LoraFile
    strength: float
    blocks: Blocks = ()

    @property
    def fingerprint(self) -> str:
        """Equal for equal content, strength and factors."""
        return f"lora {self.file.digest} {self.strength!r} {sorted(dict(self.blocks).items())}"

    def keys(self, part: Part[Any]) -> dict[str, str]:
        """The tensors it changes, each with the file's content and the strength there.

        Raises:
            FileProblem: the file cannot be read, or is for another model.
        """
        strengths = {name: self._strength(part, name) for name in fit(self.file, part).changes}
        return {name: f"lora {self.file.digest} {at!r}" for name, at in strengths.items() if at}

    def changes(self, part: Part[Any], device: torch.device) -> Mapping[str, Change]:
        """How it changes each of them; the file is mapped by the first that is called, and read by each.

        Raises:
            FileProblem: see `keys`.
        """
        from nodes.diffusion.lora_formats import changed
        from nodes.diffusion.weights import read_tensors

        tensors = cache(lambda: dict(read_tensors(self.file.path)))

        def change(adapter: Adapter, strength: float) -> Change:
            def apply(weight: Tensor) -> Tensor:
                own = {piece: tensors()[name] for piece, name in adapter.names.items()}
                # `alpha` is read as a number, for which a device would have to be waited for.
                pieces = {piece: tensor if piece == "alpha" else tensor.to(device) for piece, tensor in own.items()}
                return changed(adapter.kind, pieces, strength, weight)

            return apply

        adapters = fit(self.file, part).changes
        return {name: change(adapters[name], self._strength(part, name)) for name in self.keys(part)}

    def _strength(self, part: Part[Any], name: str) -> float:
        return self.strength * dict(self.blocks).get(block_of(part.role, name), 1.0)


class Fit(NamedTuple):
    """What of a file fits a part.

    Attributes:
        changes: what is done to each of the part's tensors, by our names.
        used: the tensors of the file that say so.
        misfits: the layers that both have, in other shapes: a sentence of each.
        odd: the tensors of the file that belong to these.
    """

    changes: Mapping[str, Adapter]
    used: frozenset[str]
    misfits: tuple[str, ...]
    odd: frozenset[str]


def fit(file: LoraFile, part: Part[Any]) -> Fit:
    """What of a LoRA fits a part.

    Raises:
        FileProblem: the file cannot be read, or its layers are those of another model in other shapes.
    """
    return _fit(file, replace(part, overlays=()))


@lru_cache(maxsize=32)
def _fit(file: LoraFile, part: Part[Any]) -> Fit:
    shapes, layers, width = _contents(file)
    ours = part_shapes(part)
    known = layer_names(part, ours)
    changes: dict[str, Adapter] = {}
    misfits: dict[str, str] = {}
    odd: set[str] = set()
    for layer, pieces in layers.items():
        weight = known.get(layer)
        for place, adapter in adapters_of(pieces, shapes).items() if weight else ():
            name = weight if place == "weight" else weight.removesuffix(".weight") + ".bias"  # pyright: ignore[reportOptionalMemberAccess]
            if name not in ours or name in changes:
                continue
            if reason := _misfit(adapter, shapes, ours[name]):
                misfits[name] = f"{layer} {reason}"
                odd |= set(adapter.names.values())
            else:
                changes[name] = adapter
    _refuse_strangers(file, part, misfits, len(changes), width)
    used = frozenset(name for adapter in changes.values() for name in adapter.names.values())
    return Fit(changes, used, tuple(misfits.values()), frozenset(odd))


def overlaid(
    file: LoraFile, parts: Sequence[tuple[Part[Any], float]], blocks: Blocks = ()
) -> tuple[tuple[Part[Any], ...], str]:
    """Lays a LoRA over the parts of a model, each at its strength.

    Returns:
        The parts, those it does not change as they were; and what is to be told of the file, or "".

    Raises:
        FileProblem: it cannot be read, is for another model, or nothing in it fits.
    """
    fits = [fit(file, part) for part, _ in parts]
    if not any(found.changes for found in fits):
        raise _nothing(file, [part for part, _ in parts])
    laid: list[Part[Any]] = []
    for part, strength in parts:
        overlay = LoraOverlay(file, strength, blocks)
        laid.append(part.overlaid(overlay) if overlay.keys(part) else part)
    return tuple(laid), _report(file, fits, has_text=any(part.role != "unet" for part, _ in parts))


class _Contents(NamedTuple):
    """Shapes of a file's tensors, its layers with the names of their pieces, and the width of its prompts."""

    shapes: Mapping[str, tuple[int, ...]]
    layers: Mapping[str, Pieces]
    width: int | None


@lru_cache(maxsize=16)
def _contents(file: LoraFile) -> _Contents:
    header = read_lora(file.path)
    shapes = {name: entry.shape for name, entry in header.tensors.items()}
    return _Contents(shapes, pieces_of(shapes)[0], prompt_width(header))


def part_shapes(part: Part[Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of a part's tensors as they stand in its file, by our names."""
    entries = part_entries(part)
    found = sources(part.role, part.layout, entries)
    return {name: source.cut(entries[source.name].shape) for name, source in found.items()}


def _misfit(adapter: Adapter, shapes: Mapping[str, tuple[int, ...]], wanted: tuple[int, ...]) -> str:
    """Why an adapter cannot change a tensor of a shape; "" where it can."""
    size = extent(adapter, shapes)
    if size is None:
        return "lacks tensors or has some that do not fit each other"
    rows, columns = wanted[0], math.prod(wanted[1:])
    if size[0] == rows and size[1] in (None, columns):
        if "dora_scale" not in adapter.names:
            return ""
        lengths = shapes[adapter.names["dora_scale"]]
        sides = zip(wanted[:2] if wanted[1:] else (), (lengths[:1], lengths[1:2]), strict=False)  # rows, or inputs
        fits = any(math.prod(lengths) == n and own == (n,) for n, own in sides)
        return "" if fits else "has lengths of another layer"
    made = size[0] if size[1] is None else f"{size[0]} x {size[1]}"
    return f"is for {made}, the model's layer is {rows} x {columns}"


def _refuse_strangers(
    file: LoraFile, part: Part[Any], misfits: Mapping[str, str], fitting: int, width: int | None
) -> None:
    """Raises where layers differ as they do between families; single ones are left out and told."""
    family = _family(part)
    if part.role == "unet" and width not in (None, part.config.context_dim):
        made = lora_family(file.path, file.digest)
        raise FileProblem(
            f"{file.name}: is a LoRA {f'of {made} ' if made else ''}for prompts of {width} features, but this model of "
            f"{family} takes {part.config.context_dim}; choose one made for it"
        )
    if len(misfits) > fitting:
        raise FileProblem(
            f"{file.name}: is a LoRA of another model: {next(iter(misfits.values()))} (and {len(misfits) - 1} more); "
            f"choose one made for this {part.role} of {family}"
        )


def _family(part: Part[Any]) -> str:
    return family_name(part.family, part.config.context_dim if part.role == "unet" else None)


def _nothing(file: LoraFile, parts: Sequence[Part[Any]]) -> FileProblem:
    made = lora_family(file.path, file.digest)
    model = _family(parts[0])
    layers = list(_contents(file).layers)
    if all(is_of_text_encoder(layer) for layer in layers) and all(part.role == "unet" for part in parts):
        return FileProblem(f"{file.name}: is a LoRA of text encoders alone; load it with LoraLoader and wire the CLIP")
    return FileProblem(
        f"{file.name}: is a LoRA of {made or 'an unknown model'}; nothing in it fits this model of {model}: its first "
        f"layer is {layers[0]}"
    )


def _report(file: LoraFile, fits: Sequence[Fit], has_text: bool) -> str:
    """What is to be told of a file whose tensors do not all fit; text encoders count where there are some."""
    names = list(_contents(file).shapes)
    used = frozenset[str]().union(*(found.used for found in fits))
    odd = frozenset[str]().union(*(found.odd for found in fits)) - used
    lost = [name for name in names if name not in used | odd and (has_text or not is_of_text_encoder(name))]
    misfits = list(dict.fromkeys(misfit for found in fits for misfit in found.misfits))
    told: list[str] = []
    if lost:
        told.append(f"{len(lost)} of {len(names)} tensors of {file.name} match nothing in this model: {some_of(lost)}")
    if misfits:
        told.append(f"of {file.name} is left out: {some_of(misfits)}")
    return "; ".join(told)
