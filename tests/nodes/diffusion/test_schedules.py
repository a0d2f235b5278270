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
    sigma_of_t,
    sigmas_for,
    starts_from_pure_noise,
    t_of_sigma,
    zero_snr_sigmas,
)

TABLE = model_sigmas()


def test_the_table_has_the_known_ends_of_stable_diffusion() -> None:
    assert TABLE.shape == (1000,) and TABLE.dtype == torch.float64
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
    torch.testing.assert_close(zero_snr_sigmas(TABLE)[:-1], ((1 - kept) / kept).sqrt(), rtol=1e-4, atol=0)


def test_sigma_and_t_invert_each_other_on_training_steps() -> None:
    steps = torch.arange(1000.0)
    assert torch.allclose(sigma_of_t(steps, TABLE).double(), TABLE, rtol=1e-6)
    assert torch.equal(t_of_sigma(TABLE, TABLE), steps)


def test_sigma_between_steps_is_the_geometric_mean() -> None:
    expected = math.sqrt(float(TABLE[10]) * float(TABLE[11]))
    assert float(sigma_of_t(torch.tensor(10.5), TABLE)) == pytest.approx(expected, rel=1e-6)


def test_t_of_a_scalar_is_a_scalar_and_stays_within_the_table() -> None:
    for sigma, expected in ((1e-5, 0.0), (1e5, 999.0)):
        t = t_of_sigma(torch.tensor(sigma), TABLE)
        assert t.shape == () and float(t) == expected


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


def test_one_kl_optimal_step_has_no_schedule() -> None:
    assert math.isnan(schedules.kl_optimal(1, TABLE)[0])
    for make in (
        lambda: sigmas_for("kl_optimal", 1, TABLE),
        lambda: sampling_sigmas("euler", "kl_optimal", 1, 1.0, TABLE),
    ):
        with pytest.raises(ValueError, match="'kl_optimal' has no schedule of 1 step; use 2 steps or more"):
            make()


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
    expected = TABLE[list(dict.fromkeys(steps_of))].float().tolist()
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


def test_pure_noise_is_told_from_a_partly_noised_start() -> None:
    assert starts_from_pure_noise(sampling_sigmas("euler", "simple", 5, 1.0, TABLE), TABLE)
    assert not starts_from_pure_noise(sampling_sigmas("euler", "simple", 5, 0.7, TABLE), TABLE)


def test_an_unknown_scheduler_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="scheduler 'karas' is unknown; did you mean 'karras'"):
        sigmas_for("karas", 5, TABLE)


def test_no_steps_is_an_error() -> None:
    with pytest.raises(ValueError, match="steps is 0; expected 1 or more"):
        sigmas_for("normal", 0, TABLE)


ENDS = torch.tensor([0.03, 15.0], dtype=torch.float64)


def test_a_polyexponential_schedule_is_a_power_of_a_ramp_in_log_sigma() -> None:
    for rho in (1.0, 2.0, 0.5):
        found = schedules.polyexponential(5, ENDS, rho)
        expected = [0.03 * (15 / 0.03) ** (part**rho) for part in (1, 0.75, 0.5, 0.25, 0)]
        assert found.tolist() == pytest.approx([*expected, 0.0], rel=1e-5)
    assert torch.allclose(schedules.polyexponential(7, ENDS), schedules.exponential(7, ENDS))


def test_a_laplace_schedule_has_the_quantiles_of_scipys_distribution() -> None:
    stats = pytest.importorskip("scipy.stats")
    found = schedules.laplace(9, torch.tensor([1e-9, 1e9]), mu=0.3, beta=0.7)
    expected = stats.laplace(0.3, 0.7).ppf([1 - i / 8 for i in range(1, 8)])
    assert found[1:-1].log().tolist() == pytest.approx(expected.tolist(), abs=2e-4)
    within = schedules.laplace(9, ENDS, mu=0.3, beta=0.7)
    assert torch.equal(within, found.clamp(float(ENDS[0]), float(ENDS[1]))) and float(within[-1]) == pytest.approx(0.03)


def test_a_vp_schedule_is_even_in_the_time_of_its_process() -> None:
    found = schedules.vp(6, 19.9, 0.1, 0.001)
    for i, t in enumerate([1, 0.8002, 0.6004, 0.4006, 0.2008, 0.001]):
        variance = 1 - math.exp(-(19.9 * t**2 / 2 + 0.1 * t))  # of dx = -beta/2 x dt + sqrt(beta) dw
        assert float(found[i]) == pytest.approx(math.sqrt(variance / (1 - variance)), rel=1e-4)
    assert len(found) == 7 and float(found[-1]) == 0.0


def test_a_turbo_schedule_walks_every_hundredth_training_step() -> None:
    whole = schedules.turbo(10, 1.0, lambda t: t)
    assert whole.tolist() == [999, 899, 799, 699, 599, 499, 399, 299, 199, 99, 0]
    assert schedules.turbo(1, 1.0, lambda t: t).tolist() == [999, 0]
    assert schedules.turbo(2, 0.5, lambda t: t).tolist() == [499, 399, 0]
    assert schedules.turbo(10, 0.3, lambda t: t).tolist() == [299, 199, 99, 0]
    assert schedules.turbo(3, 0.0, lambda t: t).tolist() == [0]


def test_align_your_steps_has_the_ten_steps_of_the_paper() -> None:
    peer = pytest.importorskip("diffusers.schedulers").AysSchedules
    for kind, theirs in (("SDXL", "StableDiffusionXLSigmas"), ("SVD", "StableDiffusionVideoSigmas")):
        found = schedules.align_your_steps(kind, 10)
        assert found[:-1].tolist() == pytest.approx(peer[theirs][:-1], rel=2e-2), kind
        assert float(found[-1]) == 0.0
    steps = schedules.t_of_sigma(schedules.align_your_steps("SD1", 10)[:-1], TABLE).tolist()
    assert steps == pytest.approx(peer["StableDiffusionTimesteps"], abs=2)


def test_align_your_steps_is_log_linear_between_its_steps() -> None:
    ten, twenty, five = (schedules.align_your_steps("SD1", steps) for steps in (10, 20, 5))
    assert torch.allclose(twenty[:-1:2], ten[:-1]) and torch.allclose(five[:-1], ten[:-1:2])
    assert torch.allclose(twenty[1:-2:2] ** 2, ten[:-2] * ten[1:-1])
    assert twenty.dtype == torch.float32 and len(twenty) == 21


def test_align_your_steps_keeps_the_last_part_of_its_steps() -> None:
    whole = schedules.align_your_steps("SDXL", 10)
    assert torch.equal(schedules.align_your_steps("SDXL", 10, 0.36), whole[-5:])
    assert len(schedules.align_your_steps("SDXL", 10, 0.0)) == 0
    assert schedules.align_your_steps("SDXL", 10, 0.04).tolist() == [0.0]


@pytest.mark.parametrize(
    ("spacing", "share"), [("linear", 0.5), ("cosine", math.sqrt(0.5)), ("sine", 1 - math.sqrt(0.5))]
)
def test_steps_within_two_sigmas_are_cut(spacing: str, share: float) -> None:
    sigmas = torch.tensor([10.0, 6.0, 2.0, 0.0])
    found = schedules.extended(sigmas, 2, (6.0, 2.0), spacing)
    assert found.tolist() == pytest.approx([10, 6, 6 - 4 * share, 2, 2 - 2 * share, 0], rel=1e-5)
    assert torch.equal(schedules.extended(sigmas, 1, (6.0, 2.0), spacing), sigmas)
    assert len(schedules.extended(sigmas, 4, (math.inf, 0.0), spacing)) == 13
    assert len(schedules.extended(sigmas[:0], 4, (math.inf, 0.0), spacing)) == 0


def test_a_part_of_a_schedule_is_cut_as_ksampler_advanced_does() -> None:
    sigmas = torch.tensor([10.0, 6.0, 3.0, 1.0, 0.0])
    before = sigmas.clone()
    part = schedules.part_of
    assert part(sigmas, 0, 10000, to_zero=True).tolist() == [10, 6, 3, 1, 0]
    assert part(sigmas, 0, 2, to_zero=False).tolist() == [10, 6, 3]
    assert part(sigmas, 0, 2, to_zero=True).tolist() == [10, 6, 0]
    assert part(sigmas, 2, 10000, to_zero=True).tolist() == [3, 1, 0]
    assert part(sigmas, 1, 3, to_zero=False).tolist() == [6, 3, 1]
    assert part(sigmas, 3, 4, to_zero=False).tolist() == [1, 0]
    for first, last in ((4, 10000), (9, 10000), (2, 2), (3, 1), (0, 0)):
        assert len(part(sigmas, first, last, to_zero=True)) < 2
    assert torch.equal(sigmas, before)
