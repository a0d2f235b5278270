"""UniPC: a multistep predictor and corrector of the same order that share one model evaluation a step.

Source: Zhao et al. 2023, "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models",
in its multistep, data prediction form and in x = x0 + sigma * noise, where the half log-SNR is lambda = -log sigma.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nodes.diffusion.contract import Denoise, NoiseSource, OnStep

_MAX_ORDER = 3
_LAST_SIGMA = 0.001
"""Stands for the final 0, whose log-SNR is infinite, as ComfyUI does."""


def uni_pc(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """UniPC of order 3 with B1(h) = h (Zhao et al. 2023)."""
    return _unipc(denoise, x, sigmas, on_step, is_bh2=False)


def uni_pc_bh2(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """UniPC of order 3 with B2(h) = e^h - 1 (Zhao et al. 2023)."""
    return _unipc(denoise, x, sigmas, on_step, is_bh2=True)


def _unipc(denoise: Denoise, x: Tensor, sigmas: Tensor, on_step: OnStep, *, is_bh2: bool) -> Tensor:
    """Order rises over the first steps and falls over the last; the last step is not corrected.

    The estimate at a step's end is made before the correction and serves the next step, so a step costs one call.
    """
    if sigmas[-1] == 0:
        sigmas = torch.cat([sigmas[:-1], sigmas.new_tensor([_LAST_SIGMA])])
    steps = len(sigmas) - 1
    max_order = max(1, min(_MAX_ORDER, steps - 1))
    estimates = [denoise(x, sigmas[0])]
    for i in range(steps):
        order = min(max_order, i + 1, steps - i)
        x0, sigma_next = estimates[-1], sigmas[i + 1]
        update = _Update(sigmas[i - order + 1 : i + 2], is_bh2=is_bh2)
        differences = [estimate - x0 for estimate in reversed(estimates[-order:-1])]
        predicted = update.apply(x, x0, differences, update.predictor())
        if i + 1 < steps:
            x0_next = denoise(predicted, sigma_next)
            x = update.apply(x, x0, [*differences, x0_next - x0], update.corrector())
            estimates = [*estimates[-_MAX_ORDER:], x0_next]
        else:
            x = predicted
        on_step(i, x0)
    return x


class _Update:
    """The coefficients of one step over `sigmas` [order + 1], oldest first, next last."""

    def __init__(self, sigmas: Tensor, *, is_bh2: bool) -> None:
        lambdas = [-math.log(sigma) for sigma in sigmas.double().tolist()]
        now = lambdas[-2]
        h = lambdas[-1] - now
        self.order = len(lambdas) - 1
        self.shrink = math.exp(-h)
        self.ratios = [(earlier - now) / h for earlier in reversed(lambdas[:-2])] + [1.0]
        self.gain = math.expm1(-h)
        self.b_h = self.gain if is_bh2 else -h
        phi, factorial = self.gain / -h - 1, 1.0
        self.moments: list[float] = []
        for k in range(1, self.order + 1):
            self.moments.append(phi * factorial / self.b_h)
            factorial *= k + 1
            phi = phi / -h - 1 / factorial

    def predictor(self) -> list[float]:
        """Weights of the differences to earlier estimates (UniP)."""
        if self.order == 2:
            return [0.5]  # the paper's choice for order 2, free of h
        return self._solve(self.order - 1)

    def corrector(self) -> list[float]:
        """Weights of the differences to earlier estimates and to the one at the predicted point (UniC)."""
        if self.order == 1:
            return [0.5]  # as above, for order 1
        return self._solve(self.order)

    def _solve(self, size: int) -> list[float]:
        """Weights that match the first moments, over `r`: sum_m weight_m r_m^(k-1) = moment_k."""
        if size == 0:
            return []
        ratios = torch.tensor(self.ratios[:size], dtype=torch.float64)
        powers = ratios ** torch.arange(size, dtype=torch.float64)[:, None]
        return torch.linalg.solve(powers, torch.tensor(self.moments[:size], dtype=torch.float64)).tolist()

    def apply(self, x: Tensor, x0: Tensor, differences: list[Tensor], weights: list[float]) -> Tensor:
        """Gives x at the next sigma, from the estimate here and its weighted differences to others."""
        x = self.shrink * x - self.gain * x0
        for difference, ratio, weight in zip(differences, self.ratios, weights, strict=False):
            x = x - (self.b_h * weight / ratio) * difference
        return x
