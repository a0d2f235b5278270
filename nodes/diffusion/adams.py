"""SA-Solver: a stochastic Adams method, predictor and corrector, with one model evaluation a step.

Source: Xue et al. 2023, "SA-Solver: Stochastic Adams Solver for Fast Sampling of Diffusion Models" (arXiv:2309.05019),
in data prediction. In x = x0 + sigma * noise the half log-SNR is lambda = -log sigma. tau is how stochastic a step is;
0 leaves the probability flow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nodes.diffusion.contract import Denoise, NoiseSource, OnStep


def sa_solver(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, on_step: OnStep,
    *, between: tuple[float, float] = (math.inf, 0.0), eta: float = 1.0, s_noise: float = 1.0, predictor: int = 3,
    corrector: int = 4, again: bool = False, simple: bool = False,
) -> Tensor:  # fmt: skip
    """Predicts, evaluates and corrects.

    Args:
        between: the highest and the lowest sigma of stochastic steps.
        predictor: order of the predictor.
        corrector: order of the corrector; 0 leaves it out.
        again: evaluate the corrected state once more (PECE).
        simple: the paper's simpler weights at order 2.
    """
    lambdas = -sigmas.double().log()
    last = len(sigmas) - 1
    to_zero = bool(sigmas[-1] == 0)
    known: list[Tensor] = []
    state, added, tau = x, torch.zeros_like(x), 0.0  # before the prediction, and the noise it was given
    for i in range(last):
        x0 = denoise(x, sigmas[i])
        on_step(i, x0)
        known = [*known, x0][-max(predictor, corrector, 1) :]
        order = 0 if i == 0 or (sigmas[i + 1] == 0 and not again) else min(corrector, len(known))
        order = min(order, last - i) if to_zero else order
        if order:
            weights = _weights(lambdas, i - order, order, i - 1, tau, simple, is_corrector=True)
            x = _step(state, known[-order:], weights, lambdas, i - 1, tau) + added
            if again:
                x0 = known[-1] = denoise(x, sigmas[i])
        if sigmas[i + 1] == 0:
            return x0
        state = x
        order = min(predictor, len(known), last - 1 - i if to_zero else predictor)
        tau = eta if between[0] >= sigmas[i + 1] >= between[1] else 0.0
        weights = _weights(lambdas, i + 1 - order, order, i, tau, simple, is_corrector=False)
        x = _step(state, known[-order:], weights, lambdas, i, tau)
        added = torch.zeros_like(x)
        if tau > 0 and s_noise > 0:
            h = float(lambdas[i + 1] - lambdas[i])
            deviation = float(sigmas[i + 1]) * math.sqrt(-math.expm1(-2 * tau**2 * h))
            added = noise(sigmas[i], sigmas[i + 1]) * deviation * s_noise
        x = x + added
    return x


def _step(state: Tensor, known: Sequence[Tensor], weights: Tensor, lambdas: Tensor, i: int, tau: float) -> Tensor:
    """The state carried from step i to the next by weighted estimates of x0."""
    h = float(lambdas[i + 1] - lambdas[i])
    new = sum((weight * x0 for weight, x0 in zip(weights.tolist(), known, strict=True)), torch.zeros_like(state))
    return math.exp(-h * (1 + tau**2)) * state + new


def _weights(
    lambdas: Tensor, first: int, order: int, i: int, tau: float, simple: bool, *, is_corrector: bool
) -> Tensor:
    """How much each estimate counts in the step from i, oldest first: exact where x0 is a polynomial in lambda.

    The estimates were made at lambdas[first] and after it; a corrector's first one is a step later.
    """
    first = first + 1 if is_corrector else first
    start, end = float(lambdas[i]), float(lambdas[i + 1])
    rate, h = 1 + tau**2, end - start
    whole = -math.expm1(-rate * h)
    if simple and order == 2:
        half = rate * h / 2
        share = whole - half if is_corrector else half * h / (float(lambdas[first]) - start)
        return torch.tensor([share, whole - share], dtype=torch.float64)
    places = lambdas[first : first + order] - end  # small numbers keep the powers apart
    moments: list[float] = []
    for power in range(order):  # rate * integral of exp(rate (u - end)) (u - end)^power over the step, by parts
        before = moments[-1] if moments else 0.0
        boundary = (1.0 if power == 0 else 0.0) - (-h) ** power * math.exp(-rate * h)
        moments.append(boundary - power / rate * before)
    powers = torch.vander(places, order, increasing=True).T
    return torch.linalg.solve(powers, torch.tensor(moments, dtype=torch.float64))
