"""Where the UNet lets itself be changed, and that it is as before where nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.conds import Prompt
from nodes.diffusion.denoiser import Told
from nodes.diffusion.guidance import Guidance
from nodes.diffusion.patches import Hooks
from nodes.diffusion.tweaks import NO_TWEAKS, Site, Tweaked, Tweaks, Undo
from nodes.diffusion.unet import Attention, UNet, split_heads

CONFIG = UNetConfig(
    in_channels=4, out_channels=4, model_channels=16, channel_mult=(1, 2), num_res_blocks=(1, 1),
    transformer_depth=(1, 1), middle_depth=1, context_dim=8, num_heads=4, head_channels=None, use_linear=False,
    norm_groups=8,
)  # fmt: skip
X = torch.randn((2, 4, 6, 8), generator=torch.Generator().manual_seed(1))
CONTEXT = torch.randn((2, 7, 8), generator=torch.Generator().manual_seed(2))


def unet() -> UNet:
    torch.manual_seed(0)
    return UNet(CONFIG).eval().requires_grad_(False)


UNET = unet()


def run(tweaks: Tweaks = NO_TWEAKS) -> Tensor:
    return UNET(X, torch.tensor([500.0, 20.0]), CONTEXT, tweaks=tweaks)


def plain_attention(q: Tensor, k: Tensor, v: Tensor, site: Site) -> Tensor:
    q, k, v = (split_heads(t, site.heads) for t in (q, k, v))
    weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def test_tweaks_that_change_nothing_give_what_the_unet_gives() -> None:
    everywhere: Any = {(spot, i): plain_attention for spot in ("input", "middle", "output") for i in range(5)}
    tweaks = Tweaks(
        inputs=(lambda h, number, sigma: h,), skipped=(lambda h, number, sigma: h,),
        outputs=(lambda h, skip: (h, skip),), queries=(lambda x, site: (x, lambda y: y),), attend=everywhere,
    )  # fmt: skip
    torch.testing.assert_close(run(tweaks), run(), rtol=1e-4, atol=1e-5)


def test_every_self_attention_is_told_its_place() -> None:
    seen: list[tuple[tuple[int, ...], Site]] = []

    def note(x: Tensor, site: Site) -> tuple[Tensor, Undo]:
        seen.append((tuple(x.shape), site))
        return x, lambda y: y

    run(Tweaks(queries=(note,), sides=(1, 0)))
    assert [(shape, site.spot, site.number) for shape, site in seen] == [
        ((2, 48, 16), "input", 1), ((2, 12, 32), "input", 3), ((2, 12, 32), "middle", 0),
        ((2, 12, 32), "output", 0), ((2, 12, 32), "output", 1), ((2, 48, 16), "output", 2), ((2, 48, 16), "output", 3),
    ]  # fmt: skip
    assert all(site.size == (6, 8) and site.sides == (1, 0) and site.heads == 4 for _, site in seen)


def test_attention_is_replaced_in_the_block_named_alone() -> None:
    values: Any = {("middle", 0): lambda q, k, v, site: v}
    middle: Any = UNET.middle_block
    attention = middle[1].transformer_blocks[0].attn1
    hook = attention.register_forward_hook(lambda module, given, out: module.to_out(module.to_v(given[0])))
    expected = run()
    hook.remove()
    torch.testing.assert_close(run(Tweaks(attend=values)), expected)
    assert not torch.allclose(run(), expected)
    assert Tweaks(attend=values).at("output", 0, X) is None and Tweaks(attend=values).at("middle", 0, X) is not None


def hooked(change: Callable[[Tensor], Tensor], number: int) -> Tensor:
    blocks: Any = UNET.input_blocks
    hook = blocks[number].register_forward_hook(lambda module, given, out: change(out))
    try:
        return run()
    finally:
        hook.remove()


def test_an_input_block_is_changed_with_its_skip_connection_or_after_it() -> None:
    def double(h: Tensor, number: int, sigma: float) -> Tensor:
        assert sigma == 3.0
        return 2 * h if number == 1 else h

    both = hooked(lambda h: 2 * h, 1)
    torch.testing.assert_close(run(Tweaks(inputs=(double,), sigma=3.0)), both)

    def halve_skip(h: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal joined
        joined += 1
        return h, skip / 2 if joined == 3 else skip  # the third from the end is block 1's

    joined = 0
    after = run(Tweaks(skipped=(double,), sigma=3.0))
    assert not torch.allclose(after, both)
    torch.testing.assert_close(run(Tweaks(inputs=(double,), outputs=(halve_skip,), sigma=3.0)), after)


def test_an_output_block_joins_what_it_is_given() -> None:
    shapes: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def note(h: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        shapes.append((tuple(h.shape[1:]), tuple(skip.shape[1:])))
        return h, skip

    run(Tweaks(outputs=(note,)))
    assert shapes == [((32, 3, 4), (32, 3, 4)), ((32, 3, 4), (16, 3, 4)), ((32, 6, 8), (16, 6, 8)),
                      ((16, 6, 8), (16, 6, 8))]  # fmt: skip


def test_queries_are_undone_in_reverse_and_keys_follow_in_order() -> None:
    torch.manual_seed(3)
    attention = Attention(8, 8, 2).eval().requires_grad_(False)
    x = torch.randn(1, 12, 8)
    calls: list[str] = []

    def cut(x: Tensor, site: Site) -> tuple[Tensor, Undo]:
        def undo(y: Tensor) -> Tensor:
            calls.append("uncut")
            return y.reshape(1, 12, 8)

        return x.reshape(3, 4, 8), undo

    def flip(x: Tensor, site: Site) -> tuple[Tensor, Undo]:
        def undo(y: Tensor) -> Tensor:
            calls.append("unflip")
            return y.flip(1)

        return x.flip(1), undo

    found = Tweaked(Tweaks(queries=(cut, flip)), Site("input", 1, (3, 4), (0,)))(attention, x)
    expected = torch.cat([attention(part, part) for part in x.split(4, dim=1)], dim=1)
    torch.testing.assert_close(found, expected)
    assert calls == ["unflip", "uncut"]


def test_what_keys_and_values_are_made_of_is_changed_in_every_attention_in_order() -> None:
    seen: list[tuple[tuple[int, ...], bool]] = []

    def doubled(k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        seen.append((tuple(k.shape), k is v))
        return 2 * k, v + 1

    def swapped(k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return v, k

    attentions = [module for module in UNET.modules() if isinstance(module, Attention)]
    hooks = [at.to_k.register_forward_pre_hook(lambda module, given: (given[0] + 1,)) for at in attentions]
    hooks += [at.to_v.register_forward_pre_hook(lambda module, given: (2 * given[0],)) for at in attentions]
    expected = run()
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(run(Tweaks(contexts=(doubled, swapped))), expected)
    assert not torch.allclose(run(), expected, atol=0.05)
    assert len(seen) == len(attentions) and all(same for _, same in seen)
    assert {shape for shape, _ in seen} == {(2, 48, 16), (2, 12, 32), (2, 7, 8)}


def test_guidance_tells_the_sides_and_the_noise_level() -> None:
    seen: list[Tweaks] = []

    def predict(x: Tensor, sigma: Tensor, told: Told, tweaks: Tweaks) -> Tensor:
        seen.append(tweaks)
        return x

    sides = {"positive": [Prompt(CONTEXT)], "negative": [Prompt(CONTEXT), Prompt(CONTEXT)]}
    tweaks = Tweaks(inputs=(lambda h, number, sigma: h,))
    Guidance(predict, sides, Hooks(tweaks=tweaks)).cfg(X, torch.tensor(2.5), 3.0)
    assert seen[0].sides == (0, 1, 1) and seen[0].sigma == 2.5 and seen[0].inputs == tweaks.inputs
    Guidance(predict, sides, Hooks()).cfg(X, torch.tensor(2.5), 3.0)
    assert seen[1] is NO_TWEAKS
