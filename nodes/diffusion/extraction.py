"""LoRAs made of the difference between two models: of every layer the best matrices of a low rank."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nodes.diffusion.weights import Recipe

_OVERSAMPLED, _ROUNDS = 8, 8
_SMALL = 256  # up to this side the whole decomposition costs less than many short products


def extracted(
    found: Recipe, start: str, rank: int | None, has_bias: bool, done: Callable[[int, int], None] = lambda i, n: None
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a LoRA file, float16 on the CPU, of a part that holds differences; those of 0 are left out.

    Names as ComfyUI's `LoraSave` writes them.

    Args:
        found: the part, opened: what two models differ by, as a merge leaves it.
        start: before the names of its layers.
        rank: of the matrices, or of the layer where that is lower; None for the differences themselves.
        has_bias: differences of biases too, and with a rank those of norms.
        done: called after each tensor with its number and how many there are.
    """
    for number, name in enumerate(found.names, 1):
        done(number, len(found.names))
        layer, _, kind = name.rpartition(".")
        is_matrix = kind == "weight" and len(found.shape(name)) > 1
        if not is_matrix and not has_bias and (kind != "weight" or rank is not None):
            continue
        difference = found.tensor(name)
        if not difference.any():
            continue
        if is_matrix and rank is not None:
            up, down = low_rank(difference.flatten(1), rank)
            if difference.ndim == 4:
                up, down = up[:, :, None, None], down.unflatten(1, difference.shape[1:])
            pieces = {"lora_up.weight": up, "lora_down.weight": down}
        else:
            pieces = {"diff" if kind == "weight" else "diff_b": difference}
        for piece, tensor in pieces.items():
            yield f"{start}{layer}.{piece}", tensor.half().cpu().contiguous()


def low_rank(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The two matrices of a low rank whose product is nearest to another: its largest singular values.

    Each takes the square root of these, so that small differences keep their digits in float16. A matrix much larger
    than the rank is looked at through a random subspace that its own powers turn towards them (Halko et al. 2011,
    algorithms 4.4 and 5.1): at rank 64 of 1280 x 11520 on one core 0.9 s in place of 11, and of what the best matrices
    hold of a spectrum that falls as 1 / sqrt(i) it has 99.97 %.

    Args:
        matrix: [M, N] float32.
        rank: at most.

    Returns:
        [M, R] and [R, N].
    """
    rank = min(rank, *matrix.shape)
    size = rank + _OVERSAMPLED
    basis = None
    if max(4 * size, _SMALL) < min(matrix.shape):
        # from the CPU, so that every device gives the same
        noise = torch.randn(matrix.shape[1], size, generator=torch.Generator().manual_seed(0)).to(matrix)
        basis = _orthonormal(matrix @ noise)
        for _ in range(_ROUNDS):
            basis = _orthonormal(matrix @ _orthonormal(matrix.t() @ basis))
    left, values, right = torch.linalg.svd(matrix if basis is None else basis.t() @ matrix, full_matrices=False)
    left = left if basis is None else basis @ left
    root = values[:rank].sqrt()
    return left[:, :rank] * root, root[:, None] * right[:rank]


def _orthonormal(matrix: Tensor) -> Tensor:
    return torch.linalg.qr(matrix)[0]
