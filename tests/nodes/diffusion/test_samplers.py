"""Samplers against the exact flow of Gaussian data, against each other, and against diffusers' schedulers.

For data N(0, s^2) the ideal denoiser is x s^2 / (s^2 + sigma^2), and the flow keeps x / sqrt(s^2 + sigma^2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from nodes.diffusion import adams, cfgpp, dpm, names, stochastic
from nodes.diffusion.contract import Denoise, Estimate, NoiseSource, ancestral_step
from nodes.diffusion.parametrisation import discrete
from nodes.diffusion.samplers import CFG_PP, SAMPLERS, noise_for, sampler_for, sampler_of
from nodes.diffusion.schedules import model_sigmas, sigmas_for, t_of_sigma

TABLE = model_sigmas()
STD = 0.5
ORDERS = {
    "euler": 1, "heun": 2, "heunpp2": 1, "dpm_2": 2, "lms": 4, "dpmpp_2m": 2, "ipndm": 2, "ipndm_v": 1, "deis": 3,
    "res_multistep": 2, "gradient_estimation": 1, "ddim": 1, "uni_pc": 3, "uni_pc_bh2": 3, "pndm": 2,
}  # fmt: skip
PATHS = ("dpmpp_sde", "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde")  # their noise is that of one path
STOCHASTIC = (
    "euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral", "ddpm", "lcm", "res_multistep_ancestral", "er_sde",
    "seeds_2", "seeds_3", "sa_solver", "sa_solver_pece", *PATHS, *(f"{name}_gpu" for name in PATHS),
)  # fmt: skip
OWN_STEPS = ("dpm_fast", "dpm_adaptive")  # the schedule only says from where to where
WALKING = tuple(name for name in SAMPLERS if name not in OWN_STEPS)
CALLS = {"heun": 9, "heunpp2": 12, "dpm_2": 9, "dpm_2_ancestral": 9, "dpmpp_2s_ancestral": 9, "pndm": 6,
         "dpmpp_sde": 9, "dpmpp_sde_gpu": 9, "seeds_2": 9, "seeds_3": 13, "sa_solver_pece": 9}  # fmt: skip


def gaussian(x: Tensor, sigma: Tensor) -> Tensor:
    return x * STD**2 / (STD**2 + sigma**2)


def no_noise(sigma: Tensor, sigma_next: Tensor) -> Tensor:
    raise AssertionError("a deterministic sampler drew noise")


def walk(name: str, denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource = no_noise) -> Tensor:
    return sampler_of(name)(denoise, x, sigmas, noise, lambda i, x0: None)


def error(name: str, steps: int) -> float:
    ramp = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    sigmas = 0.1 + 9.9 * ramp**3
    x = torch.full((1, 4, 2, 2), 10.0, dtype=torch.float64)
    exact = x * ((STD**2 + sigmas[-1] ** 2) / (STD**2 + sigmas[0] ** 2)).sqrt()
    return float((walk(name, gaussian, x, sigmas) - exact).abs().max())


@pytest.mark.parametrize("name", ORDERS)
def test_the_error_falls_with_the_order_of_the_sampler(name: str) -> None:
    order = math.log2(error(name, 80) / error(name, 160))
    assert order > ORDERS[name] - 0.3


def test_higher_orders_are_nearer_at_few_steps() -> None:
    errors = [error(name, 20) for name in ("uni_pc", "dpmpp_2m", "euler")]
    assert errors == sorted(errors)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_ends_at_what_the_denoiser_sees(name: str) -> None:
    target = torch.linspace(-1, 1, 16).reshape(1, 4, 2, 2)
    x = walk(name, lambda x, sigma: target, torch.ones(1, 4, 2, 2) * 14, sigmas_for("karras", 6, TABLE), unit_noise(0))
    # those with steps of their own end at the last sigma above 0
    assert float((x - target).abs().max()) < (
        0.05 if name in OWN_STEPS else 2e-3 if name.startswith("uni_pc") else 1e-5
    )


@pytest.mark.parametrize("name", WALKING)
def test_a_sampler_reports_each_step_and_leaves_its_input_alone(name: str) -> None:
    steps: list[int] = []
    calls: list[float] = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        calls.append(float(sigma))
        return gaussian(x, sigma)

    x = torch.full((2, 4, 2, 2), 10.0)
    sigmas = sigmas_for("karras", 5, TABLE)
    sampler_of(name)(denoise, x, sigmas, unit_noise(0), lambda i, x0: steps.append(i))
    assert steps == [0, 1, 2, 3, 4]
    assert len(calls) == CALLS.get(name, 5) and min(calls) > 0
    assert torch.equal(x, torch.full((2, 4, 2, 2), 10.0))


@pytest.mark.parametrize("name", WALKING)
def test_one_step_from_pure_noise_gives_the_first_estimate(name: str) -> None:
    sigmas = torch.tensor([float(TABLE[-1]), 0.0])
    x = torch.full((1, 4, 2, 2), 10.0)
    assert torch.allclose(walk(name, gaussian, x, sigmas, unit_noise(0)), gaussian(x, sigmas[0]), atol=2e-3)


def unit_noise(seed: int, shape: tuple[int, ...] = (1, 4, 2, 2)) -> NoiseSource:
    generator = torch.Generator().manual_seed(seed)
    return lambda sigma, sigma_next: torch.randn(shape, generator=generator)


@pytest.mark.parametrize("name", [name for name in STOCHASTIC if name != "lcm" and not name.endswith("_gpu")])
def test_stochastic_samples_have_the_spread_of_the_data(name: str) -> None:
    shape = (1, 1, 100, 200)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * TABLE[-1]
    sigmas = sigmas_for("karras", 100 if name in PATHS else 300, TABLE)
    x = walk(name, gaussian, x, sigmas, noise_for(name, x, sigmas, (2,)))
    assert float(x.std()) == pytest.approx(STD, rel=0.03)


@pytest.mark.parametrize(
    ("sampler", "twin"),
    [(stochastic.dpmpp_2m_sde, "dpmpp_2m"), (adams.sa_solver, "sa_solver")],
)
def test_without_noise_a_stochastic_sampler_follows_the_flow(sampler: Any, twin: str) -> None:
    x, sigmas = torch.full((1, 4, 2, 2), 9.0, dtype=torch.float64), sigmas_for("karras", 40, TABLE)
    ours = sampler(gaussian, x, sigmas, zero_noise, lambda i, x0: None, eta=0.0)
    exact = x * STD / (STD**2 + sigmas[0] ** 2).sqrt()
    assert torch.allclose(ours, exact, rtol=2e-3)
    if twin == "dpmpp_2m":
        assert torch.allclose(ours, walk(twin, gaussian, x, sigmas), rtol=1e-5)


def zero_noise(sigma: Tensor, sigma_next: Tensor) -> Tensor:
    return torch.zeros(1, 4, 2, 2)


@pytest.mark.parametrize("name", OWN_STEPS)
def test_a_sampler_with_steps_of_its_own_ends_near_the_flow(name: str) -> None:
    steps: list[int] = []
    x, sigmas = torch.full((1, 4, 2, 2), 9.0), sigmas_for("karras", 30, TABLE)
    ours = sampler_of(name)(gaussian, x, sigmas, no_noise, lambda i, x0: steps.append(i))
    exact = x * ((STD**2 + sigmas[-2] ** 2) / (STD**2 + sigmas[0] ** 2)).sqrt()
    assert torch.allclose(ours, exact, rtol=5e-2)
    assert steps == list(range(len(steps))) and len(steps) > 5


def test_the_adaptive_sampler_takes_more_steps_for_less_error() -> None:
    x, sigmas = torch.full((1, 4, 2, 2), 9.0), sigmas_for("karras", 30, TABLE)
    exact = x * ((STD**2 + sigmas[-2] ** 2) / (STD**2 + sigmas[0] ** 2)).sqrt()
    errors, counts = [], []
    for rtol in (0.2, 0.002, 0.00002):
        last: list[int] = [0]
        found = dpm.dpm_adaptive(
            gaussian, x, sigmas, no_noise, lambda i, x0, last=last: last.append(i), rtol=rtol, atol=rtol / 8
        )
        errors.append(float((found - exact).abs().max()))
        counts.append(last[-1])
    assert counts[0] < counts[1] < counts[2]
    assert max(errors) < 0.01 and errors[2] < errors[0] / 2


# dpmpp_2s_ancestral_cfg_pp mixes the estimates of two places, as in ComfyUI 0.3.64, so it is not
@pytest.mark.parametrize("name", [name for name in CFG_PP if name != "dpmpp_2s_ancestral_cfg_pp"])
def test_with_one_estimate_cfg_pp_is_the_sampler_it_comes_from(name: str) -> None:
    x, sigmas = torch.full((1, 4, 2, 2), 9.0), sigmas_for("karras", 9, TABLE)

    def both(x: Tensor, sigma: Tensor) -> Estimate:
        return Estimate(smooth(x, sigma), smooth(x, sigma))

    ours = CFG_PP[name](both, x, sigmas, unit_noise(6), lambda i, x0: None)
    assert torch.allclose(ours, walk(name.removesuffix("_cfg_pp"), smooth, x, sigmas, unit_noise(6)), atol=1e-4)


def smooth(x: Tensor, sigma: Tensor) -> Tensor:
    return torch.tanh(x + 0.3 * x.flip(-1)) / (1 + sigma**2)


def test_cfg_pp_moves_by_the_noise_without_the_prompt() -> None:
    sigmas = torch.tensor([10.0, 4.0])
    x = torch.full((1, 4, 2, 2), 9.0)
    ours = CFG_PP["euler_cfg_pp"](
        lambda x, sigma: Estimate(x * 0 + 1, x * 0 - 1), x, sigmas, no_noise, lambda i, x0: None
    )
    assert torch.allclose(ours, torch.full_like(x, 1 + 4 * (9 + 1) / 10))


def test_the_alternative_euler_cfg_pp_steps_from_the_latent() -> None:
    sigmas = torch.tensor([10.0, 4.0])
    x = torch.full((1, 4, 2, 2), 9.0)
    ours = cfgpp.euler_cfg_pp(
        lambda x, sigma: Estimate(x * 0 + 1, x * 0 - 1), x, sigmas, no_noise, lambda i, x0: None, from_x=True
    )
    assert torch.allclose(ours, torch.full_like(x, 9 + ((9 - 1 - 1) - 1) / 10 * (4 - 10)))


def test_ddpm_is_euler_ancestral() -> None:
    x, sigmas = torch.full((1, 4, 2, 2), 9.0), sigmas_for("normal", 9, TABLE)
    a, b = (walk(name, bent, x, sigmas, unit_noise(4)) for name in ("ddpm", "euler_ancestral"))
    assert torch.allclose(a, b, atol=1e-5)


def test_ddim_is_euler_bit_for_bit() -> None:
    x, sigmas = torch.full((1, 4, 2, 2), 9.0), sigmas_for("normal", 9, TABLE)
    assert torch.equal(walk("ddim", bent, x, sigmas), walk("euler", bent, x, sigmas))


def test_lcm_noises_its_estimate_to_the_next_sigma() -> None:
    sigmas = torch.tensor([10.0, 4.0])
    x = torch.full((1, 4, 2, 2), 9.0)
    expected = gaussian(x, sigmas[0]) + 4 * unit_noise(3)(*sigmas)
    assert torch.equal(walk("lcm", gaussian, x, sigmas, unit_noise(3)), expected)


def test_an_ancestral_step_adds_up_to_the_next_sigma() -> None:
    for sigma, sigma_next in ((10.0, 4.0), (1.0, 0.99), (0.1, 0.0), (3.0, 3.0)):
        down, up = ancestral_step(torch.tensor(sigma), torch.tensor(sigma_next))
        assert float((down**2 + up**2).sqrt()) == pytest.approx(sigma_next, abs=1e-6)
        assert float(down) <= sigma_next + 1e-6


def test_every_named_sampler_exists_in_order() -> None:
    assert tuple(name for name in names.SAMPLERS if name not in CFG_PP) == tuple(SAMPLERS)
    assert set(names.SAMPLERS) == {*SAMPLERS, *CFG_PP}
    assert {*ORDERS, *STOCHASTIC, *OWN_STEPS} == set(SAMPLERS)


def test_an_unknown_sampler_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="sampler 'eulr' is unknown; did you mean 'euler'"):
        sampler_of("eulr")
    with pytest.raises(ValueError, match="sampler 'zzz' is unknown; expected one of euler, "):
        sampler_of("zzz")


# --- options ----------------------------------------------------------------------------------------------------

PARAMETRISATION = discrete("eps", zero_snr=False)
BELOW = torch.linspace(-1.5, 1.5, 16, dtype=torch.float64).reshape(1, 4, 2, 2)


def walk_with(name: str, sigmas: Tensor, noise: NoiseSource, options: dict[str, Any] | None = None) -> Tensor:
    """A walk of a guided sampler over a denoiser that is not linear, both of whose estimates differ."""

    def both(x: Tensor, sigma: Tensor) -> Estimate:
        return Estimate(smooth(x, sigma), 0.9 * smooth(x, sigma))

    walk = sampler_for(name, PARAMETRISATION, options or {})
    return walk(both, BELOW * sigmas[0], sigmas, noise, lambda i, x0: None)


def ignored(sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """Noise that must come to nothing."""
    return torch.full((1, 4, 2, 2), 1e3, dtype=torch.float64)


STILL = {"eta": 0.0}
TWINS: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("euler_ancestral", STILL, "euler", {}),
    ("euler_ancestral_cfg_pp", STILL, "euler_cfg_pp", {}),
    ("res_multistep_ancestral", STILL, "res_multistep", {}),
    ("res_multistep_ancestral_cfg_pp", STILL, "res_multistep_cfg_pp", {}),
    ("dpmpp_2m_sde", STILL, "dpmpp_2m", {}),
    ("dpmpp_sde", STILL, "dpmpp_2s_ancestral", STILL),
    ("seeds_2", STILL, "dpmpp_2s_ancestral", STILL),
    ("er_sde", {"eta": 0.0, "s_noise": 0.0, "max_stage": 1}, "euler", {}),
    ("sa_solver", {"eta": 0.0, "predictor": 1, "corrector": 0}, "euler", {}),
    ("lms", {"order": 1}, "euler", {}),
    ("lms", {"order": 4}, "lms", {}),
    ("gradient_estimation_cfg_pp", {"gamma": 1.0}, "euler_cfg_pp", {}),
    ("dpmpp_2m_sde", {"heun": True, "eta": 0.5}, "dpmpp_2m_sde_heun", {"eta": 0.5}),
    ("sa_solver", {"again": True}, "sa_solver_pece", {}),
    ("sa_solver", {"percents": (0.2, 0.8)}, "sa_solver", {}),
]


@pytest.mark.parametrize(("name", "options", "twin", "theirs"), TWINS, ids=str)
def test_with_such_options_a_sampler_is_another(
    name: str, options: dict[str, Any], twin: str, theirs: dict[str, Any]
) -> None:
    sigmas = sigmas_for("karras", 9, TABLE)
    is_still = options.get("eta") == 0 or name == "lms"
    noises = [ignored, ignored] if is_still else [unit_noise(3), unit_noise(3)]
    found = walk_with(name, sigmas, noises[0], options)
    torch.testing.assert_close(found, walk_with(twin, sigmas, noises[1], theirs), rtol=2e-5, atol=2e-5)


def test_without_eta_dpmpp_2s_is_the_papers_second_order_step() -> None:
    sigma, sigma_next = torch.tensor(4.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    x = BELOW * 4
    middle = torch.tensor(2.0, dtype=torch.float64)  # half way in log sigma
    y = middle / sigma * x + (1 - middle / sigma) * smooth(x, sigma)
    expected = sigma_next / sigma * x + (1 - sigma_next / sigma) * smooth(y, middle)
    found = walk_with("dpmpp_2s_ancestral", torch.stack([sigma, sigma_next]), ignored, STILL)
    torch.testing.assert_close(found, expected)


def test_the_noise_is_scaled_by_s_noise() -> None:
    sigmas = sigmas_for("karras", 6, TABLE)[:3]
    for name in (
        "euler_ancestral",
        "dpmpp_2m_sde",
        "dpmpp_3m_sde",
        "res_multistep_ancestral",
        "euler_ancestral_cfg_pp",
    ):
        first = sigmas[:2]
        ones = lambda sigma, sigma_next: torch.ones(1, 4, 2, 2, dtype=torch.float64)  # noqa: E731
        none, once, twice = (walk_with(name, first, ones, {"s_noise": factor}) for factor in (0.0, 1.0, 2.0))
        torch.testing.assert_close(twice - none, 2 * (once - none))
        assert float((once - none).mean()) > 0.1
    still = walk_with("er_sde", sigmas, ignored, {"s_noise": 0.0})
    assert float(still.abs().max()) < 100


def test_the_scale_of_the_reverse_sde_noise_is_a_power_of_sigma() -> None:
    sigma, sigma_next = 4.0, 1.0
    sigmas = torch.tensor([sigma, sigma_next], dtype=torch.float64)
    for eta in (0.5, 1.0, 2.0):
        r = (sigma_next / sigma) ** (1 + eta)
        mean = r * BELOW * 4 + (1 - r) * smooth(BELOW * 4, sigmas[0])
        deviation = math.sqrt(sigma_next**2 - sigma**2 * r**2)
        found = walk_with("er_sde", sigmas, unit_noise(8), {"eta": eta, "s_noise": 0.5})
        torch.testing.assert_close(found, mean + 0.5 * deviation * unit_noise(8)(sigmas[0], sigmas[1]))


def test_the_ode_of_er_sde_follows_the_flow_with_each_stage_nearer() -> None:
    sigmas = 0.1 + 9.9 * torch.linspace(1, 0, 41, dtype=torch.float64) ** 3
    x = torch.full((1, 4, 2, 2), 10.0, dtype=torch.float64)
    exact = x * ((STD**2 + sigmas[-1] ** 2) / (STD**2 + sigmas[0] ** 2)).sqrt()
    errors: list[float] = []
    for stages in (1, 2, 3):
        found = stochastic.er_sde(
            gaussian, x, sigmas, zero_noise, lambda i, x0: None, eta=0.0, s_noise=0.0, max_stage=stages
        )
        errors.append(float((found - exact).abs().max()))
    assert errors[0] > 2 * errors[1] and errors[1] > errors[2] and errors[2] < 0.01


def test_sa_solver_is_stochastic_between_its_percents_alone() -> None:
    sigmas = sigmas_for("karras", 9, TABLE)
    drawn: list[float] = []

    def noise(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        drawn.append(float(sigma_next))
        return torch.zeros(1, 4, 2, 2)

    walk_with("sa_solver", sigmas, noise)
    high, low = PARAMETRISATION.sigma_at(0.2), PARAMETRISATION.sigma_at(0.8)
    assert drawn == [float(sigma) for sigma in sigmas[1:-1] if low <= sigma <= high] and 0 < len(drawn) < 8
    drawn.clear()
    walk_with("sa_solver", sigmas, noise, {"percents": (0.0, 1.0)})
    assert drawn == sigmas[1:-1].tolist()


def test_an_order_beyond_the_steps_is_as_many_as_there_are() -> None:
    sigmas = sigmas_for("karras", 6, TABLE)
    assert torch.equal(
        walk_with("lms", sigmas, no_noise, {"order": 100}), walk_with("lms", sigmas, no_noise, {"order": 6})
    )


def test_an_unknown_sampler_is_told_before_it_walks() -> None:
    with pytest.raises(ValueError, match="sampler 'eulr' is unknown; did you mean 'euler'"):
        sampler_for("eulr", PARAMETRISATION, {})


@pytest.mark.parametrize("name", ["euler_ancestral", "dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde_gpu"])
def test_with_a_seed_each_an_item_of_a_batch_has_the_noise_it_has_alone(name: str) -> None:
    x, sigmas = torch.zeros(3, 4, 2, 2), sigmas_for("karras", 5, TABLE)
    together = noise_for(name, x, sigmas, (4, 9, 4))
    alone = {seed: noise_for(name, x[:1], sigmas, (seed,)) for seed in (4, 9)}
    for i in range(3):
        step = sigmas[i], sigmas[i + 1]
        found, (first, second) = together(*step), (alone[seed](*step) for seed in (4, 9))
        assert torch.equal(found, torch.cat([first, second, first])) and not torch.equal(first, second)


def test_one_seed_is_one_draw_for_the_batch() -> None:
    x, sigmas = torch.zeros(2, 4, 2, 2), sigmas_for("karras", 5, TABLE)
    expected = torch.randn((2, 4, 2, 2), generator=torch.Generator().manual_seed(4))
    assert torch.equal(noise_for("euler_ancestral", x, sigmas, (4,))(sigmas[0], sigmas[1]), expected)


# --- against diffusers ------------------------------------------------------------------------------------------


def predicted_noise(z: Tensor, t: float) -> Tensor:
    """Stands for a UNet: some smooth function of a unit-variance latent and the training step."""
    return 0.8 * torch.tanh(z + 0.3 * z.flip(-1)) + 0.1 * math.sin(t / 90)


def bent(x: Tensor, sigma: Tensor) -> Tensor:
    return x - sigma * predicted_noise(x / (sigma**2 + 1).sqrt(), float(t_of_sigma(sigma, TABLE)))


SPACED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "timestep_spacing": "leading"}
EXACT_END = {"set_alpha_to_one": False, "steps_offset": 1}
START = torch.randn((1, 4, 3, 3), generator=torch.Generator().manual_seed(5))


def theirs(scheduler: Any, steps: int, x: Tensor, **options: Any) -> Tensor:
    """A walk with one of diffusers' schedulers, as its pipelines do it."""
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        z = scheduler.scale_model_input(x, t)
        x = scheduler.step(predicted_noise(z, float(t)), t, x, **options).prev_sample
    return x


def sigmas_of(scheduler: Any, steps: int, last: float) -> Tensor:
    """The sigmas of a scheduler's training steps, each once, then `last`."""
    scheduler.set_timesteps(steps)
    places = list(dict.fromkeys(int(t) for t in scheduler.timesteps))
    return torch.cat([TABLE[places], torch.tensor([last])])


def assert_near(ours: Tensor, expected: Tensor) -> None:
    assert float((ours - expected).norm() / expected.norm()) < 2e-5


VP_CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("pndm", "PNDMScheduler", {"skip_prk_steps": True, **EXACT_END}),
    ("ddim", "DDIMScheduler", {"clip_sample": False, **EXACT_END}),
    ("uni_pc", "UniPCMultistepScheduler",
     {"solver_order": 3, "solver_type": "bh1", "final_sigmas_type": "sigma_min", "steps_offset": 1}),
    ("uni_pc_bh2", "UniPCMultistepScheduler",
     {"solver_order": 3, "solver_type": "bh2", "final_sigmas_type": "sigma_min", "steps_offset": 1}),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("name", "scheduler", "config"), VP_CASES)
@pytest.mark.parametrize("steps", [5, 10, 20])
def test_variance_preserving_schedulers_of_diffusers_agree(
    name: str, scheduler: str, config: dict[str, Any], steps: int
) -> None:
    diffusers = pytest.importorskip("diffusers")
    peer = getattr(diffusers, scheduler)(**SPACED, **config)
    sigmas = sigmas_of(peer, steps, float(TABLE[0]))
    expected = theirs(peer, steps, START)
    ours = walk(name, bent, START * (sigmas[0] ** 2 + 1).sqrt(), sigmas)
    assert_near(ours / (sigmas[-1] ** 2 + 1).sqrt(), expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_dpmpp_2m_of_diffusers_agrees() -> None:
    diffusers = pytest.importorskip("diffusers")
    peer = diffusers.DPMSolverMultistepScheduler(**SPACED, steps_offset=1, final_sigmas_type="zero")
    sigmas = sigmas_of(peer, 10, 0.0)
    assert_near(walk("dpmpp_2m", bent, START * (sigmas[0] ** 2 + 1).sqrt(), sigmas), theirs(peer, 10, START))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["Euler", "Heun"])
def test_variance_exploding_schedulers_of_diffusers_agree(name: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    peer = getattr(diffusers, f"{name}DiscreteScheduler")(**SPACED, steps_offset=1)
    sigmas = sigmas_of(peer, 10, 0.0)
    x = START * sigmas[0]
    assert_near(walk(name.lower(), bent, x, sigmas), theirs(peer, 10, x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_lms_of_diffusers_agrees_until_the_step_to_zero() -> None:
    """Ours goes to x0 there, theirs extrapolates."""
    diffusers = pytest.importorskip("diffusers")
    peer = diffusers.LMSDiscreteScheduler(**SPACED, steps_offset=1)
    sigmas = sigmas_of(peer, 10, 0.0)
    x = expected = START * sigmas[0]
    for t in peer.timesteps[:-1]:
        noise = predicted_noise(peer.scale_model_input(expected, t), float(t))
        expected = peer.step(noise, t, expected).prev_sample
    assert_near(walk("lms", bent, x, sigmas[:-1]), expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["euler_ancestral", "ddpm"])
def test_ancestral_schedulers_of_diffusers_agree(name: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    make: Callable[..., Any] = diffusers.EulerAncestralDiscreteScheduler
    options: dict[str, Any] = {"steps_offset": 0}
    if name == "ddpm":
        make, options = diffusers.DDPMScheduler, {"clip_sample": False, "steps_offset": 0}
    peer = make(**SPACED, **options)
    sigmas = sigmas_of(peer, 10, 0.0)
    size = sigmas[0] if name == "euler_ancestral" else (sigmas[0] ** 2 + 1).sqrt()
    start = START * sigmas[0] if name == "euler_ancestral" else START
    expected = theirs(peer, 10, start, generator=torch.Generator().manual_seed(9))
    generator = torch.Generator().manual_seed(9)
    ours = walk(name, bent, START * size, sigmas, lambda a, b: torch.randn(START.shape, generator=generator))
    assert_near(ours, expected)
