"""The arithmetic of LoRAs and their relatives: tensors of a file in, a changed weight out; all in float32.

Formats and their names: LyCORIS (Yeh et al. 2023, arXiv:2309.14859, https://github.com/KohakuBlueleaf/LyCORIS). The
results are those of ComfyUI's `comfy/weight_adapter`, its scales included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from nodes.diffusion.lora_rotations import butterfly, rotation
from nodes.diffusion.lora_shapes import Kind

Delta = tuple[Tensor, float]  # what is added to a weight at strength 1 without its scale, and the scale

_TUCKER = "i j ..., i p, j r -> p r ..."  # core, rows, columns


def changed(kind: Kind, pieces: Mapping[str, Tensor], strength: float, weight: Tensor) -> Tensor:
    """A weight as an adapter changes it.

    Args:
        kind: of the adapter.
        pieces: its tensors, on the device of the weight; `alpha` has one number, and may be elsewhere.
        strength: any number; 1 is as trained.
        weight: [out, in, ...] float32; what is returned may be made in its place.

    Returns:
        Float32, the shape of `weight`.
    """
    if kind == "set":  # at any strength
        return weight.copy_(pieces["set_weight"].reshape(weight.shape))
    own = {piece: tensor.float() for piece, tensor in pieces.items()}
    if kind == "diff":
        return weight.add_(own["diff"].reshape(weight.shape), alpha=strength)
    if kind in ("oft", "boft"):
        rotate = rotation if kind == "oft" else butterfly
        delta, scale = rotate(own["oft_blocks"], _alpha(own) or 0.0, own.get("rescale"), strength, weight), 1.0
    elif kind == "lora" and "dora_scale" not in own:
        up, down, scale = _factors(own)
        weight.view(len(weight), -1).addmm_(up, down, alpha=strength * scale)  # in one pass
        return weight
    else:
        delta, scale = _DELTAS[kind](own, weight)
    delta = delta.reshape(weight.shape)
    if "dora_scale" in own:
        return _decomposed(own["dora_scale"], weight, scale * delta, strength)
    return weight.add_(delta, alpha=strength * scale)


def _low_rank(own: Mapping[str, Tensor], _: Tensor) -> Delta:
    up, down, scale = _factors(own)
    return up @ down, scale


def _factors(own: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, float]:
    """LoRA (Hu et al. 2021, arXiv:2106.09685), and LoCon with a core between its two convolutions: two matrices."""
    up, down = own["up"].flatten(1), own["down"]
    scale = _scale(own, down.shape[0])
    if "mid" in own:
        down = torch.einsum("i j ..., j r -> i r ...", own["mid"], down.flatten(1))
    return up, down.flatten(1), scale


def _hadamard(own: Mapping[str, Tensor], _: Tensor) -> Delta:
    """LoHa: the product, number by number, of two low-rank matrices (Hyeon-Woo et al. 2021, arXiv:2108.06098)."""
    factors = [_product(own, f"hada_w{n}_a", f"hada_w{n}_b", f"hada_t{n}") for n in (1, 2)]
    return factors[0] * factors[1], _scale(own, own["hada_w1_b"].shape[0])


def _kronecker(own: Mapping[str, Tensor], _: Tensor) -> Delta:
    """LoKr: the Kronecker product of two matrices, each whole or of low rank; whole ones have no scale."""
    first, second, rank = own.get("lokr_w1"), own.get("lokr_w2"), None
    if first is None:
        first, rank = _product(own, "lokr_w1_a", "lokr_w1_b"), own["lokr_w1_b"].shape[0]
    if second is None:
        second, rank = _product(own, "lokr_w2_a", "lokr_w2_b", "lokr_t2"), own["lokr_w2_b"].shape[0]
    if second.dim() == 4:
        first = first[:, :, None, None]
    return torch.kron(first, second.contiguous()), 1.0 if rank is None else _scale(own, rank)


def _generalised(own: Mapping[str, Tensor], weight: Tensor) -> Delta:
    """GLoRA: the weight times one low-rank matrix, plus another (Chavan et al. 2023, arXiv:2306.07967).

    Old LyCORIS files have the factors in the other order; where both orders fit, a square layer is an old one's.
    """
    a1, a2, b1, b2 = (own[name].flatten(1) for name in ("a1", "a2", "b1", "b2"))
    is_old = b2.shape[1] == b1.shape[0] == a1.shape[0] == a2.shape[1]
    is_new = b2.shape[0] == b1.shape[1] == a1.shape[1] == a2.shape[0]
    if is_old and (not is_new or a2.shape[0] == weight.shape[0] == weight.shape[1]):
        delta = b2 @ b1 + weight.flatten(1) @ a2 @ a1
        return delta, _scale(own, a1.shape[0])
    turned = torch.einsum("o i ..., i r, r j -> o j ...", weight, a1, a2)
    return turned + (b1 @ b2).reshape(weight.shape), _scale(own, a2.shape[0])


_DELTAS: Mapping[Kind, Callable[[Mapping[str, Tensor], Tensor], Delta]] = {
    "lora": _low_rank, "loha": _hadamard, "lokr": _kronecker, "glora": _generalised,
}  # fmt: skip


def _product(own: Mapping[str, Tensor], rows: str, columns: str, core: str = "") -> Tensor:
    if core in own:
        return torch.einsum(_TUCKER, own[core], own[rows], own[columns])
    return own[rows] @ own[columns]


def _decomposed(size: Tensor, weight: Tensor, delta: Tensor, strength: float) -> Tensor:
    """DoRA: the sum gets the lengths in `size` (Liu et al. 2024, arXiv:2402.09353).

    As ComfyUI decides: lengths along the rows are divided by those of the weight itself, else by those of the sum.
    """
    by_row, by_input = (*size.shape, 1)[:2]
    size = size.reshape(by_row, by_input, *[1] * (weight.dim() - 2))
    summed = weight + delta
    is_by_row = size.shape[0] == weight.shape[0]
    axes = tuple(range(1, weight.dim())) if is_by_row else (0, *range(2, weight.dim()))
    length = torch.linalg.vector_norm(weight if is_by_row else summed, dim=axes, keepdim=True)
    summed = summed * (size / (length + torch.finfo(torch.float32).eps))
    return summed if strength == 1.0 else weight + strength * (summed - weight)


def _scale(own: Mapping[str, Tensor], rank: int) -> float:
    alpha = _alpha(own)
    return 1.0 if alpha is None else alpha / rank


def _alpha(own: Mapping[str, Tensor]) -> float | None:
    return own["alpha"].item() if "alpha" in own else None
