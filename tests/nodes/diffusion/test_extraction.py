"""Matrices of a low rank, against the singular values that torch finds in all of a matrix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nodes.diffusion.extraction import low_rank


def falling(rows: int, columns: int) -> Tensor:
    """A matrix whose singular values fall as 1 / sqrt(i)."""
    generator = torch.Generator().manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(rows, columns, generator=generator), full_matrices=False)
    return (left * torch.arange(1, left.shape[1] + 1) ** -0.5) @ right


@pytest.mark.parametrize(("rows", "columns"), [(24, 40), (40, 24), (160, 300), (300, 160)])
def test_a_matrix_of_that_rank_comes_back(rows: int, columns: int) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(rows, 3) @ torch.randn(3, columns) * 1e-3
    up, down = low_rank(matrix, 3)
    assert (up.shape, down.shape) == ((rows, 3), (3, columns))
    assert (up @ down - matrix).norm() <= 1e-5 * matrix.norm()
    halves = up.half().float() @ down.half().float()  # as files have it
    assert (halves - matrix).norm() <= 5e-4 * matrix.norm()


@pytest.mark.parametrize("columns", [60, 400])
def test_what_is_left_is_hardly_more_than_the_least(columns: int) -> None:
    matrix = falling(160, columns)
    up, down = low_rank(matrix, 8)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    least = (matrix - (left[:, :8] * values[:8]) @ right[:8]).norm()
    assert (matrix - up @ down).norm() <= 1.001 * least
    torch.testing.assert_close(up.norm(dim=0), down.norm(dim=1))


def test_the_rank_is_at_most_that_of_the_matrix_and_the_result_the_same_each_time() -> None:
    matrix = falling(6, 90)
    up, down = low_rank(matrix, 64)
    assert up.shape == (6, 6)
    torch.testing.assert_close(up @ down, matrix)
    torch.manual_seed(1)
    first = low_rank(falling(160, 400), 8)
    torch.manual_seed(2)
    assert torch.equal(first[0], low_rank(falling(160, 400), 8)[0])
