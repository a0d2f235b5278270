"""The UNet against that of diffusers, with the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from nodegraph.errors import FileProblem
from nodes.diffusion.architecture import unet_config, unet_family
from nodes.diffusion.checkpoints import read_checkpoint, read_unet
from nodes.diffusion.keymap import unet_modules, unet_sources
from nodes.diffusion.tweaks import Tweaks
from nodes.diffusion.unet import Control, UNet, timestep_embedding
from nodes.diffusion.weights import build

diffusers = pytest.importorskip("diffusers")

CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
ADDED: dict[str, Any] = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
# diffusers' own configurations of the families, small and full
SMALL: dict[str, dict[str, Any]] = {
    "sd1": {"block_out_channels": (16, 32, 32), "down_block_types": (CROSS, CROSS, PLAIN), "cross_attention_dim": 12,
            "attention_head_dim": 4, "norm_num_groups": 8},
    "sd2": {"block_out_channels": (16, 32), "down_block_types": (CROSS, PLAIN), "cross_attention_dim": 12,
            "attention_head_dim": [2, 4], "norm_num_groups": 8, "use_linear_projection": True},
    "sdxl": {"block_out_channels": (16, 32, 32), "down_block_types": (PLAIN, CROSS, CROSS), "cross_attention_dim": 12,
             "attention_head_dim": [2, 4, 4], "norm_num_groups": 8, "use_linear_projection": True,
             "transformer_layers_per_block": [1, 2, 3], "projection_class_embeddings_input_dim": 10 + 6 * 8, **ADDED},
    "sdxl_refiner": {"block_out_channels": (16, 32, 32, 32), "down_block_types": (PLAIN, CROSS, CROSS, PLAIN),
                     "cross_attention_dim": 12, "attention_head_dim": [2, 4, 4, 4], "norm_num_groups": 8,
                     "use_linear_projection": True, "transformer_layers_per_block": 2,
                     "projection_class_embeddings_input_dim": 10 + 5 * 8, **ADDED},
}  # fmt: skip
FULL: dict[str, dict[str, Any]] = {
    "sd1": {"block_out_channels": (320, 640, 1280, 1280), "down_block_types": (CROSS, CROSS, CROSS, PLAIN),
            "cross_attention_dim": 768, "attention_head_dim": 8},
    "sd2": {"block_out_channels": (320, 640, 1280, 1280), "down_block_types": (CROSS, CROSS, CROSS, PLAIN),
            "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True},
    "sdxl": {"block_out_channels": (320, 640, 1280), "down_block_types": (PLAIN, CROSS, CROSS),
             "cross_attention_dim": 2048,
             "attention_head_dim": [5, 10, 20], "use_linear_projection": True,
             "transformer_layers_per_block": [1, 2, 10],
             "projection_class_embeddings_input_dim": 2816, **ADDED, "addition_time_embed_dim": 256},
    "sdxl_refiner": {"block_out_channels": (384, 768, 1536, 1536), "down_block_types": (PLAIN, CROSS, CROSS, PLAIN),
                     "cross_attention_dim": 1280, "attention_head_dim": [6, 12, 24, 24], "use_linear_projection": True,
                     "transformer_layers_per_block": 4, "projection_class_embeddings_input_dim": 2560, **ADDED,
                     "addition_time_embed_dim": 256},
}  # fmt: skip
UPSCALER: dict[str, Any] = {
    "in_channels": 7, "down_block_types": (PLAIN, CROSS, CROSS, CROSS), "attention_head_dim": 8,
    "use_linear_projection": True, "num_class_embeds": 1000, "only_cross_attention": (True, True, True, False),
}  # fmt: skip
SMALL_UPSCALER = {**UPSCALER, "block_out_channels": (8, 16, 16, 32), "cross_attention_dim": 12, "norm_num_groups": 8}
FULL_UPSCALER = {**UPSCALER, "block_out_channels": (256, 512, 512, 1024), "cross_attention_dim": 1024}


def peer(config: dict[str, Any]) -> Any:
    ups = tuple("CrossAttnUpBlock2D" if name == CROSS else "UpBlock2D" for name in reversed(config["down_block_types"]))
    return diffusers.UNet2DConditionModel(**{"layers_per_block": 2, "up_block_types": ups, **config}).eval()


def save_folder(path: Path, model: Any, config: dict[str, Any]) -> Path:
    (path / "unet").mkdir(parents=True)
    (path / "model_index.json").write_text(json.dumps({"unet": ["diffusers", "UNet2DConditionModel"]}))
    (path / "unet" / "config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), path / "unet" / "diffusion_pytorch_model.safetensors")
    return path


@pytest.mark.parametrize("family", SMALL)
def test_it_computes_what_diffusers_computes(tmp_path: Path, family: str) -> None:
    torch.manual_seed(0)
    theirs = peer(SMALL[family])
    found = read_checkpoint(save_folder(tmp_path / family, theirs, SMALL[family]), "digest")
    assert found.family == family and found.unet is not None
    ours = found.unet.load("cpu", torch.float32)
    x, context, timesteps = torch.randn(2, 4, 8, 12), torch.randn(2, 7, 12), torch.tensor([3.0, 871.0])
    y, added = None, None
    if "xl" in family:
        count = 5 if family == "sdxl_refiner" else 6
        pooled, numbers = torch.randn(2, 10), torch.randint(0, 1024, (2, count)).float()
        y = torch.cat([pooled, timestep_embedding(numbers.flatten(), 8).view(2, -1)], dim=-1)
        added = {"text_embeds": pooled, "time_ids": numbers}
    with torch.no_grad():
        expected = theirs(x, timesteps, context, added_cond_kwargs=added).sample
        result = ours(x, timesteps, context, y)
    assert (result - expected).norm() / expected.norm() < 1e-5


@pytest.mark.parametrize("family", FULL)
def test_full_size_models_have_the_tensors_of_diffusers(family: str) -> None:
    with torch.device("meta"):
        theirs = {name: tuple(tensor.shape) for name, tensor in peer(FULL[family]).state_dict().items()}
    shapes = {ours: theirs[source.name] for ours, source in unet_sources(theirs).items()}
    assert len(shapes) == len(theirs)
    assert unet_family(shapes) == family
    config = unet_config(shapes, unet_family(shapes), {}, "synthetic")
    with torch.device("meta"):
        ours = {name: tuple(tensor.shape) for name, tensor in build(config).state_dict().items()}
    assert ours == shapes


def test_the_x4_upscaler_computes_what_diffusers_computes(tmp_path: Path) -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    torch.manual_seed(0)
    theirs = peer(SMALL_UPSCALER)
    found = read_checkpoint(save_folder(tmp_path / "folder", theirs, SMALL_UPSCALER), "digest")
    assert found.family == "sd2" and found.unet is not None and found.unet.config.prediction == "v"
    ours = found.unet.load("cpu", torch.float32)
    x, context, timesteps = torch.randn(2, 7, 8, 12), torch.randn(2, 5, 12), torch.tensor([3.0, 871.0])
    levels = torch.tensor([20, 350])
    same = Tweaks(contexts=(lambda keys, values: (keys, values),))
    with torch.no_grad():
        expected = theirs(x, timesteps, context, class_labels=levels).sample
        result = ours(x, timesteps, context, levels)
        tweaked = ours(x, timesteps, context, levels, tweaks=same)
    assert (result - expected).norm() / expected.norm() < 1e-5
    torch.testing.assert_close(tweaked, result)
    # as original files have it, which diffusers reads as its own
    original = {f"model.diffusion_model.{name}": tensor for name, tensor in ours.state_dict().items()}
    theirs.load_state_dict(convert_ldm_unet_checkpoint(dict(original), theirs.config))
    arch = {"arch": json.dumps({"unet": {"norm_groups": 8}})}
    save_file(original, tmp_path / "original.safetensors", arch)
    again = read_unet(tmp_path / "original.safetensors", "digest")
    assert again.config == found.unet.config
    with torch.no_grad():
        assert torch.equal(again.load("cpu", torch.float32)(x, timesteps, context, levels), result)
        torch.testing.assert_close(theirs(x, timesteps, context, class_labels=levels).sample, expected)


def test_the_full_x4_upscaler_is_recognised() -> None:
    with torch.device("meta"):
        theirs = {name: tuple(tensor.shape) for name, tensor in peer(FULL_UPSCALER).state_dict().items()}
    shapes = {ours: theirs[source.name] for ours, source in unet_sources(theirs).items()}
    config = unet_config(shapes, unet_family(shapes), {}, "synthetic")
    with torch.device("meta"):
        assert {name: tuple(tensor.shape) for name, tensor in build(config).state_dict().items()} == shapes
    assert config.num_heads == 8 and config.num_classes == 1000 and config.further_channels == 3
    assert config.is_cross_only == (False, True, True, False)
    assert config.latent_scale == 0.08333 and config.prediction == "v" and config.betas == (0.0001, 0.02)


@pytest.mark.parametrize("family", FULL)
@pytest.mark.parametrize("channels", [8, 9])
def test_every_family_may_be_told_of_a_picture(family: str, channels: int) -> None:
    with torch.device("meta"):
        theirs = peer({**SMALL[family], "in_channels": channels}).state_dict()
    shapes = {ours: tuple(theirs[source.name].shape) for ours, source in unet_sources(theirs).items()}
    config = unet_config(shapes, unet_family(shapes), {"num_heads": 4, "norm_groups": 8}, "told")
    assert unet_family(shapes) == family
    assert config.further_channels == channels - 4 and config.is_cross_only == ()


@pytest.mark.parametrize("channels", [5, 12])
def test_other_further_channels_are_refused(channels: int) -> None:
    theirs = peer({**SMALL["sd1"], "in_channels": channels}).state_dict()
    shapes = {ours: tuple(theirs[source.name].shape) for ours, source in unet_sources(theirs).items()}
    with pytest.raises(FileProblem, match=f"depth: its UNet takes {channels} channels, which is not supported"):
        unet_config(shapes, "sd1", {"num_heads": 4, "norm_groups": 8}, "depth")


def small_unet() -> tuple[UNet, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    theirs = peer(SMALL["sd1"]).state_dict()
    shapes = {ours: tuple(theirs[source.name].shape) for ours, source in unet_sources(theirs).items()}
    unet = UNet(unet_config(shapes, "sd1", {"num_heads": 4, "norm_groups": 8}, "small")).eval().requires_grad_(False)
    return unet, torch.randn(1, 4, 9, 13), torch.tensor([500.0]), torch.randn(1, 7, 12)


def test_odd_sizes_keep_their_shape() -> None:
    unet, x, timesteps, context = small_unet()
    assert unet(x, timesteps, context).shape == x.shape


def test_an_item_of_a_batch_is_what_it_is_alone() -> None:
    unet, x, timesteps, context = small_unet()
    both = unet(torch.cat([x, 2 * x]), torch.tensor([500.0, 20.0]), torch.cat([context, -context]))
    torch.testing.assert_close(both[:1], unet(x, timesteps, context), rtol=1e-4, atol=1e-5)


def test_the_input_is_not_changed_and_its_dtype_comes_back() -> None:
    unet, x, timesteps, context = small_unet()
    before = x.clone()
    assert unet.to(torch.bfloat16)(x, timesteps, context).dtype == torch.float32
    assert torch.equal(x, before)


def test_zero_control_changes_nothing_and_each_residual_counts() -> None:
    unet, x, timesteps, context = small_unet()
    plain = unet(x, timesteps, context)
    shapes: list[Tensor] = []
    hooks = [
        block.register_forward_hook(lambda _m, _a, out: shapes.append(torch.zeros_like(out)))
        for block in unet.input_blocks
    ]
    unet(x, timesteps, context)
    for hook in hooks:
        hook.remove()
    zeros = tuple(shapes)
    assert torch.equal(unet(x, timesteps, context, control=Control(zeros, zeros[-1], zeros)), plain)
    for i, zero in enumerate(zeros):
        only = tuple(zero + 1 if j == i else None for j in range(len(zeros)))
        assert not torch.equal(unet(x, timesteps, context, control=Control(output=only)), plain)
        assert not torch.equal(unet(x, timesteps, context, control=Control(input=only)), plain)
    assert not torch.equal(unet(x, timesteps, context, control=Control(middle=zeros[-1] + 1)), plain)


def test_a_residual_that_does_not_fit_what_a_patch_shrank_is_left_out() -> None:
    unet, x, timesteps, context = small_unet()
    shrunk = Tweaks(
        skipped=(lambda h, i, _: F.avg_pool2d(h, 2) if i == 0 else h,),
        outputs=(lambda h, skip: (F.interpolate(h, size=skip.shape[-2:]), skip),),
    )
    plain = unet(x, timesteps, context, tweaks=shrunk)
    first = torch.ones(1, 1, *x.shape[-2:])
    for control in (Control(output=(None, first)), Control(input=(None, first)), Control(middle=first)):
        assert torch.equal(unet(x, timesteps, context, control=control, tweaks=shrunk), plain)
    fits = torch.ones(1, 1, *(side // 2 for side in x.shape[-2:]))
    changed = unet(x, timesteps, context, control=Control(output=(None, fits)), tweaks=shrunk)
    assert not torch.equal(changed, plain)


def test_a_missing_vector_is_named() -> None:
    theirs = peer(SMALL["sdxl"]).state_dict()
    shapes = {ours: tuple(theirs[source.name].shape) for ours, source in unet_sources(theirs).items()}
    unet = UNet(unet_config(shapes, "sdxl", {"num_head_channels": 8, "norm_groups": 8}, "small"))
    with pytest.raises(ValueError, match="vector conditioning y of width 58"):
        unet(torch.zeros(1, 4, 8, 8), torch.zeros(1), torch.zeros(1, 7, 12))


def test_every_layer_of_its_blocks_has_diffusers_name() -> None:
    """The names by which LoRA files know them."""
    for settings in SMALL.values():
        theirs = peer(settings)
        state = theirs.state_dict()
        shapes = {ours: tuple(state[source.name].shape) for ours, source in unet_sources(state).items()}
        config = unet_config(shapes, unet_family(shapes), {"num_heads": 4, "norm_groups": 8}, "peer")
        layers = {name: module for name, module in UNet(config).named_modules()
                  if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))}  # fmt: skip
        names = unet_modules(config, layers)
        wanted = {name: tuple(module.weight.shape) for name, module in theirs.named_modules()
                  if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)) and "block" in name}  # fmt: skip
        assert {theirs: tuple(layers[ours].weight.shape) for ours, theirs in names.items()} == wanted
