"""Every layer is found by the names that trainers give it: those of diffusers, transformers, peft and kohya."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from nodes.diffusion.architecture import ClipConfig, UNetConfig, unet_config, unet_family
from nodes.diffusion.checkpoints import Part
from nodes.diffusion.keymap import unet_sources
from nodes.diffusion.lora_names import is_of_text_encoder, layer_names, pieces_of
from nodes.diffusion.weights import build

COMMON: dict[str, Any] = {"in_channels": 4, "out_channels": 4, "norm_num_groups": 8, "cross_attention_dim": 12}
UNETS: dict[str, dict[str, Any]] = {
    "sd1": {"block_out_channels": (16, 32, 32), "layers_per_block": 1, "attention_head_dim": 4,
            "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")},
    "sdxl": {"block_out_channels": (16, 16), "layers_per_block": 1, "attention_head_dim": (4, 4),
             "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
             "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
             "transformer_layers_per_block": (1, 2), "use_linear_projection": True,
             "addition_embed_type": "text_time", "addition_time_embed_dim": 4,
             "projection_class_embeddings_input_dim": 24 + 6 * 4},
}  # fmt: skip


def part_of(config: UNetConfig | ClipConfig, role: Any = "unet", family: Any = "sd1") -> tuple[Part[Any], list[str]]:
    with torch.device("meta"):
        names = list(build(config).state_dict())
    return Part("a.safetensors", "d", role, family, config), names


@cache
def peer(name: str) -> tuple[UNet2DConditionModel, Part[Any], list[str], dict[str, str]]:
    """A UNet of diffusers, our part of its structure, our names, and where our weights stand in it."""
    with torch.device("meta"):
        theirs = UNet2DConditionModel(**COMMON, **UNETS[name])
    sources = unet_sources(theirs.state_dict())
    shapes = {ours: tuple(theirs.state_dict()[source.name].shape) for ours, source in sources.items()}
    hints = {"num_heads": 4, "norm_groups": 8}
    part, names = part_of(unet_config(shapes, unet_family(shapes), hints, "peer"))
    return theirs, part, names, {source.name: ours for ours, source in sources.items()}


@pytest.mark.parametrize("name_of_peer", UNETS)
def test_every_layer_of_a_unet_is_found_by_diffusers_and_kohyas_names(name_of_peer: str) -> None:
    theirs, part, names, ours = peer(name_of_peer)
    known = layer_names(part, names)
    modules = [name for name, module in theirs.named_modules() if hasattr(module, "weight")]
    assert len(modules) > 30
    for name in modules:
        wanted = ours[f"{name}.weight"]
        flat = name.replace(".", "_")
        for found in (f"lora_unet_{flat}", f"lycoris_{flat}", name, f"unet.{name}", f"base_model.model.{name}",
                      f"unet.base_model.model.{name}"):  # fmt: skip
            assert known[found] == wanted, found
    assert set(known.values()) <= set(names)
    weights = {name for name in names if name.endswith(".weight")}
    assert {known[f"lora_unet_{name.replace('.', '_')}"] for name in modules} == weights


@pytest.mark.parametrize("name_of_peer", UNETS)
def test_every_layer_of_a_unet_is_found_by_its_original_name(name_of_peer: str) -> None:
    _, part, names, _ = peer(name_of_peer)
    known = layer_names(part, names)
    for name in names:
        module = name.removesuffix(".weight")
        if module == name:
            assert known[f"diffusion_model.{name}"] == name
        else:
            assert known[f"diffusion_model.{module}"] == known["lora_unet_" + module.replace(".", "_")] == name


def test_attention_is_found_by_the_names_of_old_diffusers_files() -> None:
    _, part, names, ours = peer("sdxl")
    known = layer_names(part, names)
    where = "down_blocks.1.attentions.0.transformer_blocks.0.attn2"
    for old, new in (("to_q", "to_q"), ("to_v", "to_v"), ("to_out", "to_out.0")):
        wanted = ours[f"{where}.{new}.weight"]
        assert known[f"unet.{where}.processor.{old}"] == known[f"{where}.processor.{old}"] == wanted


def text_config(hidden: int = 16) -> ClipConfig:
    return ClipConfig(hidden=hidden, layers=2, heads=2, intermediate=2 * hidden, projection=None)


@pytest.mark.parametrize(
    ("role", "family", "flat", "dotted"),
    [
        (
            "clip_l",
            "sd1",
            ("lora_te_", "lora_te1_"),
            ("text_encoder.", "text_encoder.transformer.", "transformer.", ""),
        ),
        ("clip_h", "sd2", ("lora_te_", "lora_te1_"), ("text_encoder.",)),
        ("clip_l", "sdxl", ("lora_te1_", "lora_te_"), ("text_encoder.", "text_encoder.base_model.model.")),
        ("clip_g", "sdxl", ("lora_te2_",), ("text_encoder_2.", "text_encoder_2.base_model.model.")),
        ("clip_g", "sdxl_refiner", ("lora_te_", "lora_te1_"), ("text_encoder.",)),
    ],
)
def test_every_layer_of_a_text_encoder_is_found(
    role: str, family: str, flat: tuple[str, ...], dotted: tuple[str, ...]
) -> None:
    part, names = part_of(text_config(), role, family)
    known = layer_names(part, names)
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    with torch.device("meta"):
        theirs = CLIPTextModel(CLIPTextConfig(**sizes))
    modules = ["text_model." + name.removeprefix("text_model.") for name, module in theirs.named_modules()
               if isinstance(module, torch.nn.Linear)]  # fmt: skip
    assert len(modules) == 2 * 6
    for name in modules:
        for found in (*(start + name.replace(".", "_") for start in flat), *(start + name for start in dotted)):
            assert known[found] == f"{name}.weight" and known[found] in names
            assert is_of_text_encoder(found) or found.startswith("transformer.")
    others = {"lora_te_", "lora_te1_", "lora_te2_", "text_encoder.", "text_encoder_2."} - {*flat, *dotted}
    assert not any(name.startswith(tuple(others)) for name in known if others)
    generic = f"text_encoders.{role}.transformer.text_model.encoder.layers.1.mlp.fc2"
    assert known[generic] == "text_model.encoder.layers.1.mlp.fc2.weight"


def test_tensors_are_sorted_by_layer_whatever_the_convention() -> None:
    names = [
        "lora_unet_a.lora_up.weight", "lora_unet_a.lora_down.weight", "lora_unet_a.lora_mid.weight",
        "lora_unet_a.alpha",
        "unet.b.processor.to_q_lora.up.weight", "unet.b.processor.to_q_lora.down.weight",
        "unet.c.lora.up.weight", "unet.c.lora.down.weight",
        "text_encoder.d.lora_linear_layer.up.weight", "text_encoder.d.lora_linear_layer.down.weight",
        "base_model.model.e.lora_A.weight", "base_model.model.e.lora_B.weight",
        "unet.f.lora_A.default.weight", "unet.f.lora_B.default.weight", "unet.g.lora_A", "unet.g.lora_B",
        "lora_unet_h.w_norm", "lora_unet_h.b_norm", "lora_unet_i.oft_blocks", "lora_unet_j.a1.weight",
        "bundle_emb.word.string_to_param.*", "lora_unet_k.on_input",
    ]  # fmt: skip
    layers, others = pieces_of(names)
    up_down = {"up", "down"}
    assert {layer: set(pieces) for layer, pieces in layers.items()} == {
        "lora_unet_a": {"up", "down", "mid", "alpha"}, "unet.b.processor.to_q": up_down, "unet.c": up_down,
        "text_encoder.d": up_down, "base_model.model.e": up_down, "unet.f": up_down, "unet.g": up_down,
        "lora_unet_h": {"diff", "diff_b"}, "lora_unet_i": {"oft_blocks"}, "lora_unet_j": {"a1"},
    }  # fmt: skip
    assert layers["unet.f"] == {"down": "unet.f.lora_A.default.weight", "up": "unet.f.lora_B.default.weight"}
    assert others == ["bundle_emb.word.string_to_param.*", "lora_unet_k.on_input"]
