"""The loader of hypernetworks adds a patch; the one that ships is a hypernetwork of the starter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from nodegraph.codec import decode, encode
from nodegraph.spec import NODE_ATTRIBUTE, NodeSpec
from nodegraph.types import FileRef
from nodes.diffusion.guidance_patches import TCFG
from nodes.diffusion.hypernetwork import Hypernetwork, read_hypernetwork
from nodes.hypernetwork import load_hypernetwork
from nodes.loaders import load_checkpoint
from nodes.types import ModelValue

MODELS = Path(__file__).parents[2] / "nodes" / "models"
STARTER, FLAT = MODELS / "checkpoints" / "starter.safetensors", MODELS / "hypernetworks" / "starter-flat.pt"


def test_it_adds_a_patch_of_plain_fields_and_the_model_is_as_before() -> None:
    model = load_checkpoint(ckpt_name=FileRef("s", str(STARTER), "d")).MODEL
    model = ModelValue(model.unet, (TCFG(),))
    file = FileRef("flat.pt", str(FLAT), "digest")
    first = load_hypernetwork(model=model, hypernetwork_name=file)
    twice = load_hypernetwork(model=first, hypernetwork_name=file, strength=-0.5)
    assert twice.patches == (TCFG(), Hypernetwork("flat.pt", str(FLAT), "digest", 1.0),
                             Hypernetwork("flat.pt", str(FLAT), "digest", -0.5))  # fmt: skip
    assert model.patches == (TCFG(),) and twice.unet is model.unet
    assert decode(*encode(twice), {"nodes"}) == twice


def test_the_one_that_ships_is_two_layers_with_relu() -> None:
    networks = read_hypernetwork(FLAT)
    assert list(networks) == [128]
    stored: Any = torch.load(FLAT, weights_only=True)[128]
    x = torch.randn(2, 5, 128, generator=torch.Generator().manual_seed(0))
    for network, state in zip(networks[128], stored, strict=True):
        w1, b1, w2, b2 = (state[f"linear.{name}"].float() for name in ("0.weight", "0.bias", "2.weight", "2.bias"))
        torch.testing.assert_close(network(x), (x @ w1.T + b1).clamp(min=0) @ w2.T + b2)
        assert network(x).abs().max() > 0.1


def test_a_file_of_another_kind_is_told_at_planning(tmp_path: Path) -> None:
    spec: NodeSpec = getattr(load_hypernetwork, NODE_ATTRIBUTE)
    assert spec.check is not None
    check = spec.check
    (tmp_path / "empty.pt").write_bytes(b"")
    save_file({"a": torch.ones(1)}, tmp_path / "x.safetensors")
    files = {name: FileRef(name, str(tmp_path / name), "d") for name in ("empty.pt", "x.safetensors")}
    assert list(check(hypernetwork_name=FileRef("f", str(FLAT), "d"), strength=1.0)) == list(check(strength=1.0)) == []
    assert list(check(hypernetwork_name=files["empty.pt"])) == ["empty.pt: is empty (0 bytes); download it again"]
    assert list(check(hypernetwork_name=files["x.safetensors"])) == [
        "x.safetensors: is not a hypernetwork; expected a .pt file as AUTOMATIC1111's web UI saves them"
    ]


def test_a_lora_among_the_hypernetworks_is_told_with_its_place() -> None:
    lora = MODELS / "loras" / "starter-outlined.safetensors"
    check = getattr(load_hypernetwork, NODE_ATTRIBUTE).check
    (told,) = check(hypernetwork_name=FileRef("x.safetensors", str(lora), ""))
    assert told.startswith("starter-outlined.safetensors: is a LoRA, not a hypernetwork; put it in the `loras` folder")
