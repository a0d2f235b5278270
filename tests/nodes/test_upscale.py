"""The nodes around upscalers: what they tell at planning, and the starter's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import save_file

from nodegraph.context import Context
from nodegraph.errors import FileProblem
from nodegraph.files import MODEL_KINDS
from nodegraph.spec import NODE_ATTRIBUTE, NodeSpec
from nodegraph.types import FileRef
from nodes.upscale import load_upscale_model, upscale_with_model

STARTER = Path(__file__).parents[2] / "nodes/models/upscale_models/starter-4x.safetensors"


class Lender:
    """The part of a context that these nodes use; notes the steps."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []

    @contextmanager
    def use(self, weights: Any) -> Iterator[Any]:
        yield weights.load("cpu", torch.float32)

    def step(self, i: int, n: int) -> None:
        self.steps.append((i, n))


def reference(path: Path) -> FileRef:
    return FileRef(path.name, str(path), f"digest of {path.name}")


def checked(path: Path) -> list[str]:
    spec: NodeSpec = getattr(load_upscale_model, NODE_ATTRIBUTE)
    assert spec.check is not None
    return list(spec.check(model_name=reference(path)))


def test_the_starters_upscaler_makes_a_picture_four_times_as_large() -> None:
    model = load_upscale_model(model_name=reference(STARTER))
    lender = Lender()
    picture = torch.zeros(2, 24, 16, 3)
    picture[:, 8:, :, 0] = 1.0
    found = upscale_with_model(ctx=cast(Context, lender), upscale_model=model, image=picture)
    assert found.shape == (2, 96, 64, 3) and lender.steps == [(1, 2), (2, 2)]
    plain = picture.repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert (found[:, :24] - plain[:, :24]).abs().mean() < 0.05  # black stays black
    assert (found[:, 40:] - plain[:, 40:]).abs().mean() < 0.05  # and red red


def test_models_are_told_apart_by_content() -> None:
    model = load_upscale_model(model_name=reference(STARTER)).weights
    assert model.fingerprint == model.base == "upscaler-digest of starter-4x.safetensors"
    assert (model.role, model.nbytes, model.dtype) == ("upscaler", STARTER.stat().st_size, "auto")


def test_a_file_that_cannot_be_an_upscaler_is_told_at_planning(tmp_path: Path) -> None:
    assert checked(STARTER) == []
    save_file({"text_model.a": torch.zeros(1)}, tmp_path / "clip.safetensors")
    assert checked(tmp_path / "clip.safetensors") == [
        "clip.safetensors: is a text encoder, not an upscaler; put it in the `text_encoders` folder and load it with "
        "CLIPLoader"
    ]
    (tmp_path / "page.pth").write_bytes(b"<!doctype html>")
    assert "is a web page saved under the name of a model" in checked(tmp_path / "page.pth")[0]
    (tmp_path / "some.pth").write_bytes(b"PK and so on")
    assert checked(tmp_path / "some.pth") == []  # told when it is loaded
    save_file({"decoder.conv_in.weight": torch.zeros(1)}, tmp_path / "restorer.safetensors")
    assert checked(tmp_path / "restorer.safetensors") == []  # a VAE or a restorer: spandrel tells when it is loaded


def test_a_damaged_file_fails_at_its_loader(tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(STARTER.read_bytes()[:5000])
    with pytest.raises(FileProblem, match="is cut short"):
        load_upscale_model(model_name=reference(tmp_path / "cut.safetensors"))


def test_planning_an_upscaler_imports_no_torch() -> None:
    program = f"""
import sys
from nodegraph.types import FileRef
from nodes.upscale import load_upscale_model
from nodes.diffusion.upscalers import upscaler_problems
assert upscaler_problems({str(STARTER)!r}) == []
assert load_upscale_model(model_name=FileRef("a", {str(STARTER)!r}, "b")).weights.nbytes
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert "upscale_models" in MODEL_KINDS
