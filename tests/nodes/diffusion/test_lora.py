"""LoRAs over the weights of networks, compared with peft and with weights changed by hand."""

from __future__ import annotations

import copy
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor

from nodegraph.codec import decode, encode
from nodegraph.errors import FileProblem
from nodes.diffusion.architecture import ClipConfig, UNetConfig
from nodes.diffusion.checkpoints import Part, read_checkpoint, read_clip, read_unet
from nodes.diffusion.lora import LoraFile, LoraOverlay, fit, overlaid
from nodes.diffusion.lora_blocks import parse_blocks
from nodes.diffusion.weights import build, recipe

UNET = UNetConfig(4, 4, 16, (1, 2), (1, 1), (1, 1), 1, 12, 4, None, False, norm_groups=8)
MODELS = Path(__file__).parents[3] / "nodes" / "models"
ATTENTION = "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
CROSS = "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
OURS = {
    f"lora_unet_{ATTENTION}": "input_blocks.1.1.transformer_blocks.0.attn1.to_q",
    f"lora_unet_{CROSS}": "input_blocks.1.1.transformer_blocks.0.attn2.to_k",
    "lora_unet_mid_block_resnets_0_conv1": "middle_block.0.in_layers.2",
    "lora_unet_up_blocks_1_attentions_0_proj_in": "output_blocks.2.1.proj_in",
}
OPEN_CLIP = {
    "self_attn.out_proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    "layer_norm1": "ln_1", "layer_norm2": "ln_2",
}  # fmt: skip
Tensors = dict[str, Tensor]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + 31 * sum(shape)))


def state_of(config: Any) -> Tensors:
    torch.manual_seed(0)
    return {name: tensor.contiguous() for name, tensor in build(config).state_dict().items()}


def unet_part(folder: Path, config: UNetConfig = UNET) -> Part[Any]:
    arch = {"unet": {"norm_groups": 8, "num_heads": 4}}
    state = {f"model.diffusion_model.{name}": tensor for name, tensor in state_of(config).items()}
    save_file(state, folder / f"unet-{config.context_dim}.safetensors", metadata={"arch": json.dumps(arch)})
    return read_unet(folder / f"unet-{config.context_dim}.safetensors", f"unet {config.context_dim}")


def saved(folder: Path, tensors: Tensors, name: str = "style") -> LoraFile:
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / f"{name}.safetensors")
    return LoraFile(f"{name}.safetensors", str(folder / f"{name}.safetensors"), name)


def unet_lora(state: Tensors, rank: int = 2) -> tuple[Tensors, Tensors]:
    """A LoRA of a few layers, and the whole weights it gives at strength 1, by our names."""
    tensors: Tensors = {}
    whole: Tensors = {}
    for layer, ours in OURS.items():
        weight = state[f"{ours}.weight"]
        up, down = noise(len(weight), rank, *[1] * (weight.dim() - 2)), noise(rank, *weight.shape[1:])
        tensors |= {
            f"{layer}.lora_up.weight": up,
            f"{layer}.lora_down.weight": down,
            f"{layer}.alpha": torch.tensor(1.0),
        }
        whole[f"{ours}.weight"] = weight + (up.flatten(1) @ down.flatten(1)).reshape(weight.shape) / rank
    return tensors, whole


def output(part: Part[Any], whole: Tensors | None = None) -> Tensor:
    """What a UNet makes of fixed inputs; with some weights replaced by others."""
    module = part.load("cpu", torch.float32)
    module.load_state_dict({**module.state_dict(), **(whole or {})}, assign=True)
    with torch.no_grad():
        return module(noise(2, 4, 8, 8), torch.tensor([3.0, 700.0]), noise(2, 5, 12))


def test_the_network_computes_with_changed_weights_and_the_part_stays_as_it_was(tmp_path: Path) -> None:
    part, state = unet_part(tmp_path), state_of(UNET)
    tensors, whole = unet_lora(state)
    (laid,), told = overlaid(saved(tmp_path, tensors), [(part, 1.0)])
    assert told == ""
    expected = output(part, whole)
    assert not torch.allclose(output(part), expected, atol=1e-3)
    assert torch.allclose(output(laid), expected, atol=1e-5)
    assert torch.equal(output(part), output(unet_part(tmp_path)))


@pytest.mark.parametrize("strength", [0.5, -2.0])
def test_the_strength_scales_the_change_and_may_be_negative(tmp_path: Path, strength: float) -> None:
    part, state = unet_part(tmp_path), state_of(UNET)
    tensors, whole = unet_lora(state)
    (laid,), _ = overlaid(saved(tmp_path, tensors), [(part, strength)])
    scaled = {name: torch.lerp(state[name], weight, strength) for name, weight in whole.items()}
    assert torch.allclose(output(laid), output(part, scaled), atol=1e-5)


def test_two_loras_add_up_and_taking_one_away_gives_back_the_same_part(tmp_path: Path) -> None:
    part, state = unet_part(tmp_path), state_of(UNET)
    tensors, whole = unet_lora(state)
    file, other = saved(tmp_path, tensors), saved(tmp_path, unet_lora(state, rank=3)[0], "other")
    (once,), _ = overlaid(file, [(part, 1.0)])
    (twice,), _ = overlaid(other, [(once, 0.5)])
    both = {name: whole[name] + 0.5 * (extra - state[name]) for name, extra in unet_lora(state, rank=3)[1].items()}
    assert torch.allclose(output(twice), output(part, both), atol=1e-5)
    assert replace(twice, overlays=twice.overlays[:1]).fingerprint == once.fingerprint != twice.fingerprint


def test_strength_0_leaves_a_part_as_it_is(tmp_path: Path) -> None:
    part = unet_part(tmp_path)
    file = saved(tmp_path, unet_lora(state_of(UNET))[0])
    assert overlaid(file, [(part, 0.0)]) == ((part,), "")
    assert overlaid(file, [(part, 1.0)], parse_blocks("NONE")) == ((part,), "")


def test_blocks_have_strengths_of_their_own(tmp_path: Path) -> None:
    part, state = unet_part(tmp_path), state_of(UNET)
    tensors, whole = unet_lora(state)
    (laid,), _ = overlaid(saved(tmp_path, tensors), [(part, 2.0)], (("IN01", 0.25), ("MID", 0.0)))
    with recipe(laid, "cpu") as found:
        for name, weight in whole.items():
            strength = {"input": 0.5, "middle": 0.0, "output": 2.0}[name.partition("_")[0]]
            assert torch.allclose(found.tensor(name), torch.lerp(state[name], weight, strength), atol=1e-5), name
            assert (found.key(name) == ()) == (strength == 0)


def test_a_key_holds_what_concerns_its_tensor_alone(tmp_path: Path) -> None:
    part = unet_part(tmp_path)
    file = saved(tmp_path, unet_lora(state_of(UNET))[0])
    plain, blocked = LoraOverlay(file, 1.0), LoraOverlay(file, 1.0, (("MID", 0.5),))
    names = {f"{ours}.weight" for ours in OURS.values()}
    assert plain.keys(part).keys() == blocked.keys(part).keys() == names
    assert {name for name in names if plain.keys(part)[name] != blocked.keys(part)[name]} == {
        "middle_block.0.in_layers.2.weight"
    }
    assert plain.fingerprint != blocked.fingerprint != LoraOverlay(file, 1.0, (("IN01", 0.5),)).fingerprint
    moved = LoraOverlay(LoraFile("moved", "elsewhere", file.digest), 1.0)
    assert moved.fingerprint == plain.fingerprint != LoraOverlay(replace(file, digest="new"), 1.0).fingerprint
    structure, _ = encode(part.overlaid(blocked))
    assert decode(json.loads(json.dumps(structure)), {}, ["nodes"]).overlays == (blocked,)


@pytest.fixture(scope="module")
def peer() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        block_out_channels=(16, 32), layers_per_block=1, cross_attention_dim=12, norm_num_groups=8,
        attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()  # fmt: skip


def test_what_diffusers_saves_gives_what_peft_computes(tmp_path: Path, peer: UNet2DConditionModel) -> None:
    theirs = copy.deepcopy(peer)
    layers = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "conv1", "conv2", "time_emb_proj", "conv_in", "linear_1"]
    theirs.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=layers, init_lora_weights="gaussian"))
    for name, tensor in theirs.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(tensor, std=0.3)
    arch = {"unet": {"norm_groups": 8, "num_heads": 4}}
    save_file(peer.state_dict(), tmp_path / "unet.safetensors", metadata={"arch": json.dumps(arch)})
    part = read_unet(tmp_path / "unet.safetensors", "unet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        StableDiffusionPipeline.save_lora_weights(tmp_path, unet_lora_layers=get_peft_model_state_dict(theirs))
    file = LoraFile("peft", str(tmp_path / "pytorch_lora_weights.safetensors"), "peft")
    names = load_file(file.path)
    assert all(name.startswith("unet.") for name in names)
    (laid,), told = overlaid(file, [(part, 1.0)])
    assert told == "" and len(fit(file, part).changes) == len(names) / 2
    x, t, context = noise(2, 4, 8, 8), torch.tensor([3.0, 700.0]), noise(2, 5, 12)
    with torch.no_grad():
        expected, plain = theirs(x, t, context).sample, peer(x, t, context).sample
        found = laid.load("cpu", torch.float32)(x, t, context)
    assert not torch.allclose(plain, expected, atol=1e-2)
    assert torch.allclose(found, expected, atol=1e-4)


def clip_part(folder: Path, role: Any, family: Any, hidden: int) -> tuple[Part[Any], Tensors]:
    """A text encoder in the layout of transformers, or of open_clip for CLIP-G; and its weights by our names."""
    config = ClipConfig(hidden, 2, hidden // 8, 2 * hidden, projection=hidden if role == "clip_g" else None)
    state = stored = {name: tensor * 5 for name, tensor in state_of(config).items()}
    if role == "clip_g":
        stored = {"positional_embedding": state["text_model.embeddings.position_embedding.weight"],
                  "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
                  "text_projection": state["text_projection.weight"].t().contiguous(),
                  "ln_final.weight": state["text_model.final_layer_norm.weight"],
                  "ln_final.bias": state["text_model.final_layer_norm.bias"]}  # fmt: skip
        for i in range(2):
            ours, theirs = f"text_model.encoder.layers.{i}.", f"transformer.resblocks.{i}."
            for kind in ("weight", "bias"):
                thirds = [state[f"{ours}self_attn.{side}_proj.{kind}"] for side in "qkv"]
                stored[f"{theirs}attn.in_proj_{kind}"] = torch.cat(thirds)
                for name, other in OPEN_CLIP.items():
                    stored[f"{theirs}{other}.{kind}"] = state[f"{ours}{name}.{kind}"]
    path = folder / f"{role}-{family}.safetensors"
    save_file(stored, path, metadata={"arch": json.dumps({role: {"heads": hidden // 8}})})
    return read_clip(path, f"{role} {family}", role, family), state


def text_lora(start: str, hidden: int) -> Tensors:
    layer = f"{start}text_model_encoder_layers_1_self_attn_v_proj"
    return {f"{layer}.lora_up.weight": noise(hidden, 2), f"{layer}.lora_down.weight": noise(2, hidden)}


def test_text_encoders_are_changed_each_by_its_own_layers(tmp_path: Path) -> None:
    small, large = clip_part(tmp_path, "clip_l", "sdxl", 16), clip_part(tmp_path, "clip_g", "sdxl", 24)
    file = saved(tmp_path, text_lora("lora_te1_", 16) | text_lora("lora_te2_", 24))
    laid, told = overlaid(file, [(small[0], 1.0), (large[0], -0.5)])
    assert told == ""
    name = "text_model.encoder.layers.1.self_attn.v_proj.weight"
    for part, (plain, state), strength, hidden in zip(laid, (small, large), (1.0, -0.5), (16, 24), strict=True):
        whole = state[name] + strength * noise(hidden, 2) @ noise(2, hidden)
        module, other = part.load("cpu", torch.float32), plain.load("cpu", torch.float32)
        tokens = torch.tensor([[49406, 5, 80, 700, 49407, 0, 0]])
        with torch.no_grad():
            unchanged = other(tokens)
            other.load_state_dict({**state, name: whole}, assign=True)
            found, expected = module(tokens), other(tokens)
        assert torch.allclose(found.hidden, expected.hidden, atol=1e-4)
        assert torch.allclose(found.pooled, expected.pooled, atol=1e-4)
        assert not torch.allclose(found.hidden, unchanged.hidden, atol=1e-2)


def test_one_text_encoder_takes_the_names_of_sd1(tmp_path: Path) -> None:
    part, state = clip_part(tmp_path, "clip_l", "sd1", 16)
    (laid,), told = overlaid(saved(tmp_path, text_lora("lora_te_", 16)), [(part, 1.0)])
    name = "text_model.encoder.layers.1.self_attn.v_proj.weight"
    with recipe(laid, "cpu") as found:
        assert torch.allclose(found.tensor(name), state[name] + noise(16, 2) @ noise(2, 16), atol=1e-5)
    assert told == ""


def test_the_bias_is_changed_too(tmp_path: Path) -> None:
    part, state = unet_part(tmp_path), state_of(UNET)
    tensors = {"lora_unet_mid_block_resnets_0_conv1.diff_b": noise(32), "lora_unet_conv_norm_out.w_norm": noise(16),
               "lora_unet_conv_norm_out.b_norm": noise(16, seed=1), "diffusion_model.out.2.diff": noise(4, 16, 3, 3),
               "lora_unet_time_embedding_linear_1.set_weight": noise(64, 16)}  # fmt: skip
    (laid,), told = overlaid(saved(tmp_path, tensors), [(part, 0.5)])
    assert told == ""
    expected = {"middle_block.0.in_layers.2.bias": noise(32), "out.0.weight": noise(16),
                "out.0.bias": noise(16, seed=1), "out.2.weight": noise(4, 16, 3, 3)}  # fmt: skip
    whole = {name: state[name] + 0.5 * change for name, change in expected.items()}
    assert torch.allclose(output(laid), output(part, whole | {"time_embed.0.weight": noise(64, 16)}), atol=1e-5)


def test_every_format_is_found_by_the_names_that_lycoris_gives_its_tensors(tmp_path: Path) -> None:
    part, state = unet_part(tmp_path), state_of(UNET)
    start, ours = f"lora_unet_{ATTENTION.removesuffix('attn1_to_q')}", "input_blocks.1.1.transformer_blocks.0."
    a, b, c, d, core = noise(16, 2), noise(2, 16), noise(16, 2, seed=1), noise(2, 16, seed=1), noise(2, 2, 3, 3)
    blocks, butterfly = 0.1 * noise(4, 4, 4), 0.1 * noise(1, 4, 4, 4)
    tensors = {
        "lora_unet_mid_block_resnets_0_conv1.lora_up.weight": noise(32, 2, 1, 1),
        "lora_unet_mid_block_resnets_0_conv1.lora_mid.weight": core,
        "lora_unet_mid_block_resnets_0_conv1.lora_down.weight": noise(2, 32, 1, 1),
        f"{start}attn1_to_q.hada_w1_a": a, f"{start}attn1_to_q.hada_w1_b": b,
        f"{start}attn1_to_q.hada_w2_a": c, f"{start}attn1_to_q.hada_w2_b": d, f"{start}attn1_to_q.alpha": noise()[None],
        f"{start}attn1_to_k.lokr_w1": noise(4, 4), f"{start}attn1_to_k.lokr_w2_a": noise(4, 2),
        f"{start}attn1_to_k.lokr_w2_b": noise(2, 4),
        f"{start}attn1_to_v.a1.weight": a, f"{start}attn1_to_v.a2.weight": b,
        f"{start}attn1_to_v.b1.weight": c, f"{start}attn1_to_v.b2.weight": d,
        f"{start}attn1_to_out_0.oft_blocks": blocks, f"{start}attn2_to_q.oft_blocks": butterfly,
        f"{start}ff_net_2.diff": noise(16, 64),
    }  # fmt: skip
    weights = {layer: state[f"{ours}{layer}.weight"] for layer in
               ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_q", "ff.net.2")}  # fmt: skip
    kernel = torch.einsum("or,rshw,si->oihw", noise(32, 2, 1, 1)[..., 0, 0], core, noise(2, 32, 1, 1)[..., 0, 0])
    turn = torch.block_diag(*map(turned, blocks))
    order = [first + side * 2 + i for first in range(0, 16, 4) for i in (0, 1) for side in (0, 1)]
    rows = torch.empty(16, 16)
    rows[order] = torch.block_diag(*map(turned, butterfly[0])) @ weights["attn2.to_q"][order]
    whole = {
        "attn1.to_q": weights["attn1.to_q"] + noise() / 2 * (a @ b) * (c @ d),
        "attn1.to_k": weights["attn1.to_k"] + torch.kron(noise(4, 4), noise(4, 2) @ noise(2, 4)),
        "attn1.to_v": weights["attn1.to_v"] + weights["attn1.to_v"] @ a @ b + c @ d,
        "attn1.to_out.0": turn.T @ weights["attn1.to_out.0"], "attn2.to_q": rows,
        "ff.net.2": weights["ff.net.2"] + noise(16, 64),
    }  # fmt: skip
    expected = {f"{ours}{layer}.weight": weight for layer, weight in whole.items()}
    conv = "middle_block.0.in_layers.2.weight"
    (laid,), told = overlaid(saved(tmp_path, tensors), [(part, 1.0)])
    assert told == "" and len(fit(laid.overlays[0].file, part).changes) == 7
    assert torch.allclose(output(laid), output(part, expected | {conv: state[conv] + kernel}), atol=1e-4)


def turned(block: Tensor) -> Tensor:
    """Cayley's transform of the skew part of a matrix."""
    one, skew = torch.eye(len(block)), block - block.T
    return (one + skew) @ torch.linalg.inv(one - skew)


def test_tensors_that_match_nothing_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    part = unet_part(tmp_path)
    tensors = unet_lora(state_of(UNET))[0] | {f"lora_unet_nowhere_{n}.lora_up.weight": noise(2, 2) for n in range(4)}
    tensors |= text_lora("lora_te_", 16)
    _, told = overlaid(saved(tmp_path, tensors), [(part, 1.0)])
    first = ", ".join(f"lora_unet_nowhere_{n}.lora_up.weight" for n in range(3))
    assert told == f"4 of 18 tensors of style.safetensors match nothing in this model: {first} and 1 more"


def test_a_layer_of_another_shape_is_left_out_and_named(tmp_path: Path) -> None:
    part, state = unet_part(tmp_path), state_of(UNET)
    tensors, whole = unet_lora(state)
    layer = "lora_unet_mid_block_resnets_0_conv1"
    tensors[f"{layer}.lora_down.weight"] = noise(2, 32, 1, 1)
    (laid,), told = overlaid(saved(tmp_path, tensors), [(part, 1.0)])
    assert told == f"of style.safetensors is left out: {layer} is for 32 x 32, the model's layer is 32 x 288"
    del whole[f"{OURS[layer]}.weight"]
    assert torch.allclose(output(laid), output(part, whole), atol=1e-5)


def test_lengths_of_another_layer_are_left_out_and_those_of_a_convolution_fit_a_linear_layer(tmp_path: Path) -> None:
    part, state = unet_part(tmp_path), state_of(UNET)
    tensors, whole = unet_lora(state)
    layer = f"lora_unet_{ATTENTION}"
    weight, sizes = whole[f"{OURS[layer]}.weight"], noise(1, 16).abs() + 0.5
    scaled = weight * sizes / weight.norm(dim=0, keepdim=True)
    for shape in ((1, 16), (1, 16, 1, 1)):
        file = saved(tmp_path, tensors | {f"{layer}.dora_scale": sizes.reshape(shape)}, f"dora{len(shape)}")
        (laid,), told = overlaid(file, [(part, 1.0)])
        assert told == ""
        assert torch.allclose(output(laid), output(part, whole | {f"{OURS[layer]}.weight": scaled}), atol=1e-4)
    _, told = overlaid(saved(tmp_path, tensors | {f"{layer}.dora_scale": noise(1, 20)}, "odd"), [(part, 1.0)])
    assert told == f"of odd.safetensors is left out: {layer} has lengths of another layer"
    norm = {"up.weight": noise(16, 2), "down.weight": noise(2, 1)}
    norm = {f"lora_unet_conv_norm_out.lora_{name}": tensor for name, tensor in norm.items()}
    norm["lora_unet_conv_norm_out.dora_scale"] = noise(16, 1)
    _, told = overlaid(saved(tmp_path, tensors | norm, "norm"), [(part, 1.0)])
    assert told == "of norm.safetensors is left out: lora_unet_conv_norm_out has lengths of another layer"


def test_a_lora_of_another_model_is_refused(tmp_path: Path) -> None:
    part, other = unet_part(tmp_path), replace(UNET, context_dim=20)
    problem = (r"style.safetensors: is a LoRA for prompts of 20 features, but this model of SD1 with prompts of 12 "
               r"features takes 12; choose one made for it")  # fmt: skip
    with pytest.raises(FileProblem, match=problem):
        overlaid(saved(tmp_path, unet_lora(state_of(other))[0]), [(part, 1.0)])
    wide = {name: tensor for name, tensor in unet_lora(state_of(replace(UNET, model_channels=32)))[0].items()
            if CROSS not in name}  # fmt: skip
    with pytest.raises(FileProblem, match=r"wide.safetensors: is a LoRA of another model: .* is for 32 x 32, the "
                                          r"model's layer is 16 x 16 \(and 2 more\)"):  # fmt: skip
        overlaid(saved(tmp_path, wide, "wide"), [(part, 1.0)])
    nowhere = {"lora_unet_nowhere.lora_up.weight": noise(2, 2), "lora_unet_nowhere.lora_down.weight": noise(2, 2)}
    with pytest.raises(FileProblem, match=r"is a LoRA of an unknown model; nothing in it fits this model of SD1"):
        overlaid(saved(tmp_path, nowhere, "nowhere"), [(part, 1.0)])
    with pytest.raises(FileProblem, match=r"is a LoRA of text encoders alone; load it with LoraLoader"):
        overlaid(saved(tmp_path, text_lora("lora_te_", 16), "text"), [(part, 1.0)])


def test_the_starters_lora_changes_the_starter_through_its_own_names() -> None:
    unet = read_checkpoint(MODELS / "checkpoints" / "starter.safetensors", "starter").unet
    assert unet is not None
    path = MODELS / "loras" / "starter-outlined.safetensors"
    (laid,), told = overlaid(LoraFile(path.name, str(path), "outlined"), [(unet, 0.7)])
    assert told == ""
    tensors = load_file(path)
    layer = "lora_unet_up_blocks_0_attentions_1_proj_out"
    up, down = tensors[f"{layer}.lora_up.weight"].float(), tensors[f"{layer}.lora_down.weight"].float()
    name = "output_blocks.1.1.proj_out.weight"
    with recipe(unet, "cpu") as plain, recipe(laid, "cpu") as found:
        delta = found.tensor(name) - plain.tensor(name)
        changed = [name for name in found.names if found.key(name)]
    assert torch.allclose(delta.flatten(1), 0.7 * (up.flatten(1) @ down.flatten(1)), atol=1e-5)
    assert len(changed) == sum(key.endswith(".alpha") for key in tensors)


def test_a_pickled_lora_is_read_without_running_anything(tmp_path: Path) -> None:
    part = unet_part(tmp_path)
    tensors, whole = unet_lora(state_of(UNET))
    torch.save(tensors, tmp_path / "old.pt")
    (laid,), _ = overlaid(LoraFile("old.pt", str(tmp_path / "old.pt"), "old"), [(part, 1.0)])
    assert torch.allclose(output(laid), output(part, whole), atol=1e-5)
