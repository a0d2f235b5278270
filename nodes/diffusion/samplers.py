"""Samplers by name, and those that need no memory of earlier steps. Their contract is in `contract.py`.

Multistep methods are in `multistep.py` and `unipc.py`. Where no other source is named the method is k-diffusion's
(`k_diffusion/sampling.py`, MIT), without churn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from nodegraph.errors import did_you_mean
from nodes.diffusion import adams, cfgpp, dpm, multistep, stochastic, unipc
from nodes.diffusion.contract import (
    Denoise,
    GuidedDenoise,
    GuidedSampler,
    NoiseSource,
    OnStep,
    Sampler,
    ancestral_step,
    slope,
)
from nodes.diffusion.names import SAMPLERS as NAMES
from nodes.diffusion.noise import brownian_noise, step_noise
from nodes.diffusion.parametrisation import Parametrisation

_BROWNIAN = ("dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde")
_RANDOM_BETWEEN = 0.2, 0.8  # percents between which sa_solver is stochastic by default


def sampler_of(name: str) -> Sampler:
    """The sampler of that name.

    Raises:
        ValueError: there is none; the message names the nearest.
    """
    if name not in SAMPLERS:
        hint = did_you_mean(name, NAMES) or f"expected one of {', '.join(NAMES)}"
        raise ValueError(f"sampler {name!r} is unknown; {hint}")
    return SAMPLERS[name]


def sampler_for(name: str, parametrisation: Parametrisation, options: Mapping[str, Any]) -> GuidedSampler:
    """The sampler of that name for a model, with the options of its function.

    Raises:
        ValueError: there is none; the message names the nearest.
    """
    if name in CFG_PP:
        return partial(CFG_PP[name], **options)
    if name.startswith("sa_solver"):  # stochastic in the middle of the way alone
        options = {"percents": _RANDOM_BETWEEN, "again": name.endswith("pece"), **options}
        first, last = options.pop("percents")
        options["between"] = parametrisation.sigma_at(first), parametrisation.sigma_at(last)
    sampler: Sampler = partial(sampler_of(name), **options)

    def walk(denoise: GuidedDenoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep) -> Tensor:
        return sampler(lambda x, sigma: denoise(x, sigma).x0, x, sigmas, noise, on_step)

    return walk


def noise_for(name: str, x: Tensor, sigmas: Tensor, seeds: Sequence[int]) -> NoiseSource:
    """Where a sampler takes its noise from; some from one Brownian path, with `_gpu` drawn on the device of x.

    With a seed for each item of the batch, each has a source of its own.
    """
    if len(seeds) > 1:
        sources = [noise_for(name, item[None], sigmas, (seed,)) for item, seed in zip(x, seeds, strict=True)]
        return lambda sigma, sigma_next: torch.cat([source(sigma, sigma_next) for source in sources])
    if not name.startswith(_BROWNIAN):
        return step_noise(x, seeds[0])
    return brownian_noise(x, sigmas, seeds[0], x.device if name.endswith("_gpu") else "cpu")


def euler(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """Euler steps along the probability flow (Karras et al. 2022, algorithm 2 without the correction).

    In sigma this is DDIM without noise (Song et al. 2021, eq. 13), so it serves under both names.
    """
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, sigma)
        x = x + slope(x, sigma, x0) * (sigma_next - sigma)
        on_step(i, x0)
    return x


def euler_ancestral(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep,
    *, eta: float = 1.0, s_noise: float = 1.0,
) -> Tensor:  # fmt: skip
    """Euler steps that go below the next sigma and are noised back up to it."""
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, sigma)
        down, up = ancestral_step(sigma, sigma_next, eta)
        x = x + slope(x, sigma, x0) * (down - sigma)
        if down > 0:
            x = x + noise(sigma, sigma_next) * s_noise * up
        on_step(i, x0)
    return x


def ddpm(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """Draws from the posterior of DDPM (Ho et al. 2020, eq. 6 and 7) in x = x0 + sigma * noise.

    There its mean is x0 + (next / sigma)^2 (x - x0): `euler_ancestral` up to rounding.
    """
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, sigma)
        x = x0 + (sigma_next / sigma) ** 2 * (x - x0)
        if sigma_next > 0:
            x = x + noise(sigma, sigma_next) * ancestral_step(sigma, sigma_next)[1]
        on_step(i, x0)
    return x


def heun(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """Heun's trapezoidal steps, the last an Euler step (Karras et al. 2022, algorithm 2)."""
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, sigma)
        d = slope(x, sigma, x0)
        x_next = x + d * (sigma_next - sigma)
        if sigma_next > 0:
            d_next = slope(x_next, sigma_next, denoise(x_next, sigma_next))
            x_next = x + (d + d_next) / 2 * (sigma_next - sigma)
        x = x_next
        on_step(i, x0)
    return x


def heunpp2(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """Heun with slopes from one and two steps ahead, weighted by their sigmas; Euler at the end.

    Source: Heun++ 2 of Carzit/sd-webui-samplers-scheduler. The weight of a slope is its sigma's share of the number of
    slopes times the largest sigma; what is left goes to the slope here.
    """
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, sigma)
        slopes = [slope(x, sigma, x0)]
        weights: list[Tensor] = []
        x_ahead = x
        ahead = sigmas[i + 1 : -1][:2]
        for j, sigma_ahead in enumerate(ahead):
            x_ahead = x_ahead + slopes[-1] * (sigma_ahead - sigmas[i + j])
            slopes.append(slope(x_ahead, sigma_ahead, denoise(x_ahead, sigma_ahead)))
            weights.append(sigma_ahead / ((len(ahead) + 1) * sigmas[0]))
        d = slopes[0]
        for weight, later in zip(weights, slopes[1:], strict=True):
            d = d + (later - slopes[0]) * weight
        x = x + d * (sigma_next - sigma)
        on_step(i, x0)
    return x


def _midpoint(denoise: Denoise, x: Tensor, sigma: Tensor, sigma_next: Tensor, x0: Tensor) -> Tensor:
    """A DPM-Solver-2 step through the geometric mean of two positive sigmas (Lu et al. 2022, algorithm 1)."""
    d = slope(x, sigma, x0)
    if sigma_next == 0:
        return x + d * (sigma_next - sigma)
    middle = sigma.log().lerp(sigma_next.log(), 0.5).exp()
    x_middle = x + d * (middle - sigma)
    return x + slope(x_middle, middle, denoise(x_middle, middle)) * (sigma_next - sigma)


def dpm_2(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """DPM-Solver-2 steps on Karras et al.'s algorithm 2; the step to 0 is Euler's."""
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, sigma)
        x = _midpoint(denoise, x, sigma, sigma_next, x0)
        on_step(i, x0)
    return x


def dpm_2_ancestral(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """DPM-Solver-2 steps that go below the next sigma and are noised back up to it."""
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, sigma)
        down, up = ancestral_step(sigma, sigma_next)
        x = _midpoint(denoise, x, sigma, down, x0)
        if sigma_next > 0:
            x = x + noise(sigma, sigma_next) * up
        on_step(i, x0)
    return x


def dpmpp_2s_ancestral(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep,
    *, eta: float = 1.0, s_noise: float = 1.0,
) -> Tensor:  # fmt: skip
    """Ancestral DPM-Solver++(2S) steps (Lu et al. 2022b, algorithm 1, r = 1/2)."""
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, sigma)
        down, up = ancestral_step(sigma, sigma_next, eta)
        if down == 0:
            x = x + slope(x, sigma, x0) * (down - sigma)
        else:
            middle = sigma.log().lerp(down.log(), 0.5).exp()
            x_middle = x0 + middle / sigma * (x - x0)
            x0_middle = denoise(x_middle, middle)
            x = x0_middle + down / sigma * (x - x0_middle)
        if sigma_next > 0:
            x = x + noise(sigma, sigma_next) * s_noise * up
        on_step(i, x0)
    return x


def lcm(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """Jumps to x0 and noises it back to the next sigma (Luo et al. 2023, "Latent Consistency Models", algorithm 3)."""
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x = x0 = denoise(x, sigma)
        if sigma_next > 0:
            x = x0 + noise(sigma, sigma_next) * sigma_next
        on_step(i, x0)
    return x


_BY_NAME: dict[str, Sampler] = {
    "euler": euler,
    "euler_ancestral": euler_ancestral,
    "heun": heun,
    "heunpp2": heunpp2,
    "dpm_2": dpm_2,
    "dpm_2_ancestral": dpm_2_ancestral,
    "lms": multistep.lms,
    "dpmpp_2s_ancestral": dpmpp_2s_ancestral,
    "dpm_fast": dpm.dpm_fast,
    "dpm_adaptive": dpm.dpm_adaptive,
    "dpmpp_sde": stochastic.dpmpp_sde,
    "dpmpp_sde_gpu": stochastic.dpmpp_sde,
    "dpmpp_2m": multistep.dpmpp_2m,
    "dpmpp_2m_sde": stochastic.dpmpp_2m_sde,
    "dpmpp_2m_sde_gpu": stochastic.dpmpp_2m_sde,
    "dpmpp_2m_sde_heun": partial(stochastic.dpmpp_2m_sde, heun=True),
    "dpmpp_2m_sde_heun_gpu": partial(stochastic.dpmpp_2m_sde, heun=True),
    "dpmpp_3m_sde": stochastic.dpmpp_3m_sde,
    "dpmpp_3m_sde_gpu": stochastic.dpmpp_3m_sde,
    "ddpm": ddpm,
    "lcm": lcm,
    "ipndm": multistep.ipndm,
    "ipndm_v": multistep.ipndm_v,
    "deis": multistep.deis,
    "res_multistep": multistep.res_multistep,
    "res_multistep_ancestral": partial(multistep.res_multistep, eta=1.0),
    "gradient_estimation": multistep.gradient_estimation,
    "er_sde": stochastic.er_sde,
    "seeds_2": stochastic.seeds_2,
    "seeds_3": stochastic.seeds_3,
    "sa_solver": adams.sa_solver,
    "sa_solver_pece": partial(adams.sa_solver, again=True),
    "ddim": euler,
    "uni_pc": unipc.uni_pc,
    "uni_pc_bh2": unipc.uni_pc_bh2,
    "pndm": multistep.pndm,
}
SAMPLERS: Mapping[str, Sampler] = MappingProxyType({name: _BY_NAME[name] for name in NAMES if name in _BY_NAME})
"""Samplers by name, in ComfyUI's order, then ours; but for those of CFG++."""

CFG_PP: Mapping[str, GuidedSampler] = MappingProxyType(
    {
        "euler_cfg_pp": cfgpp.euler_cfg_pp,
        "euler_ancestral_cfg_pp": partial(cfgpp.euler_cfg_pp, eta=1.0),
        "dpmpp_2s_ancestral_cfg_pp": cfgpp.dpmpp_2s_ancestral_cfg_pp,
        "dpmpp_2m_cfg_pp": cfgpp.dpmpp_2m_cfg_pp,
        "res_multistep_cfg_pp": cfgpp.res_multistep_cfg_pp,
        "res_multistep_ancestral_cfg_pp": partial(cfgpp.res_multistep_cfg_pp, eta=1.0),
        "gradient_estimation_cfg_pp": cfgpp.gradient_estimation_cfg_pp,
    }
)
"""Samplers that step by both estimates."""
