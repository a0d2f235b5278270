"""A text encoder alone in a file: which it is, and that it computes what the library that saved it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from nodegraph.errors import FileProblem
from nodegraph.types import FileRef
from nodes.diffusion.checkpoints import Role
from nodes.diffusion.clip import END
from nodes.diffusion.text_encoders import read_encoder, read_two_encoders

WIDTH = 8
KINDS: dict[Role, tuple[int, str]] = {"clip_l": (12, "quick_gelu"), "clip_h": (23, "gelu"), "clip_g": (32, "gelu")}
PAD = {"clip_l": END, "clip_h": 0, "clip_g": 0}


def tokens(role: Role) -> Tensor:
    row = torch.full((1, 77), PAD[role])
    row[0, :5] = torch.tensor([49406, 320, 2368, 1929, END])
    return row


def of_transformers(role: Role) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    layers, activation = KINDS[role]
    torch.manual_seed(0)
    config = CLIPTextConfig(
        hidden_size=WIDTH, num_hidden_layers=layers, num_attention_heads=1, intermediate_size=12,
        hidden_act=activation, projection_dim=WIDTH, bos_token_id=49406, eos_token_id=END,
    )  # fmt: skip
    return CLIPTextModelWithProjection(config).eval()


def written(path: Path, state: dict[str, Tensor], prefix: str = "") -> Path:
    save_file({prefix + name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


@pytest.mark.parametrize(
    ("role", "prefix"),
    [("clip_l", ""), ("clip_l", "transformer."), ("clip_h", "cond_stage_model.transformer."), ("clip_g", "clip.")],
)
@torch.no_grad()
def test_it_is_told_by_its_layers_and_computes_what_transformers_does(tmp_path: Path, role: Role, prefix: str) -> None:
    theirs = of_transformers(role)
    part = read_encoder(written(tmp_path / "clip.safetensors", theirs.state_dict(), prefix), "d")
    assert (part.role, part.prefix) == (role, prefix)
    assert part.family == {"clip_l": "sd1", "clip_h": "sd2", "clip_g": "sdxl_refiner"}[role]
    expected = theirs(tokens(role), output_hidden_states=True)
    found = part.load("cpu", torch.float32)(tokens(role), part.config.default_layer, part.config.final_norm)
    layer = {"clip_l": -1, "clip_h": -1, "clip_g": -2}[role]  # H as diffusers saves it, without the layer SD2 skips
    hidden = expected.hidden_states[layer]
    normed = theirs.text_model.final_layer_norm(hidden) if role != "clip_g" else hidden
    torch.testing.assert_close(found.hidden, normed, rtol=1e-4, atol=1e-5)
    if role != "clip_l":
        torch.testing.assert_close(found.pooled, expected.text_embeds, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("prefix", "layers", "role"), [("", 32, "clip_g"), ("cond_stage_model.model.", 24, "clip_h")])
@torch.no_grad()
def test_it_computes_what_open_clip_does(tmp_path: Path, prefix: str, layers: int, role: Role) -> None:
    transformer = pytest.importorskip("open_clip.transformer")
    torch.manual_seed(0)
    theirs = transformer.TextTransformer(77, 49408, width=WIDTH, heads=1, layers=layers, output_dim=WIDTH).eval()
    state = {name: tensor for name, tensor in theirs.state_dict().items() if name != "attn_mask"}
    part = read_encoder(written(tmp_path / "clip.safetensors", state, prefix), "d")
    assert (part.role, part.config.default_layer) == (role, -2)
    found = part.load("cpu", torch.float32)(tokens(role))
    torch.testing.assert_close(found.pooled, theirs(tokens(role)), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_old_names_without_text_model_and_a_projection_as_comfyui_saved_it_are_read(tmp_path: Path) -> None:
    theirs = of_transformers("clip_g")
    state = {name.removeprefix("text_model."): tensor for name, tensor in theirs.state_dict().items()}
    state["text_projection"] = state.pop("text_projection.weight").t()
    part = read_encoder(written(tmp_path / "clip.safetensors", state), "d")
    found = part.load("cpu", torch.float32)(tokens("clip_g"))
    torch.testing.assert_close(found.pooled, theirs(tokens("clip_g")).text_embeds, rtol=1e-4, atol=1e-5)


def test_the_other_half_of_clip_does_not_count(tmp_path: Path) -> None:
    state = {f"text_model.{name}": tensor for name, tensor in of_transformers("clip_l").text_model.state_dict().items()}
    more = {"vision_model.a.weight": torch.zeros(4), "visual_projection.weight": torch.zeros(2, 2)}
    part = read_encoder(written(tmp_path / "clip.safetensors", {**state, **more}), "d")
    assert part.nbytes == sum(tensor.nbytes for tensor in state.values())


def test_the_two_of_sdxl_are_taken_in_either_order(tmp_path: Path) -> None:
    files = [
        FileRef(role, str(written(tmp_path / f"{role}.safetensors", of_transformers(role).state_dict())), role)
        for role in ("clip_l", "clip_g", "clip_h")
    ]
    for pair in (files[:2], files[1::-1]):
        first, second = read_two_encoders(*pair)
        assert (first.role, second.role, first.digest, second.digest) == ("clip_l", "clip_g", "clip_l", "clip_g")
        assert {(part.family, part.config.default_layer, part.config.final_norm) for part in (first, second)} == {
            ("sdxl", -2, False)
        }
    with pytest.raises(FileProblem, match=r"^clip_l and clip_h: are CLIP-L and OpenCLIP-H; SDXL takes CLIP-L and"):
        read_two_encoders(files[0], files[2])


def test_several_encoders_or_none_are_told(tmp_path: Path) -> None:
    table = {"text_model.embeddings.token_embedding.weight": torch.zeros(1, 1)}
    both = {"conditioner.embedders.0.transformer." + name: tensor for name, tensor in table.items()}
    both["conditioner.embedders.1.model.token_embedding.weight"] = torch.zeros(1, 1)
    with pytest.raises(FileProblem, match="holds 2 text encoders; load it with CheckpointLoaderSimple"):
        read_encoder(written(tmp_path / "xl.safetensors", both), "d")
    t5 = {"encoder.block.0.layer.0.SelfAttention.k.weight": torch.zeros(1, 1)}
    with pytest.raises(FileProblem, match=r"^t5.safetensors: is not a text encoder"):
        read_encoder(written(tmp_path / "t5.safetensors", t5), "d")
    lora = {"lora_te_text_model_encoder.lora_down.weight": torch.zeros(1, 1)}
    with pytest.raises(FileProblem, match="is a LoRA, not a text encoder"):
        read_encoder(written(tmp_path / "lora.safetensors", lora), "d")
