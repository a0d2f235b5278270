"""What is done to the weights of a part while it is loaded: LoRAs, other models blended in. Values without tensors.

Each tensor is made anew from the file by all overlays of its part, so taking one away gives back the file's own
numbers, bit for bit, and no copy of them has to be kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nodes.diffusion.checkpoints import Part

Change = Callable[["Tensor"], "Tensor"]
"""A weight, float32 on the device it is made on, to the weight as it is to be, of the same shape. It may be made in
the place of the one given, which nothing else holds."""


class Overlay(Protocol):
    """Changes some tensors of a part. Implementations are frozen dataclasses of storable fields."""

    @property
    def fingerprint(self) -> str:
        """Equal for equal effect: contents of files and strengths, not places."""
        ...

    def keys(self, part: Part[Any]) -> Mapping[str, str]:
        """The tensors it changes, by our names, each with what is equal where the same is done to it.

        Raises:
            FileProblem: what it is made of cannot be read, or is made for another model.
        """
        ...

    def changes(self, part: Part[Any], device: torch.device) -> Mapping[str, Change]:
        """How it changes each tensor of `keys`; files are read when a change is called, on the device."""
        ...
