"""T2I-Adapters of every kind, in files as their tools write them, against those of diffusers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from nodes.diffusion.adapter import Adapter, adapter_control
from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.control_files import AdapterConfig, ControlPart, read_control
from nodes.diffusion.keymap import unet_sources
from nodes.diffusion.unet import UNet

diffusers = pytest.importorskip("diffusers")

CONFIG = UNetConfig(
    in_channels=4, out_channels=4, model_channels=16, channel_mult=(1, 2), num_res_blocks=(2, 2),
    transformer_depth=(1, 0), middle_depth=1, context_dim=12, num_heads=4, head_channels=None, use_linear=False,
    norm_groups=8,
)  # fmt: skip
FULL: dict[str, Any] = {"channels": [16, 32, 64, 64], "num_res_blocks": 2}
KINDS: dict[str, dict[str, Any]] = {
    "full": {**FULL, "adapter_type": "full_adapter"},
    "grey": {**FULL, "in_channels": 1, "adapter_type": "full_adapter"},
    "XL": {**FULL, "downscale_factor": 16, "adapter_type": "full_adapter_xl"},
    "light": {"channels": [16, 32, 64], "num_res_blocks": 4, "adapter_type": "light_adapter"},
}


@torch.no_grad()
def theirs_of(kind: str) -> Any:
    theirs = diffusers.T2IAdapter(**KINDS[kind])
    generator = torch.Generator().manual_seed(1)
    for value in theirs.parameters():
        value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    return theirs.eval()


def original(tensors: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """The names of the original files, which number the blocks of all levels on; light ones have `body` in a level."""
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        name = name.removeprefix("adapter.")
        if place := re.match(r"body\.(\d)\.resnets\.(\d)\.(.*)", name):
            level, block, rest = place.groups()
            name = (
                f"body.{level}.body.{block}.{rest}" if kind == "light" else f"body.{2 * int(level) + int(block)}.{rest}"
            )
        elif kind != "light" and (place := re.match(r"body\.(\d)\.(in_conv.*)", name)):
            name = f"body.{2 * int(place[1])}.{place[2]}"
        found[name] = value
    return found


def written(path: Path, tensors: Mapping[str, Tensor]) -> ControlPart:
    save_file(dict(tensors), path)
    return read_control(path, "digest")


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_diffusers_or_original_names_computes_what_diffusers_computes(kind: str, tmp_path: Path) -> None:
    theirs = theirs_of(kind)
    generator = torch.Generator().manual_seed(2)
    hint = torch.rand(2, KINDS[kind].get("in_channels", 3), 128, 192, generator=generator)
    expected = theirs(hint)
    state = theirs.state_dict()
    for name, tensors in (("diffusers", state), ("original", original(state, kind))):
        found = written(tmp_path / f"{name}.safetensors", tensors)
        assert (found.kind, found.family) == ("adapter", "sdxl" if kind == "XL" else None)
        features = found.load("cpu", torch.float32)(hint)
        assert len(features) == len(expected)
        for got, wanted in zip(features, expected, strict=True):
            torch.testing.assert_close(got, wanted)


@torch.no_grad()
@pytest.mark.parametrize("wrapper", [None, "adapter", "state_dict"])
def test_a_pickle_is_read_as_well(wrapper: str | None, tmp_path: Path) -> None:
    net = Adapter(AdapterConfig((16, 32)))
    state = dict(net.state_dict())
    torch.save(state if wrapper is None else {wrapper: state}, tmp_path / "t2iadapter.pth")
    found = read_control(tmp_path / "t2iadapter.pth", "digest").load("cpu", torch.float32)
    assert all(torch.equal(value, found.state_dict()[name]) for name, value in state.items())


@torch.no_grad()
def test_a_level_may_halve_by_a_convolution(tmp_path: Path) -> None:
    net: Any = Adapter(AdapterConfig((16, 32), is_strided=True)).eval()
    assert "body.2.down_opt.op.weight" in net.state_dict()
    found = written(tmp_path / "strided.safetensors", net.state_dict())
    assert found.config == net.config
    hint = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    first, second = found.load("cpu", torch.float32)(hint)
    state = net.state_dict()
    h = F.conv2d(first, state["body.2.down_opt.op.weight"], state["body.2.down_opt.op.bias"], 2, 1)
    h = net.body[2].in_conv(h)
    h = net.body[3](h + net.body[2].block2(F.relu(net.body[2].block1(h))))
    torch.testing.assert_close(second, h)


@torch.no_grad()
def test_an_odd_size_is_halved_upwards_as_the_unet_does() -> None:
    features = Adapter(AdapterConfig((16, 32)))(torch.rand(1, 3, 40, 56))
    assert [tuple(feature.shape[-2:]) for feature in features] == [(5, 7), (3, 4)]


@torch.no_grad()
def test_an_adapter_adds_to_the_last_residual_block_of_each_level() -> None:
    torch.manual_seed(0)
    features = [torch.randn(1, 16, 8, 8), torch.randn(1, 32, 4, 4)]
    added = adapter_control(features, CONFIG).input
    assert [feature is not None for feature in added] == [False, False, True, False, False, True]
    unet = UNet(CONFIG).eval()
    x, context, t = torch.randn(1, 4, 8, 8), torch.randn(1, 7, 12), torch.tensor([500])
    plain, steered = unet(x, t, context), unet(x, t, context, control=adapter_control(features, CONFIG))
    assert (plain - steered).abs().max() > 0.01


@torch.no_grad()
def test_an_adapter_of_sdxl_steers_a_unet_as_in_diffusers() -> None:
    torch.manual_seed(0)
    theirs = diffusers.UNet2DConditionModel(
        block_out_channels=(16, 32, 64), norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=12, attention_head_dim=4,
    ).eval()  # fmt: skip
    config = UNetConfig(4, 4, 16, (1, 2, 4), (2, 2, 2), (0, 1, 1), 1, 12, 4, None, False, norm_groups=8)
    state = theirs.state_dict()
    ours = UNet(config).eval()
    ours.load_state_dict({name: state[source.name] for name, source in unet_sources(state).items()})
    x, context, t = torch.randn(2, 4, 16, 16), torch.randn(2, 7, 12), torch.tensor([3.0, 871.0])
    features = Adapter(AdapterConfig((16, 32, 64, 64), is_xl=True))(torch.rand(2, 3, 128, 128))
    expected = theirs(
        x, t, context, down_intrablock_additional_residuals=[feature.clone() for feature in features], return_dict=False
    )[0]
    found = ours(x, t, context, control=adapter_control(features, config, is_xl=True))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (found - ours(x, t, context)).abs().max() > 1e-3
