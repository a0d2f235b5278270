"""What ControlNets do in a run: hints, steps, strengths, masks, chains, sides."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nodes.diffusion.adapter import Adapter
from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.checkpoints import Part
from nodes.diffusion.control_files import AdapterConfig, ControlNetConfig, ControlPart
from nodes.diffusion.controls import Controls, spread, steered
from nodes.diffusion.parametrisation import trained
from nodes.diffusion.sampling import sample
from nodes.diffusion.unet import Control
from nodes.types import (
    Cond,
    ControlNetValue,
    ControlUse,
    GuiderValue,
    LatentValue,
    ModelValue,
    NoiseValue,
    SamplerValue,
)

CONFIG = UNetConfig(
    in_channels=4, out_channels=4, model_channels=32, channel_mult=(1, 2), num_res_blocks=(1, 1),
    transformer_depth=(1, 0), middle_depth=1, context_dim=12, num_heads=8, head_channels=None, use_linear=False,
)  # fmt: skip
UNET: Any = Part("model.safetensors", "unet", "unet", "sd1", CONFIG)
NET = ControlPart("net.safetensors", "net", "controlnet", "sd1", ControlNetConfig(CONFIG, 3, (8,)), width=12)
ADAPTER = ControlPart("adapter.safetensors", "adapter", "adapter", None, AdapterConfig((32, 64)))
READ = trained(CONFIG)
CONTEXT = torch.zeros(2, 7, 12)
HINT = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))


class Echo(nn.Module):
    """A ControlNet that says what it was given: the hint's mean, the scaled latents, the timestep, the kind."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[dict[str, Any]] = []

    def forward(
        self, x: Tensor, hint: Tensor, t: Tensor, context: Tensor, y: Tensor | None, kind: int | None
    ) -> Control:
        self.calls.append({"x": x, "hint": hint, "t": t, "y": y, "kind": kind})
        cell = hint.mean((1, 2, 3), keepdim=True) * torch.ones_like(x)
        return Control(output=(cell, None), middle=cell[..., ::2, ::2] * 2)


def controls(net: nn.Module | None = None) -> tuple[Controls, Any]:
    echo = net or Echo()
    return Controls(lambda _: echo, UNET, READ), echo


def use(part: ControlPart = NET, hint: Tensor = HINT, **options: Any) -> ControlUse:
    return ControlUse(ControlNetValue(part), hint, **options)


def said(uses: list[ControlUse], sigma: float = 3.0, net: nn.Module | None = None, size: int = 8) -> Control | None:
    found, _ = controls(net)
    return found.control(uses, torch.zeros(2, 4, size, size), torch.tensor(sigma), CONTEXT, None, 2)


def test_the_net_sees_what_the_unet_sees_and_a_hint_of_its_size() -> None:
    found, echo = controls()
    x, sigma = torch.randn(2, 4, 8, 6, generator=torch.Generator().manual_seed(1)), torch.tensor(3.0)
    found.control([use(hint=torch.rand(1, 100, 50, 4))], x, sigma, CONTEXT, None, 1)
    (call,) = echo.calls
    torch.testing.assert_close(call["x"], x / (1 + 3.0**2) ** 0.5)
    assert call["hint"].shape == (1, 3, 64, 48) and call["t"].tolist() == [float(READ.timestep(sigma))] * 2


def test_a_hint_is_cut_in_the_middle_and_its_pixels_repeated() -> None:
    found, echo = controls()
    hint = torch.zeros(1, 4, 12, 3)
    hint[:, :, 4:8] = torch.arange(4.0)[None, None, :, None]  # the middle third is what a square keeps
    found.control([use(hint=hint)], torch.zeros(1, 4, 1, 1), torch.tensor(3.0), CONTEXT, None)
    assert echo.calls[0]["hint"][0, 0, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_hint_reaches_the_net_the_same_however_it_lies_in_memory() -> None:
    found, echo = controls()
    uses = [use(hint=HINT), use(hint=HINT.movedim(-1, 1).contiguous().movedim(1, -1))]
    found.control(uses, torch.zeros(1, 4, 8, 8), torch.tensor(3.0), CONTEXT, None)
    one, other = (call["hint"] for call in echo.calls)
    assert torch.equal(one, other) and one.stride() == other.stride()


def test_a_grey_hint_is_repeated_and_a_net_of_one_channel_sees_grey() -> None:
    found, echo = controls()
    grey = replace(NET, config=replace(NET.config, hint_channels=1), digest="grey")
    found.control([use(hint=HINT[..., :1]), use(grey)], torch.zeros(1, 4, 8, 8), torch.tensor(3.0), CONTEXT, None)
    assert [call["hint"].shape[1] for call in echo.calls] == [3, 1]
    torch.testing.assert_close(echo.calls[1]["hint"][0, 0], HINT[0].mean(-1))


@pytest.mark.parametrize(
    ("count", "batch", "prompts", "expected"),
    [
        (1, 4, 2, [0]),
        (2, 4, 2, [0, 1, 0, 1]),
        (3, 4, 2, [0, 1, 0, 1]),
        (2, 6, 2, [0, 1, 0, 0, 1, 0]),
        (5, 2, 1, [0, 1]),
    ],
)
def test_hint_k_goes_with_latent_k_of_each_prompt(count: int, batch: int, prompts: int, expected: list[int]) -> None:
    items = torch.arange(float(count)).reshape(-1, 1, 1, 1)
    assert spread(items, batch, prompts).flatten().tolist() == expected


def test_strength_and_steps() -> None:
    whole, half = said([use()]), said([use(strength=0.5)])
    assert whole is not None and half is not None
    assert whole.middle is not None and half.middle is not None
    torch.testing.assert_close(half.middle, whole.middle * 0.5)
    late = use(start_percent=0.5, end_percent=0.8)
    first, last = READ.sigma_at(0.5), READ.sigma_at(0.8)
    assert said([late], first * 1.01) is None and said([late], last * 0.99) is None
    assert said([late], first * 0.99) is not None and said([late], last * 1.01) is not None


def test_a_mask_weighs_each_residual_at_its_size() -> None:
    mask = torch.zeros(1, 32, 32)
    mask[:, :, 16:] = 1
    plain, masked = said([use()]), said([use(mask=mask)])
    assert plain is not None and masked is not None
    for a, b in zip((plain.output[0], plain.middle), (masked.output[0], masked.middle), strict=True):
        assert a is not None and b is not None
        middle = a.shape[-1] // 2
        assert torch.equal(b[..., :middle], torch.zeros_like(b[..., :middle])) and torch.equal(
            b[..., middle:], a[..., middle:]
        )
    assert masked.output[1] is None


def test_a_net_for_shuffling_adds_its_mean() -> None:
    pooled = replace(NET, is_pooled=True)

    class Ramp(nn.Module):
        def forward(self, x: Tensor, *_: object) -> Control:
            return Control(middle=torch.arange(16.0).reshape(1, 1, 4, 4).expand(len(x), 1, 4, 4))

    found = said([use(pooled, strength=2.0)], net=Ramp())
    assert found is not None and found.middle is not None
    assert torch.equal(found.middle, torch.full((2, 1, 4, 4), 15.0))


def test_a_chain_is_the_sum_of_what_applies() -> None:
    single, chain = said([use()]), said([use(), use(strength=0.5), use(end_percent=0.01)])
    assert single is not None and chain is not None and single.middle is not None and chain.middle is not None
    torch.testing.assert_close(chain.middle, single.middle * 1.5)
    assert chain.output[1] is None


@torch.no_grad()
def test_an_adapter_beside_a_net_is_asked_once_for_all_steps() -> None:
    torch.manual_seed(0)
    adapter, echo, asked = Adapter(AdapterConfig((32, 64))).eval(), Echo(), []
    adapter.register_forward_hook(lambda *_: asked.append(1))
    found = Controls(lambda part: adapter if part.kind == "adapter" else echo, UNET, READ)
    uses = [use(ADAPTER, strength=0.5), use()]
    for sigma in (9.0, 3.0, 0.5):
        control = found.control(uses, torch.zeros(2, 4, 8, 8), torch.tensor(sigma), CONTEXT, None, 2)
        assert control is not None and control.middle is not None and control.output[0] is not None
        expected = adapter.forward(HINT.movedim(-1, 1))
        for place, feature in zip((1, 3), expected, strict=True):
            added = control.input[place]
            assert added is not None
            torch.testing.assert_close(added, feature * 0.5)
    assert len(asked) == 1 and len(echo.calls) == 3


def test_a_control_lora_is_lent_over_the_model_that_is_sampled() -> None:
    lora = replace(NET, kind="control_lora", config=ControlNetConfig(None, 3, (8,)))
    lent: list[ControlPart] = []
    found = Controls(lambda part: lent.append(part) or Echo(), UNET, READ)
    for _ in range(2):
        found.control([use(lora)], torch.zeros(1, 4, 8, 8), torch.tensor(3.0), CONTEXT, None)
    (part,) = lent
    assert part.unet is UNET and isinstance(part.config, ControlNetConfig) and part.config.unet == CONFIG
    assert part.fingerprint != lora.over(replace(UNET, digest="another")).fingerprint


def cond(*uses: ControlUse, is_old: bool = False, **options: Any) -> Cond:
    more = {"control": uses, "control_apply_to_uncond": is_old} if uses else {}
    return Cond(torch.zeros(1, 77, 12), None, {**options, **more})


def uses_of(conds: list[Cond]) -> list[tuple[ControlUse, ...]]:
    return [found.options.get("control", ()) for found in conds]


def test_the_old_node_steers_the_negative_side_too() -> None:
    first, second = use(), use(strength=0.5)
    sides = {"positive": [cond(first, is_old=True), cond(second, is_old=True)], "negative": [cond(), cond()]}
    assert uses_of(steered(sides, UNET)["negative"]) == [(first,), (second,)]
    assert uses_of(steered({**sides, "negative": [cond()]}, UNET)["negative"]) == [(second,)]  # the last one counts
    assert "control" not in sides["negative"][0].options


def test_the_negative_side_keeps_its_own_and_areas_stay_free() -> None:
    first, second = use(), use(strength=0.5)
    old = [cond(first, is_old=True)]
    assert uses_of(steered({"positive": old, "negative": [cond(second), cond()]}, UNET)["negative"]) == [(second,), ()]
    in_area = [cond(area=(2, 2, 0, 0)), cond()]
    assert uses_of(steered({"positive": old, "negative": in_area}, UNET)["negative"]) == [(), (first,)]
    assert uses_of(steered({"positive": [cond(first)], "negative": [cond()]}, UNET)["negative"]) == [()]


def test_equal_uses_become_one_so_that_sides_share_forwards() -> None:
    first, same = use(), use(hint=HINT.clone())
    other = use(hint=HINT + 0.1)
    sides = steered({"positive": [cond(first)], "negative": [cond(same), cond(other)]}, UNET)
    assert sides["negative"][0].options["control"][0] is first and sides["negative"][1].options["control"][0] is other


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (
            replace(NET, width=768),
            "net.safetensors is made for SD1, and the model model.safetensors is SD1 with prompts",
        ),
        (replace(ADAPTER, config=AdapterConfig((320, 640, 1280, 1280))), "is made for another kind of model"),
        (replace(ADAPTER, family="sdxl", config=AdapterConfig((32, 64), is_xl=True)), "is made for SDXL"),
    ],
)
def test_a_net_for_another_kind_of_model_is_told(part: ControlPart, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        steered({"positive": [cond(use(part))]}, UNET)


class Toy(nn.Module):
    """A UNet that returns what is added to its skip connections, or nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[tuple[int, ...], bool]] = []

    def forward(
        self, x: Tensor, t: Tensor, context: Tensor, y: Tensor | None, control: Control | None, tweaks: object
    ) -> Tensor:
        self.sizes.append((tuple(x.shape), control is not None))
        added = None if control is None else control.output[0]
        return x * 0 if added is None else added


class Silent:
    def check(self) -> None:
        """Nobody interrupts."""

    def step(self, i: int, n: int, x0: Tensor) -> None:
        """Nobody looks."""


def test_an_area_is_steered_on_both_sides_in_one_forward_and_nothing_else_is() -> None:
    net, toy = Echo(), Toy()
    sides = {"positive": (cond(use(), area=(4, 6, 0, 2)), cond()), "negative": (cond(),)}
    sample(
        lambda part: nullcontext(toy if part.role == "unet" else net),
        GuiderValue(ModelValue(UNET), "cfg", sides, (3.0,)), LatentValue(torch.zeros(1, 4, 8, 8)),
        noise=NoiseValue(0), sampler=SamplerValue("euler"), sigmas=torch.tensor([5.0, 2.0, 0.0]), progress=Silent(),
    )  # fmt: skip
    assert sorted(set(toy.sizes)) == [((2, 4, 4, 6), True), ((2, 4, 8, 8), False)]
    assert [(tuple(call["x"].shape), tuple(call["hint"].shape)) for call in net.calls] == [
        ((2, 4, 4, 6), (1, 3, 32, 48))
    ] * 2


@torch.no_grad()
def test_the_old_node_steers_the_forward_of_both_sides() -> None:
    net, toy = Echo(), Toy()
    sides = {"positive": (cond(use(), is_old=True),), "negative": (cond(),)}
    sample(
        lambda part: nullcontext(toy if part.role == "unet" else net),
        GuiderValue(ModelValue(UNET), "cfg", sides, (3.0,)), LatentValue(torch.zeros(3, 4, 8, 8)),
        noise=NoiseValue(0), sampler=SamplerValue("euler"), sigmas=torch.tensor([5.0, 0.0]), progress=Silent(),
    )  # fmt: skip
    assert toy.sizes == [((6, 4, 8, 8), True)]
