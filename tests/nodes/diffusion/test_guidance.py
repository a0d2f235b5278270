"""Guidance is arithmetic on estimates; a conditioning that does not fit is named in words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nodes.diffusion.architecture import Family, UNetConfig
from nodes.diffusion.guidance import Prompt, check_latent, guided, prepare
from nodes.diffusion.unet import timestep_embedding
from nodes.types import Cond

SIGMA = torch.tensor(1.0)
X = torch.zeros(2, 4, 2, 2)


class Recorder:
    """Estimates the mean of the context, and remembers the shape of every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, ...]] = []

    def __call__(self, x: Tensor, sigma: Tensor, context: Tensor, y: Tensor | None) -> Tensor:
        self.calls.append((*x.shape[:1], *context.shape))
        return x + context.mean(dim=(1, 2)).reshape(-1, 1, 1, 1) + (0 if y is None else y.sum(1).reshape(-1, 1, 1, 1))


def prompt(value: float, tokens: int = 77, strength: float = 1.0) -> Prompt:
    return Prompt(torch.full((2, tokens, 8), value), None, strength)


def value(estimate: Tensor) -> float:
    assert estimate.shape == X.shape and bool((estimate == estimate[0, 0, 0, 0]).all())
    return float(estimate[0, 0, 0, 0])


def test_guidance_moves_from_the_negative_through_the_positive() -> None:
    predict = Recorder()
    assert value(guided(predict, [prompt(3.0)], [prompt(1.0)], 7.0)(X, SIGMA).x0) == pytest.approx(15.0)
    assert predict.calls == [(4, 4, 77, 8)]


def test_scale_one_skips_the_negative_side() -> None:
    predict = Recorder()
    assert value(guided(predict, [prompt(3.0)], [prompt(1.0)], 1.0)(X, SIGMA).x0) == 3.0
    assert predict.calls == [(2, 2, 77, 8)]


def test_scale_zero_is_the_negative_side() -> None:
    assert value(guided(Recorder(), [prompt(3.0)], [prompt(1.0)], 0.0)(X, SIGMA).x0) == 1.0


def test_a_side_is_the_mean_of_its_prompts_weighed_by_strength() -> None:
    positive = [prompt(1.0), prompt(5.0, strength=3.0)]
    assert value(guided(Recorder(), positive, [], 1.0)(X, SIGMA).x0) == pytest.approx(4.0)


def test_strengths_of_zero_give_zero_and_not_nan() -> None:
    assert value(guided(Recorder(), [prompt(1.0, strength=0.0)], [], 1.0)(X, SIGMA).x0) == 0.0


def test_unequal_lengths_are_repeated_to_share_a_forward() -> None:
    predict = Recorder()
    assert value(guided(predict, [prompt(3.0, 154)], [prompt(1.0, 231)], 2.0)(X, SIGMA).x0) == pytest.approx(5.0)
    assert predict.calls == [(4, 4, 462, 8)]


def test_lengths_too_far_apart_take_a_forward_each() -> None:
    predict = Recorder()
    assert value(guided(predict, [prompt(3.0, 77 * 5)], [prompt(1.0)], 2.0)(X, SIGMA).x0) == pytest.approx(5.0)
    assert predict.calls == [(2, 2, 385, 8), (2, 2, 77, 8)]


def test_repeating_tokens_leaves_attention_as_it_is() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn((1, 2, n, 8), generator=generator) for n in (5, 7, 7))
    attend = torch.nn.functional.scaled_dot_product_attention
    assert torch.allclose(attend(q, k, v), attend(q, k.repeat(1, 1, 3, 1), v.repeat(1, 1, 3, 1)), atol=1e-6)


def config(context: int, adm: int | None = None, channels: int = 4) -> UNetConfig:
    return UNetConfig(
        in_channels=channels, out_channels=4, model_channels=32, channel_mult=(1,), num_res_blocks=(1,),
        transformer_depth=(1,), middle_depth=1, context_dim=context, num_heads=8, head_channels=None, use_linear=False,
        adm_in_channels=adm,
    )  # fmt: skip


def cond(features: int, pooled: int | None = None, /, **options: Any) -> Cond:
    return Cond(torch.zeros(1, 77, features), None if pooled is None else torch.ones(1, pooled), options)


def test_a_conditioning_is_repeated_to_the_batch_with_its_strength() -> None:
    (ready,) = prepare((cond(768, 768, strength=0.5),), "positive", config(768), "sd1", X)
    assert ready.context.shape == (2, 77, 768) and ready.y is None and ready.strength == 0.5


WRONG: list[tuple[Family, int, int | None, Cond, str]] = [
    ("sd1", 768, None, cond(2048, 1280),
     "positive conditioning has 2048 features (an SDXL text encoder) but this SD1 model expects 768"),
    ("sdxl", 2048, 2816, cond(768, 768),
     "positive conditioning has 768 features (an SD1 text encoder) but this SDXL model expects 2048"),
    ("sd2", 1024, None, cond(33), "positive conditioning has 33 features but this SD2 model expects 1024"),
    ("sdxl", 2048, 2816, cond(2048, 768),
     "positive conditioning has a pooled output of 768 features but this SDXL model expects 1280"),
    ("sdxl_refiner", 1280, 2560, cond(1280),
     "positive conditioning has no pooled output but this SDXL refiner model needs one of 1280 features"),
]  # fmt: skip


@pytest.mark.parametrize(("family", "context", "adm", "wrong", "message"), WRONG)
def test_a_conditioning_of_another_model_is_named(
    family: Family, context: int, adm: int | None, wrong: Cond, message: str
) -> None:
    with pytest.raises(ValueError) as error:
        prepare((wrong,), "positive", config(context, adm), family, X)
    assert str(error.value) == message + "; encode the prompt with the CLIP of the model's own checkpoint"


def test_an_empty_conditioning_is_an_error() -> None:
    with pytest.raises(ValueError, match="the negative conditioning is empty; connect a prompt"):
        prepare((), "negative", config(768), "sd1", X)


def test_a_latent_of_another_model_is_named() -> None:
    check_latent(X, config(768), "sd1")
    with pytest.raises(ValueError, match=r"the latent has 16 channels but this SD1 model takes \[B, 4, h, w\]"):
        check_latent(torch.zeros(1, 16, 2, 2), config(768), "sd1")
    with pytest.raises(ValueError, match=r"the latent has the shape \(4, 2, 2\)"):
        check_latent(torch.zeros(4, 2, 2), config(768), "sd1")


def vector(family: Family, adm: int, side: Any = "positive", **options: Any) -> Tensor:
    (ready,) = prepare((cond(8, 4, **options),), side, config(8, adm), family, torch.zeros(2, 4, 3, 5))
    assert ready.y is not None and ready.y.shape == (2, adm) and ready.y[0, :4].tolist() == [1.0] * 4
    return ready.y


def features(*numbers: float) -> Tensor:
    return timestep_embedding(torch.tensor(numbers), 256).flatten()


def test_sdxl_is_told_the_size_of_the_picture_by_default() -> None:
    assert torch.equal(vector("sdxl", 4 + 6 * 256)[1, 4:], features(24, 40, 0, 0, 24, 40))


def test_sdxl_is_told_the_sizes_of_the_conditioning() -> None:
    y = vector("sdxl", 4 + 6 * 256, width=64, height=72, crop_w=8, crop_h=16, target_width=32, target_height=48)
    assert torch.equal(y[0, 4:], features(72, 64, 16, 8, 48, 32))


def test_a_target_size_is_the_original_one_unless_given() -> None:
    assert torch.equal(vector("sdxl", 4 + 6 * 256, width=64, height=72)[0, 4:], features(72, 64, 0, 0, 72, 64))


def test_the_refiner_is_told_a_score_by_side() -> None:
    assert torch.equal(vector("sdxl_refiner", 4 + 5 * 256)[0, 4:], features(24, 40, 0, 0, 6))
    assert torch.equal(vector("sdxl_refiner", 4 + 5 * 256, "negative")[0, 4:], features(24, 40, 0, 0, 2.5))
    assert torch.equal(vector("sdxl_refiner", 4 + 5 * 256, aesthetic_score=9.0)[0, 4:], features(24, 40, 0, 0, 9))
