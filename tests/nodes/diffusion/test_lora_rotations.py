"""Orthogonal adapters turn the rows of a weight, against the matrices written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nodes.diffusion.lora_formats import changed


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def cayley(block: Tensor, limit: float | None = None, whole: Tensor | None = None) -> Tensor:
    skew = (block - block.T).double()
    if limit is not None and whole is not None:
        norm = (whole - whole.transpose(-1, -2)).double().norm()
        skew = skew * min(1.0, limit / float(norm))
    one = torch.eye(len(block), dtype=torch.float64)
    return (one + skew) @ torch.linalg.inv(one - skew)


@pytest.mark.parametrize("limit", [None, 0.0, 0.3, 100.0])
@pytest.mark.parametrize("strength", [1.0, 0.5, -1.0, 0.0])
@pytest.mark.parametrize("shape", [(12, 8), (12, 8, 3, 3)])
def test_oft_turns_blocks_of_rows_with_the_strength_squared(
    shape: tuple[int, ...], strength: float, limit: float | None
) -> None:
    weight, blocks = noise(*shape), 0.1 * noise(3, 4, 4)
    turns = [cayley(block, limit or None, blocks) for block in blocks]
    assert all(torch.allclose(turn @ turn.T, torch.eye(4, dtype=torch.float64)) for turn in turns)
    rows = weight.flatten(1).double()
    turned = torch.block_diag(*turns).T @ rows
    pieces = {"oft_blocks": blocks, "rescale": noise(12, 1)} | ({} if limit is None else {"alpha": torch.tensor(limit)})
    found = changed("oft", pieces, strength, weight).flatten(1).double()
    assert torch.allclose(found, rows + strength**2 * (turned - rows), atol=1e-5)


@pytest.mark.parametrize("limit", [0.0, 0.3])
@pytest.mark.parametrize("strength", [1.0, 0.5, -1.0])
@pytest.mark.parametrize("shape", [(16, 8), (16, 8, 3, 3)])
def test_boft_turns_rows_that_lie_ever_further_apart(shape: tuple[int, ...], strength: float, limit: float) -> None:
    weight, blocks, lengths = noise(*shape), 0.1 * noise(3, 4, 4, 4), noise(16, *[1] * (len(shape) - 1)).abs()
    turned = weight.flatten(1).double()
    for factor, apart in zip(blocks, (2, 4, 8), strict=True):
        order = [first + side * apart + i for first in range(0, 16, 2 * apart) for i in range(apart) for side in (0, 1)]
        turns = [strength * cayley(block, limit or None, blocks) + (1 - strength) * torch.eye(4) for block in factor]
        moved = torch.zeros_like(turned)
        moved[order] = torch.block_diag(*turns) @ turned[order]
        turned = moved
    expected = weight.flatten(1) + strength * (lengths.flatten(1) * turned - weight.flatten(1))
    pieces = {"oft_blocks": blocks, "rescale": lengths, "alpha": torch.tensor(limit)}
    assert torch.allclose(changed("boft", pieces, strength, weight).flatten(1).double(), expected, atol=1e-5)
