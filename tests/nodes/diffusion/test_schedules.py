"""Tables and schedules: values known from the papers, from scipy and from diffusers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.diffusion import schedules
from nodes.diffusion.names import SCHEDULERS
from nodes.diffusion.schedules import (
    beta_cdf,
    model_sigmas,
    sampling_sigmas,
    sigma_at_percent,
    sigma_of_t,
    sigmas_for,
    starts_from_pure_noise,
    t_of_sigma,
    zero_snr_sigmas,
)

TABLE = model_sigmas()


def test_the_table_has_the_known_ends_of_stable_diffusion() -> None:
    assert TABLE.shape == (1000,) and TABLE.dtype == torch.float32
    assert float(TABLE[0]) == pytest.approx(0.02916716, rel=1e-6)
    assert float(TABLE[-1]) == pytest.approx(14.614642, rel=1e-6)
    assert bool((TABLE.diff() > 0).all())


def test_a_zero_snr_table_ends_in_nearly_pure_noise_and_starts_as_before() -> None:
    table = zero_snr_sigmas(TABLE)
    assert float(table[-1]) == pytest.approx(4518.76, rel=1e-4)
    assert float(table[0]) == pytest.approx(float(TABLE[0]), rel=1e-5)
    assert bool((table.diff() > 0).all())


def test_zero_snr_table_is_that_of_diffusers() -> None:
    diffusers = pytest.importorskip("diffusers.schedulers.scheduling_euler_discrete")
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - diffusers.rescale_zero_terminal_snr(betas), dim=0)[:-1]
    torch.testing.assert_close(zero_snr_sigmas(TABLE)[:-1], ((1 - kept) / kept).sqrt().float(), rtol=1e-4, atol=0)


def test_sigma_and_t_invert_each_other_on_training_steps() -> None:
    steps = torch.arange(1000.0)
    assert torch.allclose(sigma_of_t(steps, TABLE), TABLE)
    assert torch.equal(t_of_sigma(TABLE, TABLE), steps)


def test_sigma_between_steps_is_the_geometric_mean() -> None:
    expected = math.sqrt(float(TABLE[10]) * float(TABLE[11]))
    assert float(sigma_of_t(torch.tensor(10.5), TABLE)) == pytest.approx(expected, rel=1e-6)


def test_t_of_a_scalar_is_a_scalar_and_stays_within_the_table() -> None:
    for sigma, expected in ((1e-5, 0.0), (1e5, 999.0)):
        t = t_of_sigma(torch.tensor(sigma), TABLE)
        assert t.shape == () and float(t) == expected


def test_percent_bounds_hold_every_sigma_and_none() -> None:
    assert sigma_at_percent(0.0, TABLE) > float(TABLE[-1])
    assert sigma_at_percent(1.0, TABLE) == 0.0
    assert sigma_at_percent(0.5, TABLE) == pytest.approx(float(sigma_of_t(torch.tensor(499.5), TABLE)), rel=1e-6)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@given(steps=st.integers(2, 150))
@settings(max_examples=15, deadline=None)
def test_every_schedule_falls_from_the_table_to_zero(scheduler: str, steps: int) -> None:
    sigmas = sigmas_for(scheduler, steps, TABLE)
    assert sigmas.dtype == torch.float32 and float(sigmas[-1]) == 0.0
    assert bool((sigmas.diff() < 0).all())
    assert float(sigmas[0]) <= float(TABLE[-1]) * (1 + 1e-5)
    if scheduler not in ("ddim_uniform", "beta"):
        assert len(sigmas) == steps + 1


def test_one_step_goes_from_the_largest_sigma_to_zero() -> None:
    for scheduler in ("simple", "sgm_uniform", "karras", "exponential", "beta", "normal", "linear_quadratic"):
        assert sigmas_for(scheduler, 1, TABLE).tolist() == pytest.approx([float(TABLE[-1]), 0.0], rel=1e-5), scheduler


def test_one_kl_optimal_step_has_no_schedule_and_sampling_says_so() -> None:
    assert math.isnan(sigmas_for("kl_optimal", 1, TABLE)[0])
    with pytest.raises(ValueError, match="use 2 steps or more"):
        sampling_sigmas("euler", "kl_optimal", 1, 1.0, TABLE)


def test_ddim_uniform_may_take_more_steps_than_asked() -> None:
    assert len(sigmas_for("ddim_uniform", 20, TABLE)) == 21
    assert len(sigmas_for("ddim_uniform", 30, TABLE)) == 32


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_normal_agrees_with_diffusers_linspace_timesteps() -> None:
    diffusers = pytest.importorskip("diffusers")
    euler = diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", interpolation_type="log_linear"
    )
    euler.set_timesteps(10)
    ends = [0, -2, -1]  # between them times are no whole steps, which the two interpolate differently
    torch.testing.assert_close(sigmas_for("normal", 10, TABLE)[ends], euler.sigmas[ends], rtol=2e-5, atol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_karras_agrees_with_diffusers() -> None:
    diffusers = pytest.importorskip("diffusers")
    euler = diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", use_karras_sigmas=True
    )
    euler.set_timesteps(12)
    torch.testing.assert_close(sigmas_for("karras", 12, TABLE), euler.sigmas, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("a", "b"), [(0.6, 0.6), (0.5, 1.7), (2.0, 3.0), (1.0, 1.0)])
def test_beta_cdf_is_scipys(a: float, b: float) -> None:
    special = pytest.importorskip("scipy.special")
    x = torch.linspace(0, 1, 257, dtype=torch.float64)
    expected = torch.from_numpy(special.betainc(a, b, x.numpy()))
    torch.testing.assert_close(beta_cdf(x, a, b), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 20, 37, 150, 1000])
def test_beta_picks_the_steps_of_scipys_rounded_quantiles(steps: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    quantiles = [1 - i / steps for i in range(steps)]
    steps_of = [round(float(q) * 999) for q in stats.beta.ppf(quantiles, 0.6, 0.6)]
    expected = [float(TABLE[t]) for t in dict.fromkeys(steps_of)]
    assert sigmas_for("beta", steps, TABLE).tolist() == [*expected, 0.0]


def test_denoise_keeps_the_last_steps_of_a_longer_schedule() -> None:
    full = sigmas_for("karras", 33, TABLE)
    assert torch.equal(sampling_sigmas("euler", "karras", 20, 0.6, TABLE), full[-21:])
    assert torch.equal(sampling_sigmas("euler", "karras", 33, 0.99995, TABLE), full)
    assert len(sampling_sigmas("euler", "karras", 20, 0.0, TABLE)) == 0


@pytest.mark.parametrize("sampler", sorted(schedules.DROPS_PENULTIMATE))
def test_samplers_that_step_between_sigmas_skip_the_penultimate(sampler: str) -> None:
    full = sigmas_for("normal", 9, TABLE)
    assert torch.equal(sampling_sigmas(sampler, "normal", 8, 1.0, TABLE), torch.cat([full[:8], full[9:]]))
    assert len(sampling_sigmas(sampler, "normal", 8, 0.5, TABLE)) == 9


def test_a_sigma_is_not_repeated_when_there_are_more_steps_than_training_steps() -> None:
    sigmas = sampling_sigmas("euler", "simple", 1500, 1.0, TABLE)
    assert len(sigmas) == 1001 and bool((sigmas.diff() < 0).all())


def test_pure_noise_is_told_from_a_partly_noised_start() -> None:
    assert starts_from_pure_noise(sampling_sigmas("euler", "simple", 5, 1.0, TABLE), TABLE)
    assert not starts_from_pure_noise(sampling_sigmas("euler", "simple", 5, 0.7, TABLE), TABLE)


def test_an_unknown_scheduler_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="scheduler 'karas' is unknown; did you mean 'karras'"):
        sigmas_for("karas", 5, TABLE)


def test_no_steps_is_an_error() -> None:
    with pytest.raises(ValueError, match="steps is 0; expected 1 or more"):
        sigmas_for("normal", 0, TABLE)
