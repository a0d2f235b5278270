"""Files of weights as the safetensors library reads them."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save

from nodes.diffusion.architecture import Family, UNetConfig
from nodes.diffusion.checkpoints import Part
from nodes.diffusion.saving import Entry, checkpoint_metadata, markers, write_safetensors

CONFIG = UNetConfig(4, 4, 32, (1, 2), (1, 1), (1, 0), 1, 12, 8, None, False)
TENSORS = {
    "b.half": torch.randn(3, 5).half(), "a.brain": torch.randn(2, 2, 3).bfloat16(), "z.single": torch.randn(4, 2).t(),
    "scalar": torch.tensor(7, dtype=torch.int64), "none": torch.empty(0), "byte": torch.arange(3, dtype=torch.uint8),
}  # fmt: skip


def entries() -> list[Entry]:
    return [Entry(name, tensor.dtype, tuple(tensor.shape), lambda tensor=tensor: tensor)
            for name, tensor in TENSORS.items()]  # fmt: skip


def test_a_file_is_what_the_library_writes() -> None:
    file, steps = io.BytesIO(), []
    write_safetensors(file, entries(), {"title": "größe"}, lambda i, n: steps.append((i, n)))
    found = load(file.getvalue())
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name
    theirs = save({name: tensor.contiguous() for name, tensor in TENSORS.items()}, {"title": "größe"})
    tables = [json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]]) for data in (file.getvalue(), theirs)]
    assert tables[0] == tables[1]
    assert steps == [(i, 6) for i in range(1, 7)]


def test_a_tensor_is_made_when_it_is_its_turn() -> None:
    written: list[int] = []
    file = io.BytesIO()
    rows = [Entry(f"{i}", torch.float32, (256,), lambda: (written.append(file.tell()), torch.zeros(256))[1])
            for i in range(3)]  # fmt: skip
    write_safetensors(file, rows, {})
    assert [place - written[0] for place in written] == [0, 1024, 2048]


@pytest.mark.parametrize("wrong", [torch.zeros(3), torch.zeros(2).half()])
def test_a_tensor_that_is_not_as_told_is_refused(wrong: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"x: made torch.float\d+ \[\d\], not torch.float32 \[2\]"):
        write_safetensors(io.BytesIO(), [Entry("x", torch.float32, (2,), lambda: wrong)], {})


@pytest.mark.parametrize(
    ("family", "channels", "prediction", "architecture"),
    [
        ("sd1", 4, "eps", "stable-diffusion-v1"),
        ("sd1", 9, "eps", "stable-diffusion-v1-inpainting"),
        ("sd2", 4, "eps", "stable-diffusion-v2-512"),
        ("sd2", 4, "v", "stable-diffusion-v2-768-v"),
        ("sdxl", 4, "v", "stable-diffusion-xl-v1-base"),
        ("sdxl", 8, "eps", "stable-diffusion-xl-v1-edit"),
        ("sdxl_refiner", 4, "eps", "stable-diffusion-xl-v1-refiner"),
    ],
)
def test_a_file_says_what_it_is(family: Family, channels: int, prediction: str, architecture: str) -> None:
    config = replace(CONFIG, in_channels=channels, prediction=prediction)  # pyright: ignore[reportArgumentType]
    found = checkpoint_metadata(Part("", "", "unet", family, config), "mine")
    told = "v" if prediction == "v" else "epsilon"
    assert found["modelspec.architecture"] == architecture
    assert found["modelspec.predict_key"] == found["modelspec.prediction_type"] == told
    assert found["modelspec.title"] == "mine"


def test_markers_are_those_of_v_prediction_alone() -> None:
    names = [[entry.name for entry in markers(config, zero)] for config in (CONFIG, replace(CONFIG, prediction="v"))
             for zero in (False, True)]  # fmt: skip
    assert names == [[], [], ["v_pred"], ["v_pred", "ztsnr"]]
    assert [entry.name for entry in markers(replace(CONFIG, prediction="v", zero_terminal_snr=True), False)] == names[3]
