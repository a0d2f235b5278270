"""Every layout of ControlNet files: written as their tools write them, loaded, and compared with an independent net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nodegraph.errors import FileProblem
from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.checkpoints import Part, read_unet
from nodes.diffusion.control_files import DIFFERENCE_MARK, LORA_MARK, ControlPart, our_names, read_control
from nodes.diffusion.controlnet import ControlNet
from nodes.diffusion.headers import read_header
from nodes.diffusion.unet import Control, UNet, timestep_embedding

diffusers = pytest.importorskip("diffusers")

CONFIG = UNetConfig(
    in_channels=4, out_channels=4, model_channels=32, channel_mult=(1, 2), num_res_blocks=(2, 2),
    transformer_depth=(1, 0), middle_depth=1, context_dim=12, num_heads=8, head_channels=None, use_linear=False,
)  # fmt: skip
HINT_WIDTHS = (8, 8, 16, 16, 8, 8, 16)
CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
SD1: dict[str, Any] = {
    "block_out_channels": (32, 64), "down_block_types": (CROSS, PLAIN), "layers_per_block": 2,
    "cross_attention_dim": 12, "attention_head_dim": 8, "conditioning_embedding_out_channels": (8, 16, 8, 16),
}  # fmt: skip
SD2: dict[str, Any] = {
    **SD1, "block_out_channels": (64, 128), "attention_head_dim": (1, 2), "use_linear_projection": True,
}  # fmt: skip
XL: dict[str, Any] = {
    **SD2, "down_block_types": (PLAIN, CROSS), "transformer_layers_per_block": (1, 2),
    "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 + 6 * 8,
}  # fmt: skip
XL_SMALL = {**XL, "down_block_types": (PLAIN, PLAIN), "mid_block_type": "UNetMidBlock2D"}
DRAWN = torch.Generator().manual_seed(0)
X, CONTEXT, T = torch.randn(2, 4, 6, 10, generator=DRAWN), torch.randn(2, 7, 12, generator=DRAWN), [3.0, 871.0]
HINT, POOLED = torch.rand(2, 3, 48, 80, generator=DRAWN), torch.randn(2, 6, generator=DRAWN)
SIZES = torch.tensor([[128.0, 96, 0, 0, 512, 512]] * 2)


@torch.no_grad()
def randomised(net: Any) -> Any:
    generator = torch.Generator().manual_seed(1)
    for value in net.parameters():
        value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    return net.eval()


def written(path: Path, tensors: Mapping[str, Tensor]) -> ControlPart:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return read_control(path, "digest")


def original(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by the names of the original files."""
    names = our_names(read_header(path).tensors)
    return {names[name]: tensor for name, tensor in load_file(path).items()}


def assert_same(found: Control, expected: tuple[Any, Tensor]) -> None:
    down, middle = expected
    assert found.middle is not None and len(found.output) == len(down)
    for wanted, got in zip([*down, middle], [*found.output, found.middle], strict=True):
        assert got is not None
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4 * wanted.abs().max().item())


@torch.no_grad()
@pytest.mark.parametrize(
    ("options", "family"), [(SD1, "sd1"), (SD2, "sd2"), (XL, "sdxl"), (XL_SMALL, "sdxl")],
    ids=["sd1", "sd2", "sdxl", "sdxl without transformers"],
)  # fmt: skip
def test_a_diffusers_file_computes_what_diffusers_computes(
    options: dict[str, Any], family: str, tmp_path: Path
) -> None:
    theirs = randomised(diffusers.ControlNetModel(**options))
    found = written(tmp_path / "diffusers.safetensors", theirs.state_dict())
    assert (found.kind, found.family) == ("controlnet", family)
    told: dict[str, Any] = {"added_cond_kwargs": {"text_embeds": POOLED, "time_ids": SIZES}} if family == "sdxl" else {}
    expected = theirs(X, torch.tensor(T), CONTEXT, controlnet_cond=HINT, return_dict=False, **told)
    y = torch.cat([POOLED, timestep_embedding(SIZES.flatten(), 8).reshape(2, -1)], 1) if told else None
    assert_same(found.load("cpu", torch.float32)(X, HINT, torch.tensor(T), CONTEXT, y), expected)


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["control_model.", ""])
def test_a_file_of_original_names_computes_the_same(prefix: str, tmp_path: Path) -> None:
    theirs = randomised(diffusers.ControlNetModel(**SD1))
    written(tmp_path / "diffusers.safetensors", theirs.state_dict())
    tensors = {prefix + name: tensor for name, tensor in original(tmp_path / "diffusers.safetensors").items()}
    assert prefix + "input_hint_block.14.weight" in tensors and prefix + "zero_convs.5.0.bias" in tensors
    net = written(tmp_path / "original.safetensors", tensors).load("cpu", torch.float32)
    expected = theirs(X, torch.tensor(T), CONTEXT, controlnet_cond=HINT, return_dict=False)
    assert_same(net(X, HINT, torch.tensor(T), CONTEXT), expected)


class FirstOnly(nn.Module):
    """A layer that only sees the first of its tokens: ComfyUI leaves the features of the latents out."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.layer(x[:, :1].transpose(0, 1)).transpose(0, 1), x[:, 1:]], 1)


@torch.no_grad()
def test_a_union_file_computes_what_diffusers_computes_for_the_kind_chosen(tmp_path: Path) -> None:
    options = {**XL, "num_control_type": 8, "num_trans_channel": 64, "num_proj_channel": 64}
    theirs = randomised(diffusers.ControlNetUnionModel(**options))
    found = written(tmp_path / "union.safetensors", theirs.state_dict())
    theirs.transformer_layes = nn.ModuleList([FirstOnly(layer) for layer in theirs.transformer_layes])
    told = {"text_embeds": POOLED, "time_ids": SIZES}
    marks = torch.zeros(2, 8)
    marks[:, 3] = 1
    expected = theirs(
        X, torch.tensor(T), CONTEXT, controlnet_cond=[HINT], control_type=marks, control_type_idx=[3],
        added_cond_kwargs=told, return_dict=False,
    )  # fmt: skip
    y = torch.cat([POOLED, timestep_embedding(SIZES.flatten(), 8).reshape(2, -1)], 1)
    net = found.load("cpu", torch.float32)
    assert_same(net(X, HINT, torch.tensor(T), CONTEXT, y, 3), expected)
    untold, other = (net(X, HINT, torch.tensor(T), CONTEXT, y, kind).middle for kind in (None, 7))
    assert untold is not None and other is not None
    assert not torch.allclose(untold, expected[1]) and not torch.allclose(other, expected[1])


def unet_file(path: Path, config: UNetConfig = CONFIG) -> Part[UNetConfig]:
    unet = randomised(UNet(config))
    save_file(unet.state_dict(), path)
    return read_unet(path, path.name)


@torch.no_grad()
def test_a_file_of_differences_is_added_to_the_weights_of_its_model(tmp_path: Path) -> None:
    part = unet_file(tmp_path / "unet.safetensors")
    dense = randomised(ControlNet(CONFIG, hint_widths=HINT_WIDTHS))
    own = load_file(tmp_path / "unet.safetensors")
    stored = {"control_model." + name: tensor - own.get(name, torch.zeros(())) + 0 * tensor
              for name, tensor in dense.state_dict().items()}  # fmt: skip
    found = written(tmp_path / "diff.safetensors", {**stored, DIFFERENCE_MARK: torch.zeros(1)})
    assert found.kind == "difference"
    with pytest.raises(FileProblem, match=r"diff.safetensors: holds differences .* load it with DiffControlNetLoader"):
        found.load("cpu", torch.float32)
    net = replace(found, unet=part).load("cpu", torch.float32).state_dict()
    for name, value in dense.state_dict().items():
        torch.testing.assert_close(net[name], value)


def control_lora(dense: ControlNet, rank: int = 3) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of a control-LoRA, as Stability's have them, and the changes its products make."""
    generator = torch.Generator().manual_seed(2)
    stored: dict[str, Tensor] = {LORA_MARK: torch.tensor([])}
    changes: dict[str, Tensor] = {}
    for name, value in dense.state_dict().items():
        is_own = name.startswith(("input_hint_block", "zero_convs", "middle_block_out"))
        if is_own or not name.endswith("weight") or value.ndim < 2:
            stored[name] = value
            continue
        module = name.removesuffix("weight")
        up = torch.randn(len(value), rank, generator=generator)
        down = torch.randn(rank, *value.shape[1:], generator=generator)
        stored |= {module + "up": up, module + "down": down}
        changes[name] = torch.einsum("or,r...->o...", up, down)
    return stored, changes


@torch.no_grad()
@pytest.mark.parametrize("channels", [4, 9], ids=["plain", "of an inpainting model"])
def test_a_control_lora_is_the_dense_net_of_the_unets_weights_and_its_products(channels: int, tmp_path: Path) -> None:
    part = unet_file(tmp_path / "unet.safetensors", replace(CONFIG, in_channels=channels))
    own = load_file(tmp_path / "unet.safetensors")
    dense = randomised(ControlNet(CONFIG, hint_widths=HINT_WIDTHS))
    stored, changes = control_lora(dense)
    found = written(tmp_path / "lora.safetensors", stored)
    assert (found.kind, found.family, found.width) == ("control_lora", "sd1", 12)
    dense.load_state_dict({
        **dense.state_dict(),
        **{name: own[name][:, : change.shape[1]] + change for name, change in changes.items()},
    })  # fmt: skip
    net = found.over(part).load("cpu", torch.float32)
    given = X, HINT, torch.tensor(T), CONTEXT
    expected = dense(*given)
    assert_same(net(*given), (expected.output, expected.middle))
    with pytest.raises(FileProblem, match="holds changes of a model's weights"):
        found.load("cpu", torch.float32)


def test_a_control_lora_over_a_unet_of_other_shapes_is_told(tmp_path: Path) -> None:
    part = unet_file(tmp_path / "unet.safetensors", replace(CONFIG, model_channels=64))
    stored, _ = control_lora(randomised(ControlNet(CONFIG, hint_widths=HINT_WIDTHS)))
    found = written(tmp_path / "lora.safetensors", stored).over(part)
    with pytest.raises(
        FileProblem, match=r"lora.safetensors: lacks .* over the UNet of unet.safetensors.*another model"
    ):
        found.load("cpu", torch.float32)
