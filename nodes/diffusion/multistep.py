"""Samplers that remember earlier steps: one model evaluation a step, higher order than Euler's.

Their contract is in `contract.py`. Coefficients are worked out in float64 on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from nodes.diffusion.contract import Denoise, NoiseSource, OnStep, ancestral_step, slope

ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""Weights of the newest slope, the one before it, ... for equal steps, by order (Hairer et al. 1993, III.1)."""

_KEPT = 4  # slopes
Weights = Callable[[list[float], int], Sequence[float]]
"""From all sigmas and the number of the step: how much the newest slope, the one before, ... count in its mean."""


def _sample_slopes(denoise: Denoise, x: Tensor, sigmas: Tensor, on_step: OnStep, weights: Weights) -> Tensor:
    """Steps along a weighted mean of the last slopes; the weights' number says how many.

    The step to 0 takes the last slope alone, which leads to x0: beyond the data a polynomial has nothing to follow.
    """
    levels = sigmas.double().tolist()
    slopes: list[Tensor] = []
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, sigma)
        shares = weights(levels, i) if sigma_next > 0 else [1.0]
        slopes = [slope(x, sigma, x0), *slopes]
        mean = sum(share * d for share, d in zip(shares, slopes, strict=False))
        slopes = slopes[: max(len(shares), _KEPT)]
        x = x + mean * (sigma_next - sigma)
        on_step(i, x0)
    return x


def lms(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep, *, order: int = 4) -> Tensor:
    """Linear multistep: Adams-Bashforth on the sigmas as they are spaced (k-diffusion, `sample_lms`)."""
    return _sample_slopes(denoise, x, sigmas, on_step, lambda sigmas, i: _lms_weights(sigmas, i, order))


def _lms_weights(sigmas: list[float], i: int, order: int) -> Sequence[float]:
    nodes = sigmas[max(0, i + 1 - order) : i + 1][::-1]
    start, end = sigmas[i], sigmas[i + 1]
    # As many Gauss-Legendre points as make the Lagrange polynomials' integrals exact.
    places, shares = np.polynomial.legendre.leggauss((len(nodes) + 1) // 2)
    points = ((start + end) / 2 + places * (end - start) / 2).tolist()
    return [sum(share * _lagrange(nodes, j, point) for point, share in zip(points, shares / 2, strict=True))
            for j in range(len(nodes))]  # fmt: skip


def _lagrange(nodes: Sequence[float], j: int, at: float) -> float:
    """The polynomial that is 1 at node j and 0 at the others."""
    return math.prod((at - node) / (nodes[j] - node) for k, node in enumerate(nodes) if k != j)


def ipndm(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """Improved PNDM: order 4 as if steps were equal, started with lower orders (Zhang & Chen 2023, "DEIS", iPNDM)."""
    return _sample_slopes(denoise, x, sigmas, on_step, lambda sigmas, i: ADAMS_BASHFORTH[min(i, 3)])


def ipndm_v(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """The iPNDM with weights for unequal steps (zju-pi/diff-sampler, Apache-2.0, `ipndm_v_sampler`).

    Its weights of orders 3 and 4 are not Adams-Bashforth's on unequal steps; they are kept, so that pictures agree.
    """
    return _sample_slopes(denoise, x, sigmas, on_step, _ipndm_v_weights)


def _ipndm_v_weights(sigmas: list[float], i: int) -> Sequence[float]:
    steps = [b - a for a, b in pairwise(sigmas)]
    order = min(i, 3) + 1
    if order == 1:
        return [1.0]
    h, h1 = steps[i], steps[i - 1]
    ratio = h / h1
    if order == 2:
        return [1 + ratio / 2, -ratio / 2]
    h2 = steps[i - 2]
    third = (1 - h * h / (3 * h1 * (h1 + h2))) / 2
    if order == 3:
        return [1 + ratio / 2 + third, -ratio / 2 - (1 + h1 / h2) * third, third * h1 / h2]
    h3 = steps[i - 3]
    fourth = (1 - h / (3 * (h + h1))) / 2 + (1 - h / (2 * (h + h1))) * h / (6 * (h + h1 + h2))
    fourth *= h * (h + h1) * (h + h1 + h2) / (h1 * (h1 + h2) * (h1 + h2 + h3))
    far = h1 * (h1 + h2) / (h2 * (h2 + h3))
    return [
        1 + ratio / 2 + third + fourth,
        -ratio / 2 - (1 + h1 / h2) * third - (1 + h1 / h2 + far) * fourth,
        third * h1 / h2 + (h1 / h2 + far * (1 + h2 / h3)) * fourth,
        -fourth * far * h1 / h2,
    ]


def deis(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """tAB-DEIS of order 3 (Zhang & Chen 2023, "Fast Sampling of Diffusion Models with Exponential Integrator").

    Slopes are extrapolated as polynomials in the time of a variance-preserving process, not in sigma.
    """
    return _sample_slopes(denoise, x, sigmas, on_step, _deis_weights)


def _deis_weights(sigmas: list[float], i: int, points: int = 2000) -> Sequence[float]:
    """Means over sigma of the Lagrange polynomials in time, by the midpoint rule."""
    if i == 0:
        return [1.0]
    start, end = sigmas[i], sigmas[i + 1]
    nodes = _vp_time(torch.tensor(sigmas[max(0, i - 2) : i + 1][::-1], dtype=torch.float64)).tolist()
    places = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    times = _vp_time(start + places * (end - start))
    means: list[float] = []
    for j, node in enumerate(nodes):
        others = [other for k, other in enumerate(nodes) if k != j]
        terms = [(times - other) / (node - other) for other in others]
        means.append(float(torch.stack(terms).prod(dim=0).mean()))
    return means


def _vp_time(sigma: Tensor, low: float = 0.002, high: float = 80.0, epsilon: float = 1e-3) -> Tensor:
    """The time of the VP process of Karras et al. 2022 (table 1) that runs from `low` at epsilon to `high` at 1."""
    log_low, log_high = math.log1p(low**2), math.log1p(high**2)
    beta_d = 2 * (log_low / epsilon - log_high) / (epsilon - 1)
    beta_min = log_high - beta_d / 2
    return ((beta_min**2 + 2 * beta_d * (sigma**2).log1p()).sqrt() - beta_min) / beta_d


def pndm(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """Pseudo linear multistep (Liu et al. 2022, "Pseudo Numerical Methods for Diffusion Models").

    Its transfer between noise levels is an Euler step in sigma along the mean slope. The first step is an
    improved Euler step in place of Runge-Kutta's four calls, as in CompVis' PLMS and diffusers' `skip_prk_steps`, so
    there is one call more than steps. On training steps equally spaced it is diffusers' `PNDMScheduler`.
    """
    slopes: list[Tensor] = []
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, sigma)
        slopes = [slope(x, sigma, x0), *slopes[:3]]
        if i == 0 and sigma_next > 0:
            x_next = x + slopes[0] * (sigma_next - sigma)
            mean = (slopes[0] + slope(x_next, sigma_next, denoise(x_next, sigma_next))) / 2
        else:
            mean = sum(weight * d for weight, d in zip(ADAMS_BASHFORTH[len(slopes) - 1], slopes, strict=True))
        x = x + mean * (sigma_next - sigma)
        on_step(i, x0)
    return x


def gradient_estimation(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """Euler along 2 d - d_before, an estimate of the slope's direction at x0 (Permenter & Yuan 2024, gamma = 2)."""
    return _sample_slopes(denoise, x, sigmas, on_step, lambda sigmas, i: [2.0, -1.0] if i else [1.0])


def dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022b, algorithm 2; k-diffusion, `sample_dpmpp_2m`)."""
    x0_before: Tensor | None = None
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, sigma)
        target = x0
        if x0_before is not None and sigma_next > 0:
            r = (sigmas[i - 1] / sigma).log() / (sigma / sigma_next).log()
            target = x0 + (x0 - x0_before) / (2 * r)
        x = target + sigma_next / sigma * (x - target)
        x0_before = x0
        on_step(i, x0)
    return x


def res_multistep(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep,
    *, eta: float = 0.0, s_noise: float = 1.0,
) -> Tensor:  # fmt: skip
    """Refined exponential solver of order 2, multistep; with `eta` it goes below the next sigma and is noised up again.

    Source: Zhang et al. 2023, "Improved Order Analysis and Design of Exponential Integrator for Diffusion Models
    Sampling", in NVIDIA Cosmos' form: the weights are phi functions of the step h in log sigma.
    """
    x0_before, down_before = None, sigmas[0]
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, sigma)
        down, up = ancestral_step(sigma, sigma_next, eta) if eta else (sigma_next, None)
        if x0_before is None or down == 0:
            x = x + slope(x, sigma, x0) * (down - sigma)
        else:
            new, old = refined_weights(sigma, down, sigmas[i - 1], down_before)
            x = down / sigma * x + new * x0 + old * x0_before
        if up is not None and sigma_next > 0:
            x = x + noise(sigma, sigma_next) * s_noise * up
        x0_before, down_before = x0, down
        on_step(i, x0)
    return x


def refined_weights(sigma: Tensor, down: Tensor, sigma_before: Tensor, down_before: Tensor) -> tuple[float, float]:
    """How much the last two estimates count in a step of `res_multistep` from sigma to `down`, the newer first."""
    h = math.log(sigma / down)
    c2 = math.log(down_before / sigma_before) / h
    phi1 = math.expm1(-h) / -h
    old = (phi1 - 1) / -h / c2 if c2 else 0.0
    return h * (phi1 - old), h * old
