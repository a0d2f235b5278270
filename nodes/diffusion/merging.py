"""Models blended into one another: the overlay that does it, and which models can be. Nothing is loaded here."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from nodegraph.errors import some_of
from nodes.diffusion.architecture import family_name
from nodes.diffusion.checkpoints import Part, lacks
from nodes.diffusion.keymap import squeezed
from nodes.diffusion.lora import part_shapes

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nodes.diffusion.overlays import Change

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """What becomes of the tensors whose names begin with `prefix`: `keep` x their own + `add` x the other's."""

    prefix: str
    keep: float
    add: float


@dataclass(frozen=True, slots=True)
class Blend:
    """Another part, with overlays of its own, blended into the weights of a part.

    A tensor whose shape is another in the other part is multiplied by `keep` and nothing is added, as in ComfyUI.

    Attributes:
        other: of the same role and family.
        shares: of these the longest prefix counts; the first is that of all other tensors.
    """

    other: Part[Any]
    shares: tuple[Share, ...]

    @property
    def fingerprint(self) -> str:
        """Equal for the same other part and the same shares."""
        return f"blend {self.other.fingerprint} {[(share.prefix, share.keep, share.add) for share in self.shares]}"

    def keys(self, part: Part[Any]) -> dict[str, str]:
        """The tensors that do not stay as they are, each with what the other's is made of, and the share.

        Raises:
            FileProblem: a file cannot be read.
        """
        theirs = [overlay.keys(self.other) for overlay in self.other.overlays]
        found: dict[str, str] = {}
        for name, share, fits in self._touched(part):
            other = [self.other.base, *(keys[name] for keys in theirs if name in keys)] if fits else []
            found[name] = f"blend {other} {share.keep!r} {share.add!r}"
        return found

    def changes(self, part: Part[Any], device: torch.device) -> Mapping[str, Change]:
        """How it changes each of them; the first that is called opens the other part's files.

        Raises:
            FileProblem: see `keys`.
        """
        from nodes.diffusion.weights import recipe

        stack = ExitStack()
        other = cache(lambda: stack.enter_context(recipe(self.other, device)))
        weakref.finalize(other, stack.close)  # the files are open as long as there are changes to be called

        def change(name: str, share: Share, fits: bool) -> Change:
            def apply(weight: Tensor) -> Tensor:
                kept = weight.mul_(share.keep)
                return kept.add_((other().tensor(name) * share.add).reshape(kept.shape)) if fits else kept

            return apply

        return {name: change(name, share, fits) for name, share, fits in self._touched(part)}

    def _touched(self, part: Part[Any]) -> Iterable[tuple[str, Share, bool]]:
        """The tensors it changes: name, share, and whether the other's is of the same shape."""
        ours, theirs = _shapes(part), _shapes(self.other)
        for name, shape in ours.items():
            share = self._share(name)
            fits = _is_alike(shape, theirs.get(name))
            if name in theirs and (share.keep != 1.0 or (share.add != 0.0 and fits)):
                yield name, share, fits

    def _share(self, name: str) -> Share:
        named = [share for share in self.shares if name.startswith(share.prefix)]
        return max(named, key=lambda share: len(share.prefix), default=self.shares[0])


def blended(part: Part[Any], other: Part[Any], shares: tuple[Share, ...]) -> tuple[Part[Any], str]:
    """Blends another part into a part -> the part, and what is to be told of tensors that do not fit, or "".

    Raises:
        FileProblem: a file lacks the part or cannot be read.
        ValueError: the two are of other families or sizes.
    """
    for one in (part, other):
        if not _shapes(one):
            raise lacks(one)
    if _kind(part) != _kind(other):
        raise ValueError(f"the second model is {_kind(other)} and the first {_kind(part)}; merge models of one family")
    ours, theirs = _shapes(part), _shapes(other)
    lost = [name for name in ours if name not in theirs]
    odd = [name for name in ours if name in theirs and not _is_alike(ours[name], theirs[name])]
    if 2 * len(lost + odd) > len(ours):
        raise ValueError(
            f"{len(lost + odd)} of {len(ours)} tensors are missing or of other shapes in the second model "
            f"({some_of(lost + odd)}); merge models of one size"
        )
    told: list[str] = []
    if lost:
        told.append(f"tensors that the second model lacks stay as they are: {some_of(lost)}")
    if odd:
        shapes = [f"{name} {list(ours[name])}, there {list(theirs[name])}" for name in odd]
        told.append("tensors of another shape in the second model take nothing of it, as in ComfyUI they are only "
                    f"multiplied by what is kept: {some_of(shapes)}")  # fmt: skip
    return part.overlaid(Blend(other, shares)), "; ".join(told)


def _shapes(part: Part[Any]) -> Mapping[str, Shape]:
    return _shapes_of_file(replace(part, overlays=()))


@lru_cache(maxsize=32)
def _shapes_of_file(part: Part[Any]) -> Mapping[str, Shape]:
    """The shapes of what is blended; `position_ids` and `logit_scale` are no weights of ours."""
    return {name: shape for name, shape in part_shapes(part).items() if not name.endswith(("position_ids", "_scale"))}


def _is_alike(ours: Shape, theirs: Shape | None) -> bool:
    """A linear layer and a 1x1 convolution hold the same numbers."""
    return theirs is not None and squeezed(ours) == squeezed(theirs)


def _kind(part: Part[Any]) -> str:
    width = part.config.context_dim if part.role == "unet" else None
    return f"a {part.role} of {family_name(part.family, width)}"
