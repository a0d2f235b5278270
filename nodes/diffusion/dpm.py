"""DPM-Solver in noise prediction, with steps of its own choice between the ends of a schedule.

Source: Lu et al. 2022a, "DPM-Solver" (arXiv:2206.00927), algorithms 1, 2 and appendix C, in k-diffusion's form
(`sample_dpm_fast`, `sample_dpm_adaptive`): lambda = -log sigma.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from nodes.diffusion.contract import Denoise, NoiseSource, OnStep, ancestral_step, slope


def dpm_fast(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep,
    *, eta: float = 0.0, s_noise: float = 1.0,
) -> Tensor:  # fmt: skip
    """Steps of order 3, even in lambda, that take about as many evaluations as the schedule has steps."""
    start, end = _ends(sigmas)
    budget = len(sigmas) - 1
    count = budget // 3 + 1
    orders = [3] * (count - 2) + [2, 1] if budget % 3 == 0 else [3] * (count - 1) + [budget % 3]
    places = torch.linspace(float(start), float(end), count + 1, dtype=sigmas.dtype)
    for i, ((t, t_next), order) in enumerate(zip(pairwise(places), orders, strict=True)):
        target, added = _split(t, t_next, end, eta)
        step = _Step(denoise, x, t, target)
        on_step(i, step.x0)
        x = step.of_order(order) + _noised(noise, t, t_next, added, s_noise)
    return x


def dpm_adaptive(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep,
    *, order: int = 3, rtol: float = 0.05, atol: float = 0.0078, h_init: float = 0.05, pcoeff: float = 0.0,
    icoeff: float = 1.0, dcoeff: float = 0.0, accept_safety: float = 0.81, eta: float = 0.0, s_noise: float = 1.0,
) -> Tensor:  # fmt: skip
    """Steps as long as the difference between two orders allows; the schedule only says from where to where.

    The length follows a PID controller of the error (Soderlind 2003).
    """
    start, end = _ends(sigmas)
    order_of_error = 1.5 if eta else order
    gains = ((pcoeff + icoeff + dcoeff) / order_of_error, -(pcoeff + 2 * dcoeff) / order_of_error,
             dcoeff / order_of_error)  # fmt: skip
    errors: list[float] = []  # inverse, of this step and the two accepted before it
    at, h, low_before, accepted = start, h_init, x, 0
    while at < end - 1e-5:
        t = torch.minimum(end, at + h)
        target, added = _split(at, t, end, eta)
        step = _Step(denoise, x, at, target)
        low, high = (step.second(1 / 3), step.third()) if order == 3 else (step.first(), step.second())
        scale = torch.maximum(torch.tensor(atol), rtol * torch.maximum(low.abs(), low_before.abs()))
        error = 1 / (float(torch.linalg.vector_norm((low - high) / scale)) / x.numel() ** 0.5 + 1e-8)
        errors = [error, *errors[1:]] if errors else [error] * 3
        factor = 1 + math.atan(math.prod(e**gain for e, gain in zip(errors, gains, strict=True)) - 1)
        if factor >= accept_safety:
            errors = [errors[0], errors[0], errors[1]]
            low_before, x = low, high + _noised(noise, at, t, added, s_noise)
            at = t
            on_step(accepted, step.x0)
            accepted += 1
        h *= factor
    return x


class _Step:
    """A step from lambda t to t_next by orders that share their evaluations."""

    def __init__(self, denoise: Denoise, x: Tensor, t: Tensor, t_next: Tensor) -> None:
        self._denoise, self._x, self._t, self._h = denoise, x, t, t_next - t
        self._seen: dict[float, Tensor] = {}
        self.x0 = denoise(x, (-t).exp())
        self._eps = slope(x, (-t).exp(), self.x0)

    def of_order(self, order: int) -> Tensor:
        """The state after the step."""
        return (self.first, self.second, self.third)[order - 1]()

    def first(self) -> Tensor:
        """Order 1."""
        return self._ahead(1.0)

    def second(self, r: float = 0.5) -> Tensor:
        """Order 2, with an evaluation at r of the step."""
        difference = self._eps_at(r, self._ahead(r)) - self._eps
        return self._ahead(1.0) - self._sigma(1.0) / (2 * r) * self._h.expm1() * difference

    def third(self, r1: float = 1 / 3, r2: float = 2 / 3) -> Tensor:
        """Order 3, with evaluations at r1 and r2 of the step."""
        difference = self._eps_at(r1, self._ahead(r1)) - self._eps
        bent = self._sigma(r2) * (r2 / r1) * ((r2 * self._h).expm1() / (r2 * self._h) - 1) * difference
        difference = self._eps_at(r2, self._ahead(r2) - bent) - self._eps
        return self._ahead(1.0) - self._sigma(1.0) / r2 * (self._h.expm1() / self._h - 1) * difference

    def _ahead(self, r: float) -> Tensor:
        """The state at r of the step, by order 1."""
        return self._x - self._sigma(r) * (r * self._h).expm1() * self._eps

    def _eps_at(self, r: float, x: Tensor) -> Tensor:
        if r not in self._seen:
            self._seen[r] = slope(x, self._sigma(r), self._denoise(x, self._sigma(r)))
        return self._seen[r]

    def _sigma(self, r: float) -> Tensor:
        return (-(self._t + r * self._h)).exp()


def _ends(sigmas: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the last lambda of a schedule; its last 0 has none."""
    last = sigmas[-1] if sigmas[-1] > 0 else sigmas[-2]
    return -sigmas[0].log(), -last.log()


def _split(t: Tensor, t_next: Tensor, end: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """How far a step goes down, in lambda, and the deviation of the noise that brings it back up."""
    if not eta:
        return t_next, torch.tensor(0.0)
    down, _ = ancestral_step((-t).exp(), (-t_next).exp(), eta)
    target = torch.minimum(end, -down.log())
    return target, ((-t_next).exp() ** 2 - (-target).exp() ** 2).sqrt()


def _noised(noise: NoiseSource, t: Tensor, t_next: Tensor, added: Tensor, s_noise: float) -> Tensor | float:
    return noise((-t).exp(), (-t_next).exp()) * added * s_noise if added > 0 else 0.0
