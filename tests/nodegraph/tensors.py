"""Nodes on tensors, well and badly behaved."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch

from nodegraph.context import Context
from nodegraph.spec import NODE_ATTRIBUTE, node
from nodegraph.types import Each, Port
from tests.nodegraph.trivial import GATES, REGISTRY

Tensor = Annotated[torch.Tensor, Port("TENSOR")]


class Measured(NamedTuple):
    """A value that happens to be a named tuple."""

    name: str
    size: int


Pair = Annotated[Measured, Port("PAIR")]


class Single(NamedTuple):
    total: float


@node("Ones", category="t")
def ones(*, size: int = 4) -> Tensor:
    return torch.ones(size)


@node("Twice", category="t")
def twice(*, x: Tensor) -> Tensor:
    return x * 2


@node("Same", category="t")
def same(*, x: Tensor) -> Tensor:
    return x


@node("Total", category="t")
def summed(*, x: Tensor) -> Single:
    return Single(float(x.sum()))


@node("Spoil", category="t")
def spoil(*, x: Tensor, fails: bool = False) -> Tensor:
    """Breaks the law: changes its input."""
    x.add_(100)
    if fails:
        raise ValueError("and it fails")
    return x


@node("SpoilAsync", category="t")
async def spoil_async(*, x: Tensor) -> Tensor:
    x.add_(100)
    return x


@node("Hungry", category="t")
def hungry(*, name: str, times: int = 1, x: Tensor) -> Tensor:
    """Runs out of memory `times` times."""
    gate = GATES[name]
    gate.calls += 1
    if gate.calls <= times:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    return x


@node("Measure", category="t")
def measure(*, x: Tensor) -> Pair:
    return Measured("x", x.numel())


@node("Size", category="t")
def size(*, pair: Pair) -> int:
    return pair.size


@node("Split", category="t")
def split(*, x: Tensor) -> Each[Tensor]:
    return Each(x[i : i + 1] for i in range(len(x)))


@node("Stack", category="t")
def stack(*, x: list[Tensor], more: list[Tensor] | None = None) -> Tensor:
    assert more is None
    return torch.cat(x)


@node("Nothing", category="t")
def nothing(*, x: Tensor) -> Tensor:
    return None  # type: ignore[return-value]


@node("Noisy", category="t")
def noisy(*, ctx: Context, seed: int = 0) -> Tensor:
    return torch.rand(3, generator=ctx.generator(seed)).to(ctx.device)


SPECS = [getattr(found, NODE_ATTRIBUTE) for found in list(globals().values()) if hasattr(found, NODE_ATTRIBUTE)]
TENSORS = REGISTRY.with_specs(SPECS)
