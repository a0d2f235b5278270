"""Every format of the relatives of LoRA, against its formula written out, in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nodes.diffusion.lora_formats import changed
from nodes.diffusion.lora_shapes import Adapter, Kind, extent

LINEAR, CONV = (12, 8), (12, 8, 3, 3)
STRENGTHS = (1.0, 0.6, -1.5, 0.0)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + 17 * sum(shape)))


def assert_adds(kind: Kind, pieces: dict[str, Tensor], weight: Tensor, delta: Tensor) -> None:
    """At any strength; and the shapes alone tell the size of the layer."""
    for strength in STRENGTHS:
        found = changed(kind, pieces, strength, weight.clone())
        assert found.dtype == torch.float32 and found.shape == weight.shape
        assert torch.allclose(found.double(), weight.double() + strength * delta.reshape(weight.shape), atol=1e-5)
    names = Adapter(kind, {name: name for name in pieces})
    columns = weight[0].numel()  # 1 of a norm
    assert extent(names, {name: tuple(tensor.shape) for name, tensor in pieces.items()}) == (len(weight), columns)


@pytest.mark.parametrize("alpha", [None, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_lora_of_a_linear_layer_adds_up_times_down(alpha: float | None, dtype: torch.dtype) -> None:
    up, down = noise(12, 4).to(dtype), noise(4, 8).to(dtype)
    pieces = {"up": up, "down": down} | ({} if alpha is None else {"alpha": torch.tensor(alpha)})
    scale = 1.0 if alpha is None else alpha / 4
    assert_adds("lora", pieces, noise(*LINEAR), scale * (up.double() @ down.double()))


def test_lora_of_a_norm_adds_one_column() -> None:
    up, down = noise(12, 4), noise(4, 1)
    assert_adds("lora", {"up": up, "down": down}, noise(12), up.double() @ down.double())


def test_lora_of_a_convolution_is_one_convolution_after_another() -> None:
    up, down, x = noise(12, 4, 1, 1), noise(4, 8, 3, 3), noise(2, 8, 5, 5).double()
    delta = sum(up[:, r, 0, 0].double()[:, None, None, None] * down[r].double()[None] for r in range(4))
    assert isinstance(delta, Tensor)
    chain = F.conv2d(F.conv2d(x, down.double(), padding=1), up.double())
    assert torch.allclose(F.conv2d(x, delta, padding=1), chain)
    assert_adds("lora", {"up": up, "down": down, "alpha": torch.tensor(4.0)}, noise(*CONV), delta)


def test_locon_with_a_core_is_three_convolutions_in_a_row() -> None:
    up, mid, down, x = noise(12, 4, 1, 1), noise(4, 4, 3, 3), noise(4, 8, 1, 1), noise(2, 8, 5, 5).double()
    chain = F.conv2d(F.conv2d(F.conv2d(x, down.double()), mid.double(), padding=1), up.double())
    weight = noise(*CONV)
    pieces = {"up": up, "mid": mid, "down": down, "alpha": torch.tensor(2.0)}
    found = changed("lora", pieces, 1.0, weight.clone()).double() - weight.double()
    assert torch.allclose(F.conv2d(x, found, padding=1), 0.5 * chain, atol=1e-4)
    shapes = {name: tuple(tensor.shape) for name, tensor in pieces.items()}
    assert extent(Adapter("lora", {name: name for name in pieces}), shapes) == (12, 72)


def test_loha_multiplies_two_matrices_number_by_number() -> None:
    pieces = {f"hada_w{n}_{side}": noise(*shape, seed=n) for n in (1, 2) for side, shape in
              (("a", (12, 4)), ("b", (4, 72)))}  # fmt: skip
    a, b, c, d = (pieces[name].double() for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"))
    delta = torch.stack([(a[o] @ b) * (c[o] @ d) for o in range(12)])
    assert_adds("loha", pieces | {"alpha": torch.tensor(1.0)}, noise(*CONV), delta / 4)


def test_loha_with_cores_rebuilds_each_kernel_position() -> None:
    pieces = {f"hada_t{n}": noise(4, 4, 3, 3, seed=n) for n in (1, 2)}
    pieces |= {f"hada_w{n}_a": noise(4, 12, seed=n) for n in (1, 2)}
    pieces |= {f"hada_w{n}_b": noise(4, 8, seed=n) for n in (1, 2)}
    delta = torch.ones(12, 8, 3, 3, dtype=torch.float64)
    for n in (1, 2):
        core, rows, columns = (pieces[f"hada_{name}"].double() for name in (f"t{n}", f"w{n}_a", f"w{n}_b"))
        for y in range(3):
            for x in range(3):
                delta[:, :, y, x] *= rows.T @ core[:, :, y, x] @ columns
    assert_adds("loha", pieces, noise(*CONV), delta)


def blocks_of(left: Tensor, right: Tensor) -> Tensor:
    """The Kronecker product of a matrix and a kernel, block by block."""
    return torch.cat([torch.cat([number * right for number in row], dim=1) for row in left], dim=0)


@pytest.mark.parametrize("is_cut", [(False, False), (True, False), (False, True), (True, True)])
def test_lokr_puts_one_matrix_into_every_number_of_another(is_cut: tuple[bool, bool]) -> None:
    pieces: dict[str, Tensor] = {"alpha": torch.tensor(3.0)}
    sides: list[Tensor] = []
    for n, (rows, columns) in enumerate([(3, 2), (4, 4)]):
        if is_cut[n]:
            low = noise(rows, 2, seed=n), noise(2, columns, seed=n)
            pieces |= {f"lokr_w{n + 1}_a": low[0], f"lokr_w{n + 1}_b": low[1]}
            sides.append(low[0].double() @ low[1].double())
        else:
            pieces[f"lokr_w{n + 1}"] = noise(rows, columns, seed=n)
            sides.append(pieces[f"lokr_w{n + 1}"].double())
    scale = 3.0 / 2 if any(is_cut) else 1.0  # two whole matrices have no rank, and no scale
    assert_adds("lokr", pieces, noise(*LINEAR), scale * blocks_of(*sides))


def test_lokr_of_a_convolution_with_a_core() -> None:
    left, core, rows, columns = noise(3, 2), noise(2, 2, 3, 3), noise(2, 4), noise(2, 4, seed=1)
    right = torch.empty(4, 4, 3, 3, dtype=torch.float64)
    for y in range(3):
        for x in range(3):
            right[:, :, y, x] = rows.double().T @ core[:, :, y, x].double() @ columns.double()
    pieces = {"lokr_w1": left, "lokr_t2": core, "lokr_w2_a": rows, "lokr_w2_b": columns, "alpha": torch.tensor(1.0)}
    assert_adds("lokr", pieces, noise(*CONV), 0.5 * blocks_of(left.double(), right))


def test_glora_multiplies_the_weight_and_adds_to_it() -> None:
    weight, a1, a2, b1, b2 = noise(*LINEAR), noise(8, 3), noise(3, 8), noise(12, 3), noise(3, 8, seed=1)
    delta = (weight.double() @ a1.double() @ a2.double() + b1.double() @ b2.double()) * (6 / 3)
    pieces = {"a1": a1, "a2": a2, "b1": b1, "b2": b2, "alpha": torch.tensor(6.0)}
    assert_adds("glora", pieces, weight, delta)


def test_glora_of_a_convolution_mixes_its_inputs() -> None:
    weight, a1, a2, b1, b2 = noise(*CONV), noise(8, 3, 1, 1), noise(3, 8, 1, 1), noise(12, 3, 1, 1), noise(3, 8, 3, 3)
    mix = a1[:, :, 0, 0].double() @ a2[:, :, 0, 0].double()
    delta = sum(weight.double()[:, i, None] * mix[i][None, :, None, None] for i in range(8))
    delta = delta + (b1[:, :, 0, 0].double() @ b2.double().flatten(1)).reshape(CONV)
    assert_adds("glora", {"a1": a1, "a2": a2, "b1": b1, "b2": b2}, weight, delta)


def test_old_glora_has_its_factors_the_other_way_round() -> None:
    weight, a1, a2, b1, b2 = noise(*LINEAR), noise(3, 8), noise(8, 3), noise(3, 8, seed=1), noise(12, 3)
    delta = (weight.double() @ a2.double() @ a1.double() + b2.double() @ b1.double()) * (6 / 3)
    pieces = {"a1": a1, "a2": a2, "b1": b1, "b2": b2, "alpha": torch.tensor(6.0)}
    assert_adds("glora", pieces, weight, delta)


@pytest.mark.parametrize("shape", [LINEAR, CONV])
@pytest.mark.parametrize("strength", [1.0, 0.4, -1.0])
def test_dora_by_row_gives_rows_new_lengths_over_those_of_the_weight(shape: tuple[int, ...], strength: float) -> None:
    weight, up, down = noise(*shape), noise(12, 4), noise(4, weight_columns(shape))
    sizes = noise(12).abs() + 0.5
    merged = (weight.flatten(1) + 0.5 * up @ down).double()
    expected = torch.stack([sizes[o].double() * merged[o] / weight[o].double().norm() for o in range(12)])
    expected = weight.double() + strength * (expected.reshape(shape) - weight.double())
    pieces = {"up": up, "down": down.reshape(4, *shape[1:]), "alpha": torch.tensor(2.0)}
    pieces["dora_scale"] = sizes.reshape(12, *[1] * (len(shape) - 1))
    assert torch.allclose(changed("lora", pieces, strength, weight).double(), expected, atol=1e-5)
    flat = changed("lora", pieces | {"dora_scale": sizes}, strength, weight)
    assert torch.allclose(flat.double(), expected, atol=1e-5)


@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_dora_by_input_gives_inputs_new_lengths_over_those_of_the_sum(strength: float) -> None:
    weight, up, down, sizes = noise(*CONV), noise(12, 4), noise(4, 72), noise(8).abs() + 0.5
    merged = (weight.flatten(1) + up @ down).double().reshape(CONV)
    for i in range(8):
        merged[:, i] *= sizes[i].double() / merged[:, i].norm()
    expected = weight.double() + strength * (merged - weight.double())
    pieces = {"up": up, "down": down.reshape(4, 8, 3, 3), "dora_scale": sizes.reshape(1, 8, 1, 1)}
    assert torch.allclose(changed("lora", pieces, strength, weight).double(), expected, atol=1e-5)


def test_a_difference_is_added_and_a_set_weight_stands_at_any_strength() -> None:
    weight, other = noise(*CONV), noise(*CONV, seed=1)
    assert_adds("diff", {"diff": other.half()}, weight, other.half().double())
    assert_adds("diff", {"diff": noise(12, 1, 1, 1)}, noise(12, 1), noise(12, 1, 1, 1).double())
    for strength in (1.0, 0.3):
        assert torch.equal(changed("set", {"set_weight": other}, strength, weight), other)


def weight_columns(shape: tuple[int, ...]) -> int:
    return torch.Size(shape[1:]).numel()
