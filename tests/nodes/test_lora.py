"""Nodes that lay LoRAs over a model: what they give, what they tell, and what is told before anything runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nodegraph.codec import decode, encode
from nodegraph.errors import WorkflowError
from nodegraph.registry import Registry
from nodegraph.session import Session, Settings
from nodegraph.spec import NODE_ATTRIBUTE, NodeSpec
from nodegraph.types import FileRef
from nodegraph.workflow import Workflow
from nodes import lora
from nodes.diffusion.checkpoints import read_checkpoint
from nodes.diffusion.lora import LoraFile, LoraOverlay
from nodes.types import ClipValue, ModelValue

MODELS = Path(__file__).parents[2] / "nodes" / "models"
STARTER = MODELS / "checkpoints" / "starter.safetensors"
OUTLINED, STRIPED = (MODELS / "loras" / f"starter-{name}.safetensors" for name in ("outlined", "striped"))
CROSS = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"


def reference(path: Path) -> FileRef:
    return FileRef(path.name, str(path), path.stem)


def starter() -> tuple[ModelValue, ClipValue]:
    found = read_checkpoint(STARTER, "starter")
    assert found.unet is not None
    return ModelValue(found.unet, ("patch",)), ClipValue(found.clip, layer=-2)


def context() -> tuple[Any, list[str]]:
    told: list[str] = []
    return SimpleNamespace(note=told.append), told


def overlay(path: Path, strength: float, blocks: Any = ()) -> LoraOverlay:
    return LoraOverlay(LoraFile(*reference(path)), strength, blocks)


def text_lora(folder: Path) -> Path:
    """A LoRA of the UNet and of the text encoder of the starter, and a tensor of neither."""
    hidden = starter()[1].encoders[0].config.hidden
    tensors = {name: tensor for name, tensor in load_file(OUTLINED).items() if "mid_block_resnets" in name}
    layer = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    inner = starter()[1].encoders[0].config.intermediate
    tensors |= {f"{layer}.lora_up.weight": torch.ones(inner, 1), f"{layer}.lora_down.weight": torch.ones(1, hidden)}
    save_file(tensors | {"lora_unet_nowhere.alpha": torch.tensor(1.0)}, folder / "both.safetensors")
    return folder / "both.safetensors"


def test_a_lora_is_laid_over_model_and_text_encoders_and_what_is_left_is_told(tmp_path: Path) -> None:
    ctx, told = context()
    (model, clip), path = starter(), text_lora(tmp_path)
    found = lora.load_lora(
        ctx=ctx, model=model, clip=clip, lora_name=reference(path), strength_model=0.5, strength_clip=-1.0
    )
    assert found._fields == ("MODEL", "CLIP")
    assert found.MODEL == replace(model, unet=model.unet.overlaid(overlay(path, 0.5)))
    assert found.CLIP == replace(clip, encoders=(clip.encoders[0].overlaid(overlay(path, -1.0)),))
    total = len(load_file(path))
    assert told == [f"1 of {total} tensors of both.safetensors match nothing in this model: lora_unet_nowhere.alpha"]
    structure, tensors = encode(tuple(found))
    assert not tensors and decode(json.loads(json.dumps(structure)), {}, ["nodes"]) == tuple(found)


def test_a_lora_of_the_unet_leaves_the_text_encoders_as_they_are() -> None:
    ctx, told = context()
    model, clip = starter()
    found = lora.load_lora(ctx=ctx, model=model, clip=clip, lora_name=reference(OUTLINED))
    assert found.MODEL.unet.overlays == (overlay(OUTLINED, 1.0),)
    assert found.CLIP == clip and told == []


def test_the_model_alone_is_not_told_of_tensors_of_text_encoders(tmp_path: Path) -> None:
    ctx, told = context()
    model, _ = starter()
    path = text_lora(tmp_path)
    found = lora.load_lora_model_only(ctx=ctx, model=model, lora_name=reference(path), strength_model=0.8)
    assert found == replace(model, unet=model.unet.overlaid(overlay(path, 0.8)))
    assert len(told) == 1 and "lora_te" not in told[0]


def test_strength_0_gives_back_what_was_given_and_looks_into_no_file() -> None:
    ctx, _ = context()
    model, clip = starter()
    missing = FileRef("gone.safetensors", "/nowhere/gone.safetensors", "gone")
    found = lora.load_lora(ctx=ctx, model=model, clip=clip, lora_name=missing, strength_model=0.0, strength_clip=0.0)
    assert found.MODEL is model and found.CLIP is clip
    assert lora.load_lora_model_only(ctx=ctx, model=model, lora_name=missing, strength_model=0.0) is model


def test_blocks_are_read_from_text() -> None:
    ctx, _ = context()
    model, clip = starter()
    found = lora.load_lora_by_block(
        ctx=ctx, model=model, clip=clip, lora_name=reference(OUTLINED), block_weights="IN01:0.5, MID:0"
    )
    assert found.MODEL.unet.overlays == (overlay(OUTLINED, 1.0, (("IN01", 0.5), ("MID", 0.0))),)


def test_a_stack_is_laid_over_a_model_in_its_order() -> None:
    ctx, _ = context()
    model, clip = starter()
    first = lora.stack_loras(lora_1=reference(STRIPED), strength_model_1=0.3)
    stack = lora.stack_loras(
        lora_1=reference(OUTLINED), lora_3=reference(STRIPED), strength_model_3=-0.2, lora_stack=first
    )
    found = lora.apply_lora_stack(ctx=ctx, model=model, clip=clip, lora_stack=stack)
    expected = (overlay(STRIPED, 0.3), overlay(OUTLINED, 1.0), overlay(STRIPED, -0.2))
    assert found.MODEL.unet.overlays == expected and found.CLIP == clip
    assert decode(encode(stack)[0], {}, ["nodes"]) == stack


def checked(function: Any, **inputs: Any) -> list[str]:
    spec: NodeSpec = getattr(function, NODE_ATTRIBUTE)
    assert spec.check is not None
    return [str(problem) for problem in spec.check(**inputs)]


def test_what_is_wrong_with_files_and_blocks_is_told_at_planning(tmp_path: Path) -> None:
    checkpoint = reference(STARTER)
    (problem,) = checked(lora.load_lora, lora_name=checkpoint, strength_model=1.0)
    assert problem.startswith("starter.safetensors: is ") and "not a LoRA" in problem
    assert checked(lora.load_lora_by_block, lora_name=reference(OUTLINED), block_weights="1,0") == [
        "block_weights: 2 numbers are given; expected 12 (SDXL), 17 (SD1), 20 or 26 (every block)"
    ]
    wide = {f"{CROSS}.lora_up.weight": torch.zeros(8, 1), f"{CROSS}.lora_down.weight": torch.zeros(1, 2048)}
    save_file(wide, tmp_path / "wide.safetensors")
    both = {"lora_1": reference(OUTLINED), "lora_2": reference(tmp_path / "wide.safetensors"), "lora_3": None}
    assert checked(lora.stack_loras, **both) == [
        "starter-outlined.safetensors is of SD1 with prompts of 128 features and wide.safetensors is of SDXL; expected "
        "LoRAs of one family"
    ]
    assert checked(lora.stack_loras, lora_1=reference(OUTLINED), lora_2=None, lora_3=None) == []


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for kind, paths in {"checkpoints": [STARTER], "loras": [OUTLINED, text_lora(tmp_path)]}.items():
        (tmp_path / "data" / "models" / kind).mkdir(parents=True)
        for path in paths:
            (tmp_path / "data" / "models" / kind / path.name).symlink_to(path)
    wide = {f"{CROSS}.lora_up.weight": torch.zeros(8, 1), f"{CROSS}.lora_down.weight": torch.zeros(1, 2048)}
    save_file(wide, tmp_path / "data" / "models" / "loras" / "wide.safetensors")
    return tmp_path / "data"


def workflow(name: str) -> Workflow:
    return Workflow.of({
        "nodegraph": 1,
        "nodes": {
            "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "starter.safetensors"}},
            "2": {"class_type": "LoraLoader", "inputs": {"model": ["1", 0], "clip": ["1", 1], "lora_name": name}},
            "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["2", 1], "text": "a red square"}},
        },
        "outputs": {"prompt": "3.0"},
    })  # fmt: skip


def test_a_lora_of_another_family_is_refused_before_anything_runs(home: Path) -> None:
    settings = Settings(home=home, device="cpu", dtype="fp32", cache_dir=None)
    with Session(settings, registry=Registry().with_entry_points()) as session:
        for name in ("starter-outlined.safetensors", "both.safetensors"):
            session.prepare(workflow(name), wants_outputs=True)
        with pytest.raises(
            WorkflowError, match=r"'wide.safetensors' is of SDXL but model is of SD1 with prompts of 128"
        ):
            session.prepare(workflow("wide.safetensors"), wants_outputs=True)


def test_a_changed_text_encoder_gives_another_prompt(home: Path) -> None:
    settings = Settings(home=home, device="cpu", dtype="fp32", cache_dir=None)
    found = {}
    with Session(settings, registry=Registry().with_entry_points()) as session:
        for name in ("starter-outlined.safetensors", "both.safetensors"):
            prepared = session.prepare(workflow(name), wants_outputs=True)
            found[name] = session.submit(prepared, wants_values=True).result()["prompt"][0].tokens
    changed, plain = found["both.safetensors"], found["starter-outlined.safetensors"]
    assert changed.shape == plain.shape and not torch.allclose(changed, plain, atol=1e-3)
