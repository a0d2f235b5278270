"""Loaders give parts to wire, and say at planning what is wrong with a file."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nodegraph.errors import FileProblem
from nodegraph.spec import NODE_ATTRIBUTE, NodeSpec
from nodegraph.types import FileRef
from nodes.loaders import load_checkpoint, load_diffusers, load_with_config

TINY = Path(__file__).parents[1] / "parity" / "weights" / "tiny-sd15.safetensors"
UNET = "model.diffusion_model."


def reference(path: Path) -> FileRef:
    return FileRef(path.name, str(path), "digest")


def checked(file: FileRef) -> list[str]:
    spec: NodeSpec = getattr(load_checkpoint, NODE_ATTRIBUTE)
    assert spec.check is not None
    return list(spec.check(ckpt_name=file))


def test_a_checkpoint_gives_model_clip_and_vae() -> None:
    loaded = load_checkpoint(ckpt_name=reference(TINY))
    assert loaded._fields == ("MODEL", "CLIP", "VAE")
    assert (loaded.MODEL.unet.role, loaded.MODEL.unet.family) == ("unet", "sd1")
    assert [part.role for part in loaded.CLIP.encoders] == ["clip_l"]
    assert loaded.VAE.vae.role == "vae"
    assert checked(reference(TINY)) == []


def test_a_lora_is_reported_at_planning(tmp_path: Path) -> None:
    save_file({"lora_unet_mid_block.lora_down.weight": torch.zeros(1, 1)}, tmp_path / "style.safetensors")
    problem = "style.safetensors: is a LoRA, not a checkpoint; put it in the `loras` folder and load it with LoraLoader"
    assert checked(reference(tmp_path / "style.safetensors")) == [problem]


def test_a_part_that_is_missing_is_named_when_it_is_used(tmp_path: Path) -> None:
    unet = {name: tensor for name, tensor in load_file(TINY).items() if name.startswith(UNET)}
    save_file(unet, tmp_path / "unet.safetensors", metadata={"format": "pt"})
    loaded = load_checkpoint(ckpt_name=reference(tmp_path / "unet.safetensors"))
    with pytest.raises(FileProblem, match=r"unet.safetensors: holds no VAE; load one with VAELoader"):
        loaded.VAE.vae.load("cpu", torch.float32)
    with pytest.raises(FileProblem, match=r"holds no text encoder \(CLIP-L\); load one with CLIPLoader"):
        loaded.CLIP.encoders[0].load("cpu", torch.float32)


def test_a_folder_without_an_index_is_no_diffusers_model(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match=r"model_index.json: cannot be read"):
        load_diffusers(model_path=reference(tmp_path))


def test_a_configuration_says_what_the_unet_predicts_and_the_layer_of_prompts(tmp_path: Path) -> None:
    config = tmp_path / "v.yaml"
    config.write_text("model: {params: {parameterization: v, cond_stage_config: {params: {layer_idx: -2}}}}", "utf-8")
    plain = load_checkpoint(ckpt_name=reference(TINY))
    loaded = load_with_config(config_name=reference(config), ckpt_name=reference(TINY))
    assert (plain.MODEL.unet.config.prediction, plain.CLIP.layer) == ("eps", None)
    assert loaded.MODEL.unet.config == replace(plain.MODEL.unet.config, prediction="v")
    assert (loaded.CLIP.encoders, loaded.CLIP.layer, loaded.VAE) == (plain.CLIP.encoders, -2, plain.VAE)
    spec: NodeSpec = getattr(load_with_config, NODE_ATTRIBUTE)
    assert spec.check is not None and spec.family is not None
    assert list(spec.check(config_name=reference(config), ckpt_name=reference(TINY))) == []
    assert str(spec.family(config_name=reference(config), ckpt_name=reference(TINY))).startswith("SD1")
    config.write_text("3", "utf-8")
    (tmp_path / "empty.ckpt").write_bytes(b"")
    problems = list(spec.check(config_name=reference(config), ckpt_name=reference(tmp_path / "empty.ckpt")))
    assert [problem[:10] for problem in problems] == ["v.yaml: is", "empty.ckpt"]


def test_declaring_and_checking_the_nodes_imports_no_torch() -> None:
    code = (
        "import sys, nodes.loaders, nodes.text, nodes.vae;"
        "from nodes.diffusion.checkpoints import checkpoint_problems;"
        f"assert checkpoint_problems({str(TINY)!r}) == []; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
