"""Orthogonal adapters: they turn the rows of a weight. OFT (Qiu et al. 2023, arXiv:2306.07280) and BOFT (Liu et al.
2023, arXiv:2311.06243), as LyCORIS stores them and ComfyUI's `comfy/weight_adapter` applies them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotation(blocks: Tensor, limit: float, _: Tensor | None, strength: float, weight: Tensor) -> Tensor:
    """What OFT adds to a weight; the caller multiplies by the strength once more, as ComfyUI does.

    Args:
        blocks: [N, n, n], N * n rows.
        limit: the largest norm of what they turn by; 0 for none.
        _: lengths of rows, which ComfyUI leaves out here.
        strength: of the turn.
        weight: [N * n, ...].
    """
    turn = strength * (_orthogonal(blocks, limit) - _one(blocks))
    rows = weight.unflatten(0, blocks.shape[:2])
    return torch.einsum("k n m, k n ... -> k m ...", turn, rows).flatten(0, 1)


def butterfly(blocks: Tensor, limit: float, lengths: Tensor | None, strength: float, weight: Tensor) -> Tensor:
    """What BOFT adds to a weight; the caller multiplies by the strength once more, as ComfyUI does.

    Args:
        blocks: [factors, N, n, n], N * n rows; each factor turns rows that lie further apart.
        limit: the largest norm of what they turn by; 0 for none.
        lengths: factors of the rows, or None.
        strength: of each turn.
        weight: [N * n, ...].
    """
    turns = strength * _orthogonal(blocks, limit) + (1 - strength) * _one(blocks)
    size = blocks.shape[-1]
    turned = weight
    for i, turn in enumerate(turns):
        pair = (2, 2**i * (size // 2))
        turned = turned.unflatten(0, (-1, *pair)).transpose(1, 2).flatten(0, 2).unflatten(0, (-1, size))
        turned = torch.einsum("b i j, b j ... -> b i ...", turn, turned).flatten(0, 1)
        turned = turned.unflatten(0, (-1, *reversed(pair))).transpose(1, 2).flatten(0, 2)
    if lengths is not None:
        turned = turned * lengths
    return turned - weight


def _orthogonal(blocks: Tensor, limit: float) -> Tensor:
    """Cayley's transform of the skew part of each block, which is cut to the norm `limit` where that is above 0."""
    skew = blocks - blocks.transpose(-1, -2)
    if limit > 0:
        skew = skew * (limit / torch.linalg.vector_norm(skew).add(1e-8).clamp(min=limit))
    one = _one(blocks)
    return (one + skew) @ torch.linalg.inv(one - skew)


def _one(blocks: Tensor) -> Tensor:
    return torch.eye(blocks.shape[-1], device=blocks.device, dtype=blocks.dtype)
