"""What patches of a model may change inside the UNet while it runs: the places, and how they are reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

from torch import Tensor

if TYPE_CHECKING:
    from nodes.diffusion.unet import Attention

Spot = Literal["input", "middle", "output"]
Undo = Callable[[Tensor], Tensor]


class Site(NamedTuple):
    """A self-attention inside the UNet.

    Attributes:
        spot, number: the block it is in.
        size: height and width of the latents.
        sides: for each equal part of the batch, which prompt it follows (0 positive, 1 negative).
        heads: of the attention.
    """

    spot: Spot
    number: int
    size: tuple[int, int]
    sides: tuple[int, ...]
    heads: int = 1


@dataclass(frozen=True, slots=True)
class Tweaks:
    """What patches of a model change inside the UNet; the default changes nothing.

    Attributes:
        inputs: change what an input block of that number returns at a sigma.
        skipped: the same, after it was kept for the skip connection.
        outputs: change h and the skip connection, both [B, C, h, w], before an output block joins them.
        queries: change what the queries of a self-attention are made of, [B, N, C], and give back how its result
            becomes [B, N, C] again.
        contexts: change what keys and values of every attention are made of, [B, T, D] each: (for keys, for values).
        attend: take the place of self-attention in the blocks named: of q, k, v [B, N, C] each.
        sides: see `Site`.
        sigma: of this forward.
    """

    inputs: tuple[Callable[[Tensor, int, float], Tensor], ...] = ()
    skipped: tuple[Callable[[Tensor, int, float], Tensor], ...] = ()
    outputs: tuple[Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], ...] = ()
    queries: tuple[Callable[[Tensor, Site], tuple[Tensor, Undo]], ...] = ()
    contexts: tuple[Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], ...] = ()
    attend: Mapping[tuple[Spot, int], Callable[[Tensor, Tensor, Tensor, Site], Tensor]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    sides: tuple[int, ...] = (0,)
    sigma: float = 0.0

    def at(self, spot: Spot, number: int, x: Tensor) -> Tweaked | None:
        """What a block's attentions are to do, None for what they are built for."""
        if not self.queries and not self.contexts and (spot, number) not in self.attend:
            return None
        return Tweaked(self, Site(spot, number, (x.shape[-2], x.shape[-1]), self.sides))


class Tweaked(NamedTuple):
    """Attention as patches want it."""

    tweaks: Tweaks
    site: Site

    def __call__(self, attention: Attention, x: Tensor) -> Tensor:
        """Self-attention: maps [B, N, C] to the same shape."""
        site = self.site._replace(heads=attention.heads)
        undo: list[Undo] = []
        queries = x
        for change in self.tweaks.queries:
            queries, back = change(queries, site)
            undo.append(back)
        # Where the queries were cut into more, shorter items, so are keys and values: in order, as ComfyUI does.
        k, v = (part.reshape(len(queries), -1, x.shape[-1]) for part in self._keys_values(attention, x))
        q = attention.to_q(queries)
        attend = self.tweaks.attend.get((site.spot, site.number))
        h = attention.to_out(attention.attend(q, k, v) if attend is None else attend(q, k, v, site))
        for back in reversed(undo):
            h = back(h)
        return h

    def cross(self, attention: Attention, x: Tensor, context: Tensor) -> Tensor:
        """Attention to a prompt [B, T, D]: maps [B, N, C] to the same shape."""
        k, v = self._keys_values(attention, context)
        return attention.to_out(attention.attend(attention.to_q(x), k, v))

    def _keys_values(self, attention: Attention, source: Tensor) -> tuple[Tensor, Tensor]:
        for_keys = for_values = source
        for change in self.tweaks.contexts:
            for_keys, for_values = change(for_keys, for_values)
        return attention.to_k(for_keys), attention.to_v(for_values)


NO_TWEAKS = Tweaks()
