"""Token merging: which tokens are near enough to stand for one another."""

from __future__ import annotations

import torch
from torch import Tensor

from nodes.diffusion.tweaks import Undo


def merging(x: Tensor, size: tuple[int, int], count: int, generator: torch.Generator) -> tuple[Tensor, Undo]:
    """Merges the `count` tokens that are most like one of the tokens kept, one in each 2 x 2 pixels.

    Source: Bolya & Hoffman 2023 (arXiv:2303.17604), section 4, and its `bipartite_soft_matching_random2d` (MIT).

    Args:
        x: [B, h * w, C].
        size: h and w.
        count: of the tokens merged.
        generator: which of the four is kept.

    Returns:
        The tokens that are left [B, N, C], and what gives each its place back.
    """
    height, width = size
    batch, tokens, channels = x.shape
    rows, columns = height // 2, width // 2
    count = min(count, tokens - rows * columns)
    if count <= 0 or height == 1 or width == 1:
        return x, lambda y: y
    others, kept = _split(rows, columns, size, generator)
    others, kept = others.to(x.device), kept.to(x.device)
    unit = x / x.norm(dim=-1, keepdim=True)
    likeness, nearest = (unit[:, others] @ unit[:, kept].transpose(-1, -2)).max(dim=-1)
    order = likeness.argsort(dim=-1, descending=True)
    merged, alone = order[:, :count, None], order[:, count:, None]
    target = nearest[..., None].gather(1, merged)

    def pick(y: Tensor, places: Tensor) -> Tensor:
        return y.gather(1, places.expand(-1, -1, y.shape[-1]))

    moving = x[:, others]
    joined = x[:, kept].scatter_reduce(1, target.expand(-1, -1, channels), pick(moving, merged), "mean")
    left = torch.cat([pick(moving, alone), joined], dim=1)

    def undo(y: Tensor) -> Tensor:
        single, shared = y[:, : alone.shape[1]], y[:, alone.shape[1] :]
        spread = torch.empty(batch, len(others), y.shape[-1], dtype=y.dtype, device=y.device)
        spread.scatter_(1, alone.expand(-1, -1, y.shape[-1]), single)
        spread.scatter_(1, merged.expand(-1, -1, y.shape[-1]), pick(shared, target))
        whole = torch.empty(batch, tokens, y.shape[-1], dtype=y.dtype, device=y.device)
        whole[:, others], whole[:, kept] = spread, shared
        return whole

    return left, undo


def _split(rows: int, columns: int, size: tuple[int, int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The tokens, by place, that may be merged, and those kept: one of each 2 x 2."""
    chosen = torch.randint(4, (rows, columns, 1), generator=generator)
    is_kept = torch.zeros(rows, columns, 4, dtype=torch.int64).scatter_(2, chosen, -1)
    marks = torch.zeros(size, dtype=torch.int64)
    marks[: 2 * rows, : 2 * columns] = is_kept.unflatten(2, (2, 2)).transpose(1, 2).reshape(2 * rows, 2 * columns)
    order = marks.flatten().argsort(stable=True)
    return order[rows * columns :], order[: rows * columns]
