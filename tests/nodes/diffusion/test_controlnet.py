"""ControlNets and adapters against those of diffusers, with the same weights."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.controlnet import Adapter, ControlNet, adapter_control
from nodes.diffusion.keymap import unet_sources
from nodes.diffusion.unet import UNet

diffusers = pytest.importorskip("diffusers")

CONFIG = UNetConfig(
    in_channels=4, out_channels=4, model_channels=16, channel_mult=(1, 2), num_res_blocks=(2, 2),
    transformer_depth=(1, 0), middle_depth=1, context_dim=12, num_heads=4, head_channels=None, use_linear=False,
    norm_groups=8,
)  # fmt: skip


def from_diffusers(theirs: Any) -> ControlNet:
    """Ours, with the weights of a diffusers ControlNet."""
    state = theirs.state_dict()
    weights = {ours: state[source.name] for ours, source in unet_sources(state).items()}
    for name, value in state.items():
        kind = name.split(".")[-1]
        if found := re.match(r"controlnet_down_blocks\.(\d+)\.", name):
            weights[f"zero_convs.{found[1]}.0.{kind}"] = value
        elif name.startswith("controlnet_mid_block."):
            weights[f"middle_block_out.0.{kind}"] = value
        elif name.startswith("controlnet_cond_embedding.conv_in."):
            weights[f"input_hint_block.0.{kind}"] = value
        elif found := re.match(r"controlnet_cond_embedding\.blocks\.(\d+)\.", name):
            weights[f"input_hint_block.{2 * int(found[1]) + 2}.{kind}"] = value
        elif name.startswith("controlnet_cond_embedding.conv_out."):
            weights[f"input_hint_block.14.{kind}"] = value
    ours = ControlNet(CONFIG)
    ours.load_state_dict(weights)
    return ours.eval()


@torch.no_grad()
def test_a_controlnet_computes_what_diffusers_computes() -> None:
    torch.manual_seed(0)
    theirs = diffusers.ControlNetModel(
        block_out_channels=(16, 32), down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), layers_per_block=2,
        cross_attention_dim=12, attention_head_dim=4, norm_num_groups=8,
    ).eval()  # fmt: skip
    for value in theirs.parameters():
        value.copy_(torch.randn_like(value) * 0.1)
    x, context, t = torch.randn(2, 4, 8, 12), torch.randn(2, 7, 12), torch.tensor([3.0, 871.0])
    hint = torch.rand(2, 3, 64, 96)
    down, middle = theirs(x, t, context, controlnet_cond=hint, return_dict=False)
    ours = from_diffusers(theirs)(x, hint, t, context)
    assert ours.middle is not None and len(ours.output) == len(down)
    for expected, found in zip([*down, middle], [*ours.output, ours.middle], strict=True):
        assert found is not None
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@torch.no_grad()
def test_an_untrained_controlnet_changes_nothing() -> None:
    torch.manual_seed(0)
    unet, net = UNet(CONFIG).eval(), ControlNet(CONFIG).eval()
    x, context, t = torch.randn(1, 4, 8, 8), torch.randn(1, 7, 12), torch.tensor([500])
    control = net(x, torch.rand(1, 3, 64, 64), t, context)
    assert torch.equal(unet(x, t, context), unet(x, t, context, control=control))


def theirs_from(ours: Adapter, theirs: Any) -> Any:
    """A diffusers adapter with our weights; it numbers a level's blocks anew and has its widening convolution there."""
    weights: dict[str, Tensor] = {}
    for name, value in ours.state_dict().items():
        found = re.match(r"body\.(\d+)\.(\w+)\.(\w+)", name)
        if found is None:
            weights["adapter." + name] = value
            continue
        level, j = divmod(int(found[1]), ours.blocks)
        place = f"adapter.body.{level}."
        weights[place + (f"in_conv.{found[3]}" if found[2] == "in_conv" else f"resnets.{j}.{found[2]}.{found[3]}")] = (
            value
        )
    theirs.load_state_dict(weights)
    return theirs.eval()


@torch.no_grad()
def test_an_adapter_computes_what_diffusers_computes() -> None:
    torch.manual_seed(0)
    ours = Adapter((16, 32), blocks=2).eval()
    theirs = theirs_from(
        ours, diffusers.T2IAdapter(in_channels=3, channels=[16, 32], num_res_blocks=2, adapter_type="full_adapter")
    )
    hint = torch.rand(2, 3, 64, 96)
    expected, found = theirs(hint), ours(hint)
    assert [tuple(feature.shape) for feature in found] == [(2, 16, 8, 12), (2, 32, 4, 6)]
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b)


@torch.no_grad()
def test_an_adapter_adds_to_the_last_residual_block_of_each_level() -> None:
    torch.manual_seed(0)
    features = [torch.randn(1, 16, 8, 8), torch.randn(1, 32, 4, 4)]
    added = adapter_control(features, CONFIG).input
    assert [feature is not None for feature in added] == [False, False, True, False, False, True, False]
    unet = UNet(CONFIG).eval()
    x, context, t = torch.randn(1, 4, 8, 8), torch.randn(1, 7, 12), torch.tensor([500])
    plain, steered = unet(x, t, context), unet(x, t, context, control=adapter_control(features, CONFIG))
    assert (plain - steered).abs().max() > 0.01
