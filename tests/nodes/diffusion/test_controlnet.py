"""ControlNets as modules; every layout of their files is in test_control_weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.control_files import UnionConfig
from nodes.diffusion.controlnet import ControlNet
from nodes.diffusion.unet import UNet, timestep_embedding

CONFIG = UNetConfig(
    in_channels=4, out_channels=4, model_channels=16, channel_mult=(1, 2), num_res_blocks=(2, 2),
    transformer_depth=(1, 0), middle_depth=1, context_dim=12, num_heads=4, head_channels=None, use_linear=False,
    norm_groups=8,
)  # fmt: skip


@torch.no_grad()
def test_an_untrained_controlnet_changes_nothing() -> None:
    torch.manual_seed(0)
    unet, net = UNet(CONFIG).eval(), ControlNet(CONFIG).eval()
    x, context, t = torch.randn(1, 4, 8, 8), torch.randn(1, 7, 12), torch.tensor([500])
    control = net(x, torch.rand(1, 3, 64, 64), t, context)
    assert torch.equal(unet(x, t, context), unet(x, t, context, control=control))


@torch.no_grad()
def test_a_single_hint_serves_a_whole_batch() -> None:
    torch.manual_seed(0)
    net = ControlNet(CONFIG).eval()
    for value in net.parameters():
        value.copy_(torch.randn_like(value) * 0.1)
    x, context, t = torch.randn(2, 4, 8, 8), torch.randn(2, 7, 12), torch.tensor([500.0, 20.0])
    hint = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(net(x, hint, t, context).middle, net(x, hint.repeat(2, 1, 1, 1), t, context).middle)


@torch.no_grad()
def test_the_kind_of_hint_of_a_union_net_is_told_with_the_timestep() -> None:
    torch.manual_seed(0)
    net = ControlNet(CONFIG, union=UnionConfig(types=3, features=8)).eval()
    marks = torch.zeros(3)
    marks[2] = 1
    embedded = timestep_embedding(marks, 8).reshape(1, 24)
    first, second = net.control_add_embedding.linear_1, net.control_add_embedding.linear_2
    torch.testing.assert_close(net.control_add_embedding(2), second(F.silu(first(embedded))))
    assert not torch.allclose(net.control_add_embedding(None), net.control_add_embedding(2))
