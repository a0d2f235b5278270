"""Patches of the UNet on a tiny random one, against results computed by hand and by diffusers."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.conds import Area, Prompt
from nodes.diffusion.denoiser import Told, UNetDenoiser
from nodes.diffusion.guidance import Guidance
from nodes.diffusion.parametrisation import trained
from nodes.diffusion.patches import Patch, Start, started
from nodes.diffusion.resize import resize
from nodes.diffusion.token_merging import merging
from nodes.diffusion.tweaks import Site, Tweaked, Tweaks
from nodes.diffusion.unet import Attention, UNet
from nodes.diffusion.unet_patches import (
    DeepShrink,
    FreeU,
    HyperTile,
    PerturbedAttention,
    SelfAttentionGuidance,
    TokenMerging,
)

CONFIG = UNetConfig(
    in_channels=4, out_channels=4, model_channels=16, channel_mult=(1, 2, 4), num_res_blocks=(1, 1, 1),
    transformer_depth=(1, 1, 1), middle_depth=1, context_dim=8, num_heads=4, head_channels=None, use_linear=False,
    norm_groups=8,
)  # fmt: skip
PARAMETRISATION = trained(CONFIG)
SIGMA = torch.tensor(2.0)
X = torch.randn((2, 4, 16, 12), generator=torch.Generator().manual_seed(1))


def prompt(seed: int, **placed: Any) -> Prompt:
    return Prompt(torch.randn((2, 7, 8), generator=torch.Generator().manual_seed(seed)), **placed)


SIDES = {"positive": [prompt(2)], "negative": [prompt(3)]}


def make() -> UNet:
    torch.manual_seed(0)
    network = UNet(CONFIG).eval().requires_grad_(False)
    for parameter in network.parameters():  # louder, so that a change far inside is seen outside
        parameter.mul_(1.5)
    return network


NETWORK = make()


def start(seed: int = 0) -> Start:
    generator = lambda: torch.Generator().manual_seed(seed)  # noqa: E731
    return Start(CONFIG, PARAMETRISATION, torch.tensor([14.0, 2.0, 0.0]), lambda conds: (), generator)


def steered(
    *patches: Patch, scale: float = 3.0, sigma: Tensor = SIGMA, sides: Any = SIDES, x: Tensor = X, seed: int = 0
) -> Tensor:
    hooks = started(patches, start(seed))
    return Guidance(UNetDenoiser(NETWORK, PARAMETRISATION), sides, hooks).cfg(x, sigma, scale).x0


def under(side: str, network: nn.Module = NETWORK, x: Tensor = X) -> Tensor:
    return UNetDenoiser(network, PARAMETRISATION)(x, SIGMA, Told(SIDES[side][0].context))


def tweaks_of(patch: Patch) -> Tweaks:
    return patch.start(start()).tweaks


@contextmanager
def shapes_after(module: nn.Module) -> Iterator[list[tuple[int, ...]]]:
    found: list[tuple[int, ...]] = []
    hook = module.register_forward_hook(lambda module, given, out: found.append(tuple(out.shape[-2:])))
    try:
        yield found
    finally:
        hook.remove()


# --- FreeU ------------------------------------------------------------------------------------------------------


def feature_maps(channels: int, size: tuple[int, int] = (6, 5)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(channels)
    return torch.randn((2, channels, *size), generator=generator), torch.randn((2, 10, *size), generator=generator)


@pytest.mark.parametrize(("channels", "index"), [(64, 0), (32, 1)])
def test_free_u_is_that_of_diffusers(channels: int, index: int) -> None:
    peer = pytest.importorskip("diffusers.utils.torch_utils")
    h, skip = feature_maps(channels)
    expected = peer.apply_freeu(index, h.clone(), skip.clone(), b1=1.3, b2=1.4, s1=0.9, s2=0.2)
    (join,) = tweaks_of(FreeU(1.3, 1.4, 0.9, 0.2, by_structure=False)).outputs
    before = h.clone(), skip.clone()
    for ours, theirs in zip(join(h, skip), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert torch.equal(h, before[0]) and torch.equal(skip, before[1])


def test_the_second_free_u_strengthens_where_the_map_is_high() -> None:
    peer = pytest.importorskip("diffusers.utils.torch_utils")
    h, skip = feature_maps(64)
    (join,) = tweaks_of(FreeU(1.3, 1.4, 0.9, 0.2, by_structure=True)).outputs
    found, skip_found = join(h, skip)
    for item in range(2):
        mean = h[item].mean(0)
        height = (mean - mean.min()) / (mean.max() - mean.min())
        torch.testing.assert_close(found[item, :32], h[item, :32] * (1 + 0.3 * height))
        assert torch.equal(found[item, 32:], h[item, 32:])
    torch.testing.assert_close(skip_found, peer.fourier_filter(skip, 1, 0.9))


def test_free_u_leaves_maps_of_other_widths() -> None:
    h, skip = feature_maps(16)
    (join,) = tweaks_of(FreeU(1.3, 1.4, 0.9, 0.2, by_structure=True)).outputs
    assert join(h, skip) == (h, skip)


@pytest.mark.parametrize("by_structure", [False, True])
def test_free_u_of_ones_changes_nothing(by_structure: bool) -> None:
    found = steered(FreeU(1.0, 1.0, 1.0, 1.0, by_structure))
    torch.testing.assert_close(found, steered(), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(steered(FreeU(1.5, 1.5, 0.5, 0.5, by_structure)), steered(), atol=1e-2)


def test_a_flat_map_is_high_nowhere() -> None:
    (join,) = tweaks_of(FreeU(1.3, 1.4, 0.9, 0.2, by_structure=True)).outputs
    h, skip = feature_maps(64, (1, 1))
    torch.testing.assert_close(join(h, skip)[0], h)


# --- Deep Shrink ------------------------------------------------------------------------------------------------


def deep_shrink(**changed: Any) -> DeepShrink:
    options: dict[str, Any] = {
        "block": 1, "factor": 2.0, "start_percent": 0.0, "end_percent": 0.8, "after_skip": True,
        "downscale_method": "bicubic", "upscale_method": "bicubic", **changed,
    }  # fmt: skip
    return DeepShrink(**options)


@pytest.mark.parametrize("after_skip", [False, True])
@pytest.mark.parametrize("block", [1, 2, 3, 5])
@pytest.mark.parametrize("factor", [2.0, 1.5, 0.5])
def test_deep_shrink_shrinks_inside_and_leaves_the_shape(block: int, factor: float, after_skip: bool) -> None:
    with shapes_after(NETWORK.middle_block) as inside:
        found = steered(deep_shrink(block=block, factor=factor, after_skip=after_skip))
    assert found.shape == X.shape and bool(found.isfinite().all())
    assert not torch.allclose(found, steered(), atol=1e-3)
    assert (inside[0] < (4, 3)) == (factor > 1)


def test_deep_shrink_acts_within_its_noise_levels_alone() -> None:
    high, low = (PARAMETRISATION.sigma_at(percent) for percent in (0.2, 0.8))
    patch = deep_shrink(start_percent=0.2, end_percent=0.8)
    for sigma, acts in ((high * 1.01, False), (high * 0.99, True), (low * 1.01, True), (low * 0.99, False)):
        level = torch.tensor(sigma)
        assert torch.equal(steered(patch, sigma=level), steered(sigma=level)) != acts, sigma


def test_deep_shrink_resizes_by_the_methods_named() -> None:
    h, skip = feature_maps(32, (8, 6))
    tweaks = tweaks_of(deep_shrink(downscale_method="area", upscale_method="bislerp"))
    (shrink,), (join,) = tweaks.skipped, tweaks.outputs
    small = shrink(h, 1, 2.0)
    assert torch.equal(small, torch.nn.functional.interpolate(h, (4, 3), mode="area")) and shrink(h, 2, 2.0) is h
    assert torch.equal(join(small, skip)[0], resize(small, 6, 8, "bislerp")) and join(h, skip)[0] is h
    assert not tweaks.inputs and tweaks_of(deep_shrink(after_skip=False)).inputs


# --- HyperTile --------------------------------------------------------------------------------------------------


def positions(height: int, width: int) -> Tensor:
    return torch.arange(height * width, dtype=torch.float32)[None, :, None].expand(2, -1, 16)


def test_tiles_are_those_of_the_map_turned_round_and_undo_inverts_them() -> None:
    """ComfyUI takes height for width, which shows where a map is not square."""
    (cut,) = tweaks_of(HyperTile(32, 1, 0, False)).queries  # tiles of 4 latent pixels
    x = positions(8, 12)
    parts, undo = cut(x, Site("input", 1, (8, 12), (0, 1)))
    plane = torch.arange(96.0).reshape(12, 8)
    tiles = [plane[top : top + 4, left : left + 4].flatten() for top in (0, 4, 8) for left in (0, 4)]
    assert torch.equal(parts[..., 0], torch.stack(tiles * 2)) and torch.equal(undo(parts), x)


def test_only_levels_as_deep_as_asked_are_tiled() -> None:
    for depth, tiled in ((0, [16]), (1, [16, 32]), (2, [16, 32, 64])):
        (cut,) = tweaks_of(HyperTile(32, 1, depth, False)).queries
        for width in (16, 32, 64):
            x = torch.zeros(1, 64, width)
            assert (len(cut(x, Site("input", 1, (8, 8), (0,)))[0]) == 4) == (width in tiled)


@pytest.mark.parametrize("swap_size", [1, 2, 4])
def test_the_size_of_tiles_is_drawn_of_the_smallest_divisors(swap_size: int) -> None:
    (cut,) = tweaks_of(HyperTile(32, swap_size, 0, False)).queries
    for call in range(6):
        parts, undo = cut(positions(16, 24), Site("input", 1, (16, 24), (0,)))
        width, height = (
            sizes[:swap_size][random.Random(2 * call + axis + 1).randint(0, min(swap_size, len(sizes)) - 1)]
            for axis, sizes in enumerate(([4, 6, 8, 12, 24], [4, 8, 16]))
        )
        assert parts.shape == (2 * (16 // height) * (24 // width), height * width, 16)
        assert torch.equal(undo(parts), positions(16, 24))


def test_deeper_levels_have_larger_tiles_where_asked() -> None:
    """ComfyUI's factors: 1, 2 and 8 at widths of 1, 2 and 4 times the first block's."""
    for width, side in ((16, 4), (32, 8), (64, 32)):
        (cut,) = tweaks_of(HyperTile(32, 1, 2, True)).queries
        parts, _ = cut(torch.zeros(1, 64 * 64, width), Site("input", 1, (64, 64), (0,)))
        assert parts.shape[1] == side * side


@pytest.mark.parametrize(("latent", "tokens", "sides"), [
    ((9, 13), 35, (5, 7)), ((9, 13), 12, (3, 4)), ((5, 16), 8, (2, 4)), ((16, 12), 24, (6, 4)),
])  # fmt: skip
def test_a_map_halved_upwards_or_shrunk_otherwise_is_known_by_its_tokens(
    latent: tuple[int, int], tokens: int, sides: tuple[int, int]
) -> None:
    (cut,) = tweaks_of(HyperTile(32, 1, 0, False)).queries
    divisors = [next(n for n in range(min(4, side), side + 1) if side % n == 0) for side in sides]
    parts, undo = cut(torch.zeros(1, tokens, 16), Site("input", 1, latent, (0,)))
    assert parts.shape[1] == divisors[0] * divisors[1] and undo(parts).shape == (1, tokens, 16)


def test_attention_in_tiles_is_attention_of_each_tile() -> None:
    """To keys and values of as many tokens in reading order, as ComfyUI has it."""
    torch.manual_seed(4)
    attention = Attention(16, 16, 4).requires_grad_(False)
    x = torch.randn(1, 64, 16)
    patch = HyperTile(32, 1, 0, False)
    found = Tweaked(tweaks_of(patch), Site("input", 1, (8, 8), (0,)))(attention, x).reshape(8, 8, 16)
    plane = x.reshape(8, 8, 16)
    for tile, (top, left) in enumerate(((0, 0), (0, 4), (4, 0), (4, 4))):
        queries = plane[top : top + 4, left : left + 4].reshape(1, 16, 16)
        expected = attention(queries, x[:, 16 * tile : 16 * tile + 16]).reshape(4, 4, 16)
        torch.testing.assert_close(found[top : top + 4, left : left + 4], expected)


def test_one_tile_changes_nothing() -> None:
    torch.testing.assert_close(steered(HyperTile(2048, 1, 2, True)), steered(), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(steered(HyperTile(32, 1, 2, False)), steered(), atol=1e-3)


def test_a_run_draws_its_tiles_anew() -> None:
    patch = HyperTile(32, 4, 2, False)
    assert torch.equal(steered(patch), steered(patch))


# --- token merging ----------------------------------------------------------------------------------------------


def test_merging_no_tokens_changes_nothing() -> None:
    torch.testing.assert_close(steered(TokenMerging(0.0)), steered(), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(steered(TokenMerging(0.6)), steered(), atol=1e-4)


def test_queries_of_the_first_level_are_merged() -> None:
    torch.manual_seed(4)
    attention = Attention(16, 16, 4).requires_grad_(False)
    x = torch.randn(2, 48, 16)
    tweaks = tweaks_of(TokenMerging(0.5))
    left, undo = merging(x, (6, 8), 24, torch.Generator().manual_seed(0))
    found = Tweaked(tweaks, Site("input", 1, (6, 8), (0, 1)))(attention, x)
    torch.testing.assert_close(found, undo(attention(left, x)))
    deeper = Tweaked(tweaks, Site("input", 3, (12, 16), (0, 1)))(attention, x)
    torch.testing.assert_close(deeper, attention(x, x))


def test_the_tokens_kept_are_drawn_from_the_seed_anew_in_each_run() -> None:
    patch = TokenMerging(0.5)
    assert torch.equal(steered(patch), steered(patch))
    assert not torch.equal(steered(patch), steered(patch, seed=1))


# --- perturbed attention ----------------------------------------------------------------------------------------


class Blind(nn.Module):
    """Attention in which each token sees itself alone."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return self.attention.to_out(self.attention.to_v(context))


def blinded() -> UNet:
    network = copy.deepcopy(NETWORK)
    middle: Any = network.middle_block
    block = middle[1].transformer_blocks[0]
    block.attn1 = Blind(block.attn1)
    return network


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_perturbed_attention_guides_away_from_a_blinded_middle(scale: float) -> None:
    away = under("positive") - under("positive", blinded())
    assert float(away.abs().max()) > 1e-3
    found = steered(PerturbedAttention(2.5), scale=scale)
    torch.testing.assert_close(found, steered(scale=scale) + 2.5 * away, rtol=1e-4, atol=1e-4)


def test_perturbed_attention_of_scale_zero_changes_nothing() -> None:
    assert torch.equal(steered(PerturbedAttention(0.0)), steered())


def test_perturbed_attention_keeps_the_other_patches_of_the_unet() -> None:
    free = FreeU(1.5, 1.5, 0.5, 0.5, by_structure=False)
    found = steered(free, PerturbedAttention(2.5))
    hooks = started([free], start())
    contexts = SIDES["positive"][0].context
    sharp, blind = (UNetDenoiser(network, PARAMETRISATION)(X, SIGMA, Told(contexts), hooks.tweaks)
                    for network in (NETWORK, blinded()))  # fmt: skip
    torch.testing.assert_close(found, steered(free) + 2.5 * (sharp - blind), rtol=1e-4, atol=1e-4)


# --- self-attention guidance ------------------------------------------------------------------------------------


def looked_at() -> Tensor:
    """How much each pixel of the middle is looked at under the negative prompt: [B, h, w]."""
    given: list[Tensor] = []
    middle: Any = NETWORK.middle_block
    attention = middle[1].transformer_blocks[0].attn1
    hook = attention.register_forward_pre_hook(lambda module, args: given.append(args[0]))
    under("negative")
    hook.remove()
    q, k = (layer(given[0]).reshape(2, 12, 4, 16).transpose(1, 2) for layer in (attention.to_q, attention.to_k))
    return (q @ k.transpose(2, 3) / 4).softmax(-1).mean(1).sum(1).reshape(2, 4, 3)


def blurred(x0: Tensor, sigma: float) -> Tensor:
    filters = pytest.importorskip("scipy.ndimage")
    found = x0.double().numpy()
    for axis in (2, 3):
        found = filters.gaussian_filter1d(found, sigma, axis=axis, mode="mirror", radius=4)
    return torch.from_numpy(found).float()


def test_self_attention_guidance_guides_away_from_what_was_blurred_where_it_looks() -> None:
    mask = (looked_at() > 1).float().repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    assert 0.1 < float(mask.mean()) < 0.9
    uncond = under("negative")
    degraded = blurred(uncond, 2.0) * mask + uncond * (1 - mask)
    again = under("negative", x=degraded + X - uncond)
    for scale in (1.0, 3.0):
        found = steered(SelfAttentionGuidance(0.75, 2.0), scale=scale)
        torch.testing.assert_close(found, steered(scale=scale) + 0.75 * (degraded - again), rtol=1e-4, atol=1e-4)


def test_self_attention_guidance_of_scale_zero_or_of_tiny_latents_changes_nothing() -> None:
    torch.testing.assert_close(steered(SelfAttentionGuidance(0.0, 2.0)), steered(), rtol=1e-4, atol=1e-5)
    tiny = X[..., :4]
    found = steered(SelfAttentionGuidance(0.75, 2.0), x=tiny)
    torch.testing.assert_close(found, steered(x=tiny), rtol=1e-4, atol=1e-5)


def test_a_blur_of_nothing_is_none() -> None:
    uncond = under("negative")
    again = under("negative", x=X)
    found = steered(SelfAttentionGuidance(0.75, 0.0))
    torch.testing.assert_close(found, steered() + 0.75 * (uncond - again), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("others", [
    (HyperTile(32, 1, 2, False),), (deep_shrink(block=3, factor=1.5),), (PerturbedAttention(1.0),),
    (TokenMerging(0.5),),
], ids=lambda others: type(others[0]).__name__)  # fmt: skip
def test_self_attention_guidance_works_beside_others(others: Sequence[Patch]) -> None:
    found = steered(*others, SelfAttentionGuidance(0.75, 2.0))
    assert found.shape == X.shape and bool(found.isfinite().all())


def test_self_attention_guidance_leaves_out_negative_prompts_of_a_part_of_the_picture() -> None:
    part = {**SIDES, "negative": [prompt(3, area=Area(8, 12, 0, 0), strength=torch.ones(2, 1, 8, 12))]}
    found = steered(SelfAttentionGuidance(0.75, 2.0), sides=part)
    torch.testing.assert_close(found, steered(sides=part), rtol=1e-4, atol=1e-5)
    both = {**SIDES, "negative": [*part["negative"], *SIDES["negative"]]}
    assert not torch.allclose(steered(SelfAttentionGuidance(0.75, 2.0), sides=both), steered(sides=both), atol=1e-3)
