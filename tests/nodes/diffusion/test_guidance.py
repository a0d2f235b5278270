"""Guidance is arithmetic on estimates."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nodes.diffusion.conds import Area, Prompt
from nodes.diffusion.denoiser import Predict, Told
from nodes.diffusion.guidance import Guidance
from nodes.diffusion.patches import Hooks
from nodes.diffusion.tweaks import Tweaks

SIGMA = torch.tensor(1.0)
X = torch.zeros(2, 4, 2, 2)


class Recorder:
    """Estimates the mean of the context, and remembers the shape of every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, ...]] = []

    def __call__(self, x: Tensor, sigma: Tensor, told: Told, tweaks: Tweaks) -> Tensor:
        context, y = told.context, told.y
        self.calls.append((*x.shape[:1], *context.shape))
        return x + context.mean(dim=(1, 2)).reshape(-1, 1, 1, 1) + (0 if y is None else y.sum(1).reshape(-1, 1, 1, 1))


def steered(predict: Predict, positive: list[Prompt], negative: list[Prompt], cfg: float) -> Tensor:
    return Guidance(predict, {"positive": positive, "negative": negative}, Hooks()).cfg(X, SIGMA, cfg).x0


def prompt(value: float, tokens: int = 77, strength: float = 1.0) -> Prompt:
    return Prompt(torch.full((2, tokens, 8), value), None, strength)


def value(estimate: Tensor) -> float:
    assert estimate.shape == X.shape and bool((estimate == estimate[0, 0, 0, 0]).all())
    return float(estimate[0, 0, 0, 0])


def test_guidance_moves_from_the_negative_through_the_positive() -> None:
    predict = Recorder()
    assert value(steered(predict, [prompt(3.0)], [prompt(1.0)], 7.0)) == pytest.approx(15.0)
    assert predict.calls == [(4, 4, 77, 8)]


def test_scale_one_skips_the_negative_side() -> None:
    predict = Recorder()
    assert value(steered(predict, [prompt(3.0)], [prompt(1.0)], 1.0)) == 3.0
    assert predict.calls == [(2, 2, 77, 8)]


def test_scale_zero_is_the_negative_side() -> None:
    assert value(steered(Recorder(), [prompt(3.0)], [prompt(1.0)], 0.0)) == 1.0


def test_a_side_is_the_mean_of_its_prompts_weighed_by_strength() -> None:
    positive = [prompt(1.0), prompt(5.0, strength=3.0)]
    assert value(steered(Recorder(), positive, [], 1.0)) == pytest.approx(4.0)


def test_strengths_of_zero_give_zero_and_not_nan() -> None:
    assert value(steered(Recorder(), [prompt(1.0, strength=0.0)], [], 1.0)) == 0.0


def test_unequal_lengths_are_repeated_to_share_a_forward() -> None:
    predict = Recorder()
    assert value(steered(predict, [prompt(3.0, 154)], [prompt(1.0, 231)], 2.0)) == pytest.approx(5.0)
    assert predict.calls == [(4, 4, 462, 8)]


def test_lengths_too_far_apart_take_a_forward_each() -> None:
    predict = Recorder()
    assert value(steered(predict, [prompt(3.0, 77 * 5)], [prompt(1.0)], 2.0)) == pytest.approx(5.0)
    assert predict.calls == [(2, 2, 385, 8), (2, 2, 77, 8)]


def test_repeating_tokens_leaves_attention_as_it_is() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn((1, 2, n, 8), generator=generator) for n in (5, 7, 7))
    attend = torch.nn.functional.scaled_dot_product_attention
    assert torch.allclose(attend(q, k, v), attend(q, k.repeat(1, 1, 3, 1), v.repeat(1, 1, 3, 1)), atol=1e-6)


def placed(value: float, area: Area | None, strength: float | Tensor = 1.0) -> Prompt:
    return Prompt(torch.full((2, 77, 8), value), None, strength, area)


def test_areas_are_weighed_pixel_by_pixel_and_nothing_is_zero() -> None:
    left, right = Area(2, 1, 0, 0), Area(1, 1, 1, 1)
    positive = [placed(1.0, left), placed(5.0, right, torch.full((2, 1, 1, 1), 0.5))]
    x0 = steered(Recorder(), positive, [], 1.0)
    assert x0[0, 0].tolist() == [[1.0, 0.0], [1.0, 5.0]]


def test_areas_overlap_by_their_strengths() -> None:
    whole, part = placed(1.0, None), placed(5.0, Area(1, 2, 0, 0), torch.full((2, 1, 1, 2), 3.0))
    assert steered(Recorder(), [whole, part], [], 1.0)[1, 2].tolist() == [[4.0, 4.0], [1.0, 1.0]]


def test_a_prompt_counts_within_its_noise_levels_alone() -> None:
    late = Prompt(torch.full((2, 77, 8), 9.0), levels=(0.5, 0.0))
    assert value(steered(Recorder(), [prompt(1.0), late], [], 1.0)) == 1.0


def sides(**values: float) -> dict[str, list[Prompt]]:
    return {name: [prompt(given)] for name, given in values.items()}


def test_two_prompts_and_a_negative_one() -> None:
    guidance = Guidance(Recorder(), sides(positive=5.0, middle=3.0, negative=1.0), Hooks())
    assert value(guidance.dual(X, SIGMA, 2.0, 4.0, nested=False).x0) == pytest.approx(1 + 4 * (3 - 1) + 2 * (5 - 3))
    assert value(guidance.dual(X, SIGMA, 2.0, 4.0, nested=True).x0) == pytest.approx(1 + 4 * (3 + 2 * (5 - 3) - 1))


def test_a_negative_prompt_along_the_positive_one_does_not_count() -> None:
    guidance = Guidance(Recorder(), sides(positive=5.0, negative=2.0, empty=1.0), Hooks())
    assert value(guidance.perp_neg(X, SIGMA, 3.0, 1.0).x0) == pytest.approx(1 + 3 * (5 - 1), rel=1e-5)


def test_one_prompt_alone_is_its_estimate() -> None:
    predict = Recorder()
    assert value(Guidance(predict, sides(positive=5.0), Hooks()).one_side(X, SIGMA).x0) == 5.0
    assert predict.calls == [(2, 2, 77, 8)]
