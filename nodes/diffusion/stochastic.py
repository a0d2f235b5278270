"""Samplers of the reverse stochastic differential equation, in data prediction.

Their contract is in `contract.py`. In x = x0 + sigma * noise the half log-SNR is lambda = -log sigma; `eta` scales how
stochastic a step is, 0 leaves the probability flow, and `s_noise` scales the noise it adds. A step of length h keeps
sigma_next / sigma * exp(-eta h) of x, the rest comes from estimates of x0.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from nodes.diffusion.contract import Denoise, NoiseSource, OnStep, ancestral_step


def dpmpp_sde(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep,
    *, eta: float = 1.0, s_noise: float = 1.0, r: float = 0.5,
) -> Tensor:  # fmt: skip
    """DPM-Solver++ with noise, two evaluations a step (Lu et al. 2022b; k-diffusion, `sample_dpmpp_sde`)."""
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, sigma)
        on_step(i, x0)
        if sigma_next == 0:
            return x0
        start, end = -sigma.log(), -sigma_next.log()
        middle = (-(start + r * (end - start))).exp()
        down, up = ancestral_step(sigma, middle, eta)
        y = down / sigma * (x - x0) + x0 + noise(sigma, middle) * s_noise * up
        x0 = torch.lerp(x0, denoise(y, middle), 1 / (2 * r))
        down, up = ancestral_step(sigma, sigma_next, eta)
        x = down / sigma * (x - x0) + x0 + noise(sigma, sigma_next) * s_noise * up
    return x


def dpmpp_2m_sde(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep,
    *, eta: float = 1.0, s_noise: float = 1.0, heun: bool = False,
) -> Tensor:  # fmt: skip
    """DPM-Solver++(2M) with noise (Lu et al. 2022b; k-diffusion, `sample_dpmpp_2m_sde`), one evaluation a step.

    Its correction is that of the midpoint rule, or with `heun` the exact one for an x0 linear in lambda.
    """
    before: Tensor | None = None
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, sigma)
        on_step(i, x0)
        if sigma_next == 0:
            return x0
        h = (sigma / sigma_next).log()
        target = -(-h * (eta + 1)).expm1()  # the part of x that is new
        x = _kept(h, sigma, sigma_next, eta) * x + target * x0
        if before is not None:
            difference = (x0 - before) * h / (sigmas[i - 1] / sigma).log()
            x = x + (1 - target / (h * (eta + 1)) if heun else target / 2) * difference
        x = x + noise(sigma, sigma_next) * s_noise * _added(h, sigma_next, eta)
        before = x0
    return x


def dpmpp_3m_sde(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep,
    *, eta: float = 1.0, s_noise: float = 1.0,
) -> Tensor:  # fmt: skip
    """DPM-Solver++(3M) with noise (k-diffusion, `sample_dpmpp_3m_sde`): x0 is quadratic in lambda."""
    known: list[tuple[Tensor, Tensor]] = []  # the last estimates and the lengths of the steps after them, newest first
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, sigma)
        on_step(i, x0)
        if sigma_next == 0:
            return x0
        h = (sigma / sigma_next).log()
        whole = h * (eta + 1)
        phi2 = (-whole).expm1() / whole + 1
        x = _kept(h, sigma, sigma_next, eta) * x - (-whole).expm1() * x0
        if len(known) == 1:
            ((before, h1),) = known
            x = x + phi2 * (x0 - before) * h / h1
        elif known:
            (before, h1), (earlier, h2) = known
            r1, r2 = h1 / h, h2 / h
            slope, slope_before = (x0 - before) / r1, (before - earlier) / r2
            bend = (slope - slope_before) / (r1 + r2)
            x = x + phi2 * (slope + bend * r1) - (phi2 / whole - 0.5) * bend
        x = x + noise(sigma, sigma_next) * s_noise * _added(h, sigma_next, eta)
        known = [(x0, h), *known[:1]]
    return x


def er_sde(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep,
    *, s_noise: float = 1.0, max_stage: int = 3, eta: float | None = None,
) -> Tensor:  # fmt: skip
    """ER-SDE-Solver of up to three stages (Cui et al. 2023, "Elucidating the solution space of extended reverse-time
    SDE for diffusion models", with its function 5 as scale of the noise).

    With `eta` the scale is sigma^(1 + eta), that of the reverse-time SDE.
    """

    def scale(sigma: Tensor) -> Tensor:
        return sigma * ((sigma**0.3).exp() + 10) if eta is None else sigma ** (1 + eta)

    before: Tensor | None = None
    slope_before: Tensor | None = None
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, sigma)
        on_step(i, x0)
        if sigma_next == 0:
            return x0
        r = scale(sigma_next) / scale(sigma)
        x = r * x + (1 - r) * x0
        if before is not None and max_stage > 1:
            gap = sigma_next - sigma
            width = -gap / 200
            places = sigma_next + torch.arange(200) * width
            shares = width / scale(places)
            slope = (x0 - before) / (sigma - sigmas[i - 1])
            x = x + (gap + shares.sum() * scale(sigma_next)) * slope
            if slope_before is not None and max_stage > 2:
                bend = (slope - slope_before) / ((sigma - sigmas[i - 2]) / 2)
                moment = (shares * (places - sigma)).sum()
                x = x + (gap**2 / 2 + moment * scale(sigma_next)) * bend
            slope_before = slope
        variance = (sigma_next**2 - sigma**2 * r**2).clamp(min=0)
        x = x + noise(sigma, sigma_next) * s_noise * variance.sqrt()
        before = x0
    return x


def seeds_2(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep,
    *, eta: float = 1.0, s_noise: float = 1.0, r: float = 0.5,
) -> Tensor:  # fmt: skip
    """SEEDS of two stages (Gonzalez et al. 2023, arXiv:2305.14267)."""

    def stage(walk: _Walk, x: Tensor, x0: Tensor) -> Tensor:
        h, whole = walk.h, walk.h * (eta + 1)
        y = walk.to(r, x, -(-r * whole).expm1() * x0)
        target = torch.lerp(x0, denoise(y, walk.sigma_at(r)), 1 / (2 * r))
        return walk.to(1.0, x, -(-h * (eta + 1)).expm1() * target)

    return _staged(denoise, x, sigmas, noise, on_step, eta, s_noise, stage)


def seeds_3(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep,
    *, eta: float = 1.0, s_noise: float = 1.0, r1: float = 1 / 3, r2: float = 2 / 3,
) -> Tensor:  # fmt: skip
    """SEEDS of three stages (Gonzalez et al. 2023, arXiv:2305.14267)."""

    def stage(walk: _Walk, x: Tensor, x0: Tensor) -> Tensor:
        whole = walk.h * (eta + 1)
        y = walk.to(r1, x, -(-r1 * whole).expm1() * x0)
        second = denoise(y, walk.sigma_at(r1))
        share = -r2 / r1 * _phi2(-r2 * whole)
        y = walk.to(r2, x, (-(-r2 * whole).expm1() - share) * x0 + share * second)
        third = denoise(y, walk.sigma_at(r2))
        share = -_phi2(-whole) / r2
        return walk.to(1.0, x, (-(-whole).expm1() - share) * x0 + share * third)

    return _staged(denoise, x, sigmas, noise, on_step, eta, s_noise, stage)


class _Walk:
    """One step in stages, whose noises are parts of one path: each is the one before, decayed, and fresh noise."""

    def __init__(self, sigma: Tensor, sigma_next: Tensor, noise: NoiseSource, eta: float, s_noise: float) -> None:
        self.sigma, self.h = sigma, (sigma / sigma_next).log()
        self._ends = -sigma.log(), -sigma_next.log()
        self._noise, self._eta, self._s_noise = noise, eta, s_noise
        self._at, self._path = 0.0, None

    def sigma_at(self, place: float) -> Tensor:
        """The sigma at a place of the step, 0..1, even in lambda."""
        return (-torch.lerp(*self._ends, place)).exp()

    def to(self, place: float, x: Tensor, new: Tensor) -> Tensor:
        """Carries x to a place of the step: what is kept of it, what is new, and the noise of the path up to there."""
        sigma = self.sigma_at(place)
        length = (place - self._at) * self.h * self._eta
        fresh = (-(-2 * length).expm1()).sqrt() * self._noise(self.sigma_at(self._at), sigma)
        self._path = fresh if self._path is None else self._path * (-length).exp() + fresh
        self._at = place
        kept = sigma / self.sigma * (-place * self.h * self._eta).exp()
        return kept * x + new + self._path * sigma * self._s_noise


def _staged(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep, eta: float, s_noise: float,
    stage: Callable[[_Walk, Tensor, Tensor], Tensor],
) -> Tensor:  # fmt: skip
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, sigma)
        on_step(i, x0)
        if sigma_next == 0:
            return x0
        x = stage(_Walk(sigma, sigma_next, noise, eta, s_noise), x, x0)
    return x


def _kept(h: Tensor, sigma: Tensor, sigma_next: Tensor, eta: float) -> Tensor:
    return sigma_next / sigma * (-h * eta).exp()


def _added(h: Tensor, sigma_next: Tensor, eta: float) -> Tensor:
    """The deviation of the noise of a step."""
    return sigma_next * (-(-2 * h * eta).expm1()).sqrt()


def _phi2(h: Tensor) -> Tensor:
    """The second phi function times h."""
    return (h.expm1() - h) / h
