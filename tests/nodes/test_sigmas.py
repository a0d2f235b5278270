"""Schedules as values, and what is done with them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from nodegraph.spec import NODE_ATTRIBUTE
from nodes import sigmas
from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.checkpoints import Part
from nodes.diffusion.names import SCHEDULERS
from nodes.diffusion.sampling_patches import ContinuousSampling, DiscreteSampling
from nodes.diffusion.schedules import model_sigmas, sampling_sigmas
from nodes.types import ModelValue

CONFIG = UNetConfig(
    in_channels=4, out_channels=4, model_channels=32, channel_mult=(1,), num_res_blocks=(1,), transformer_depth=(1,),
    middle_depth=1, context_dim=8, num_heads=8, head_channels=None, use_linear=False,
)  # fmt: skip
MODEL = ModelValue(Part("", "", "unet", "sd1", CONFIG))
TABLE = model_sigmas()
SCHEDULE = torch.tensor([14.0, 6.0, 3.0, 1.0, 0.0])
BEFORE = SCHEDULE.clone()
INPUTS: dict[Any, tuple[str, list[str]]] = {
    sigmas.basic: ("BasicScheduler", ["model", "scheduler", "steps", "denoise"]),
    sigmas.karras: ("KarrasScheduler", ["steps", "sigma_max", "sigma_min", "rho"]),
    sigmas.exponential: ("ExponentialScheduler", ["steps", "sigma_max", "sigma_min"]),
    sigmas.polyexponential: ("PolyexponentialScheduler", ["steps", "sigma_max", "sigma_min", "rho"]),
    sigmas.laplace: ("LaplaceScheduler", ["steps", "sigma_max", "sigma_min", "mu", "beta"]),
    sigmas.vp: ("VPScheduler", ["steps", "beta_d", "beta_min", "eps_s"]),
    sigmas.beta: ("BetaSamplingScheduler", ["model", "steps", "alpha", "beta"]),
    sigmas.turbo: ("SDTurboScheduler", ["model", "steps", "denoise"]),
    sigmas.align_your_steps: ("AlignYourStepsScheduler", ["model_type", "steps", "denoise"]),
    sigmas.manual: ("ManualSigmas", ["sigmas"]),
    sigmas.split: ("SplitSigmas", ["sigmas", "step"]),
    sigmas.split_denoise: ("SplitSigmasDenoise", ["sigmas", "denoise"]),
    sigmas.flip: ("FlipSigmas", ["sigmas"]),
    sigmas.set_first: ("SetFirstSigma", ["sigmas", "sigma"]),
    sigmas.extend: ("ExtendIntermediateSigmas", ["sigmas", "steps", "start_at_sigma", "end_at_sigma", "spacing"]),
    sigmas.percent_to_sigma: ("SamplingPercentToSigma", ["model", "sampling_percent", "return_actual_sigma"]),
}


@pytest.mark.parametrize("function", INPUTS, ids=lambda function: function.__name__)
def test_the_nodes_have_comfyuis_names_and_inputs(function: Any) -> None:
    spec = getattr(function, NODE_ATTRIBUTE)
    assert (spec.name, [item.name for item in spec.inputs]) == INPUTS[function]
    if function in (sigmas.split, sigmas.split_denoise):
        assert [output.name for output in spec.outputs] == ["high_sigmas", "low_sigmas"]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("denoise", [1.0, 0.6])
def test_the_basic_schedule_is_the_one_ksampler_walks(scheduler: str, denoise: float) -> None:
    found = sigmas.basic(model=MODEL, scheduler=scheduler, steps=12, denoise=denoise)
    expected = sampling_sigmas("euler", scheduler, 12, denoise, TABLE)
    assert torch.equal(found, expected[-13:])
    assert len(sigmas.basic(model=MODEL, scheduler=scheduler, steps=12, denoise=0.0)) == 0


def test_a_schedule_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="'kl_optimal' has no schedule of 1 step; use 2 steps or more"):
        sigmas.basic(model=MODEL, scheduler="kl_optimal", steps=1)


def test_the_basic_schedule_is_that_of_a_patched_model() -> None:
    lcm = replace(MODEL, patches=(DiscreteSampling("lcm", False),))
    found = sigmas.basic(model=lcm, scheduler="simple", steps=50)
    assert torch.equal(found[:-1], TABLE[19::20].flip(0).float())
    edm = replace(MODEL, patches=(ContinuousSampling("edm", 0.002, 80.0),))
    ends = sigmas.basic(model=edm, scheduler="karras", steps=5)
    assert float(ends[0]) == pytest.approx(80) and float(ends[-2]) == pytest.approx(0.002)


def near(found: Tensor, expected: list[float]) -> None:
    assert found.dtype == torch.float32 and found.tolist() == pytest.approx(expected, rel=1e-5)


def test_schedules_between_two_levels() -> None:
    parts = (0, 0.25, 0.5, 0.75, 1)
    ends = {"steps": 5, "sigma_max": 15.0, "sigma_min": 0.03}
    roots = [(15 ** (1 / 5) + part * (0.03 ** (1 / 5) - 15 ** (1 / 5))) ** 5 for part in parts]
    near(sigmas.karras(**ends, rho=5.0), [*roots, 0.0])
    near(sigmas.exponential(**ends), [*[15 * (0.03 / 15) ** part for part in parts], 0.0])
    near(sigmas.polyexponential(**ends, rho=2.0), [*[0.03 * 500 ** ((1 - part) ** 2) for part in parts], 0.0])


def test_schedules_have_the_ends_of_stable_diffusion_by_default() -> None:
    for make in (sigmas.karras, sigmas.exponential, sigmas.polyexponential):
        found = make()
        assert len(found) == 21 and float(found[0]) == pytest.approx(14.614642) and float(found[-1]) == 0.0
        assert float(found[-2]) == pytest.approx(0.0291675)
    laplace = sigmas.laplace()
    assert len(laplace) == 20 and float(laplace.max()) <= 14.6147 and float(laplace.min()) >= 0.02916


def test_levels_in_the_wrong_order_are_a_problem() -> None:
    for make in (sigmas.karras, sigmas.exponential, sigmas.polyexponential, sigmas.laplace):
        check = getattr(make, NODE_ATTRIBUTE).check
        assert list(check(sigma_max=0.1, sigma_min=0.2, steps=3)) and not list(check())


def test_a_beta_schedule_picks_training_steps_at_scipys_quantiles() -> None:
    stats = pytest.importorskip("scipy.stats")
    found = sigmas.beta(model=MODEL, steps=7, alpha=2.0, beta=0.5)
    steps = [round(float(q) * 999) for q in stats.beta.ppf([1 - i / 7 for i in range(7)], 2.0, 0.5)]
    near(found, [*TABLE[list(dict.fromkeys(steps))].tolist(), 0.0])


def test_a_vp_schedule_takes_its_process() -> None:
    found = sigmas.vp(steps=3, beta_d=10.0, beta_min=0.5, eps_s=0.01)
    near(found, [*[math.sqrt(math.expm1(5 * t * t + 0.5 * t)) for t in (1, 0.505, 0.01)], 0.0])
    assert len(sigmas.vp()) == 21


def test_a_turbo_schedule_has_the_models_levels() -> None:
    near(sigmas.turbo(model=MODEL, steps=2), [*TABLE[[999, 899]].tolist(), 0.0])
    near(sigmas.turbo(model=MODEL, steps=3, denoise=0.2), [*TABLE[[199, 99]].tolist(), 0.0])
    lcm = replace(MODEL, patches=(DiscreteSampling("lcm", False),))
    near(sigmas.turbo(model=lcm, steps=1), [float(TABLE[999]), 0.0])


def test_align_your_steps_is_cut_by_denoise() -> None:
    whole = sigmas.align_your_steps(model_type="SD1")
    assert len(whole) == 11 and float(whole[0]) == pytest.approx(14.6146412293)
    assert torch.equal(sigmas.align_your_steps(model_type="SD1", denoise=0.5), whole[-6:])


@pytest.mark.parametrize(("text", "expected"), [
    ("1, 0.5", [1, 0.5]), ("14.6 5;2\n.5 0", [14.6, 5, 2, 0.5, 0]), ("[1e1, 2.5E-1, 0.]", [10, 0.25, 0]), ("", []),
])  # fmt: skip
def test_a_schedule_is_written_down(text: str, expected: list[float]) -> None:
    near(sigmas.manual(sigmas=text), expected)
    assert not list(getattr(sigmas.manual, NODE_ATTRIBUTE).check(sigmas=text))


def test_words_in_a_schedule_are_told() -> None:
    assert list(getattr(sigmas.manual, NODE_ATTRIBUTE).check(sigmas="1, two"))
    with pytest.raises(ValueError, match="sigmas has 'otw'; expected numbers"):
        sigmas.manual(sigmas="1, two")


def test_a_schedule_is_cut_in_two_that_meet() -> None:
    high, low = sigmas.split(sigmas=SCHEDULE, step=2)
    assert high.tolist() == [14, 6, 3] and low.tolist() == [3, 1, 0]
    high, low = sigmas.split(sigmas=SCHEDULE, step=0)
    assert high.tolist() == [14] and torch.equal(low, SCHEDULE)
    high, low = sigmas.split(sigmas=SCHEDULE, step=99)
    assert torch.equal(high, SCHEDULE) and len(low) == 0


@pytest.mark.parametrize(("denoise", "high", "low"), [
    (0.5, [14, 6, 3], [3, 1, 0]), (1.0, [14], [14, 6, 3, 1, 0]), (0.2, [14, 6, 3, 1], [1, 0]), (0.0, [], [0]),
])  # fmt: skip
def test_a_schedule_is_cut_where_a_part_is_left(denoise: float, high: list[float], low: list[float]) -> None:
    found = sigmas.split_denoise(sigmas=SCHEDULE, denoise=denoise)
    assert found.high_sigmas.tolist() == high and found.low_sigmas.tolist() == low


def test_a_flipped_schedule_starts_just_above_zero() -> None:
    near(sigmas.flip(sigmas=SCHEDULE), [0.0001, 1, 3, 6, 14])
    near(sigmas.flip(sigmas=SCHEDULE[:2]), [6, 14])
    assert len(sigmas.flip(sigmas=SCHEDULE[:0])) == 0


def test_the_first_level_is_set() -> None:
    near(sigmas.set_first(sigmas=SCHEDULE, sigma=136.0), [136, 6, 3, 1, 0])
    assert len(sigmas.set_first(sigmas=SCHEDULE[:0])) == 0


def test_steps_of_a_part_are_cut() -> None:
    near(sigmas.extend(sigmas=SCHEDULE, end_at_sigma=3.0, spacing="linear"), [14, 10, 6, 4.5, 3, 2, 1, 0])
    near(sigmas.extend(sigmas=SCHEDULE, start_at_sigma=6.0, end_at_sigma=3.0, spacing="linear"),
         [14, 6, 4.5, 3, 2, 1, 0])  # fmt: skip
    near(sigmas.extend(sigmas=SCHEDULE, spacing="sine"), [14, 14 - 8 * (1 - math.sqrt(0.5)), 6, 3, 1, 0])


def test_nothing_changes_the_schedule_it_is_given() -> None:
    for change in (sigmas.flip, sigmas.set_first, sigmas.split):
        change(sigmas=SCHEDULE)
    sigmas.extend(sigmas=SCHEDULE, spacing="cosine")
    assert torch.equal(SCHEDULE, BEFORE)


def test_a_percent_is_a_noise_level() -> None:
    def level(**given: Any) -> float:
        return sigmas.percent_to_sigma(**given).sigma_value

    assert level(model=MODEL) == 999999999.9 and level(model=MODEL, sampling_percent=1.0) == 0.0
    assert level(model=MODEL, return_actual_sigma=True) == pytest.approx(14.614642)
    assert level(model=MODEL, sampling_percent=1.0, return_actual_sigma=True) == pytest.approx(0.0291672, rel=1e-5)
    for is_actual in (False, True):
        found = level(model=MODEL, sampling_percent=0.5, return_actual_sigma=is_actual)
        assert found == pytest.approx(math.sqrt(TABLE[499] * TABLE[500]), rel=1e-6)
