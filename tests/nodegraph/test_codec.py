"""Values to bytes and back; nothing from a file is executed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from nodegraph import codec
from nodegraph.types import Each

OURS = {__name__.partition(".")[0]}


@dataclass(frozen=True)
class Inner:
    weights: torch.Tensor
    scale: float


@dataclass(frozen=True)
class Outer:
    inner: Inner
    many: tuple[Inner, ...]
    options: dict[str, Any]


@dataclass
class Mutable:
    x: int


class Named(NamedTuple):
    x: int


def round_trip(value: Any, tmp_path: Path) -> Any:
    structure, found = codec.encode(value)
    size = codec.write_file(tmp_path / "a.safetensors", structure, found)
    assert size == (tmp_path / "a.safetensors").stat().st_size
    return codec.decode(*codec.read_file(tmp_path / "a.safetensors"), OURS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
def test_tensors_of_every_dtype_come_back(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.arange(24).reshape(2, 3, 4).to(dtype)
    found = round_trip((tensor, torch.zeros(0, 3, dtype=dtype), torch.tensor(1).to(dtype)), tmp_path)
    assert [item.dtype for item in found] == [dtype] * 3
    assert torch.equal(found[0], tensor) and found[1].shape == (0, 3) and found[2].shape == ()


def test_views_transposes_and_shared_tensors_come_back(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    found = round_trip(
        (base, base, base.T, base[1:], base[:, 1], base.expand(2, 3, 4), torch.nn.Parameter(base)), tmp_path
    )
    for item, expected in zip(
        found, (base, base, base.T, base[1:], base[:, 1], base.expand(2, 3, 4), base), strict=True
    ):
        assert torch.equal(item, expected)


def test_nested_dataclasses_come_back(tmp_path: Path) -> None:
    value = Outer(
        Inner(torch.ones(2), 0.5),
        (Inner(torch.zeros(1), 2.0),),
        {"is": "tensor", "of": "0", "list": [1, None, True, "x"]},
    )
    found = round_trip(value, tmp_path)
    assert type(found) is Outer and type(found.many) is tuple and type(found.many[0]) is Inner
    assert torch.equal(found.inner.weights, torch.ones(2))
    assert found.options == value.options


@pytest.mark.parametrize(
    "value", [None, True, 1, 1.5, "x", [], (), {}, Each([1, (2,), [3]]), {"is": "each", "of": []}, float("inf"), 2**80]
)
def test_values_without_tensors_come_back_with_their_types(value: Any) -> None:
    structure, found = codec.encode(value)
    decoded = codec.decode(structure, found, OURS)
    assert decoded == value and type(decoded) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1: 2},
        {1, 2},
        b"x",
        Mutable(1),
        Named(1),
        Outer,
        torch.zeros(2, device="meta"),
        torch.eye(2).to_sparse(),
    ],
)
def test_what_has_no_form_on_disk_is_refused(value: Any) -> None:
    with pytest.raises(codec.NotStorable, match="has no form on disk"):
        codec.encode([value])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("os:system", "not of a loaded node package"),
        ("subprocess:Popen", "not of a loaded node package"),
        (f"{__name__}:Gone", "is gone"),
        (f"{__name__}.gone:Gone", "is gone"),
        (f"{__name__}:Named", "is not a value type"),
        (f"{__name__}:round_trip", "is not a value type"),
        (f"{__name__}:Inner", "has other fields now"),
    ],
)
def test_a_file_names_no_type_outside_the_node_packages(name: str, message: str) -> None:
    with pytest.raises(codec.NotStorable, match=message):
        codec.decode({"is": name, "of": {"x": 1}}, {}, OURS)


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    structure, found = codec.encode(torch.ones(100))
    codec.write_file(path, structure, found)
    whole = path.read_bytes()
    for damaged in (b"", whole[:4], whole[:-10], b"\xff" * 50, whole[:8] + b"x" * 20 + whole[28:]):
        path.write_bytes(damaged)
        with pytest.raises(codec.NotStorable, match=r"a\.safetensors"):
            codec.read_file(path)
    with pytest.raises(codec.NotStorable):
        codec.read_file(tmp_path / "none.safetensors")
