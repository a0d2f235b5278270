"""Noise levels: the table a model was trained on, and the schedules cut from it.

A *table* is the ascending tensor [1000] of sigmas of the training steps, float64. A *schedule* is a descending tensor
of sigmas that ends in 0, one more than there are steps, float32. Both are on the CPU: samplers compare sigmas at every
step, and on a device each comparison would wait for it.

Variance-exploding coordinates throughout (Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based
Generative Models"): x = x0 + sigma * noise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from nodegraph.errors import did_you_mean
from nodes.diffusion.names import SCHEDULERS as NAMES

TRAINING_STEPS = 1000
_BY_TIME = frozenset({"normal", "sgm_uniform"})  # these need the table's logarithms; the others what float32 has of it
DROPS_PENULTIMATE = frozenset({"dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2"})
"""Samplers whose schedule is made for one step more and loses the sigma before the last, as ComfyUI cuts it."""


def model_sigmas(start: float = 0.00085, end: float = 0.012, steps: int = TRAINING_STEPS) -> Tensor:
    """The sigmas a Stable Diffusion model was trained on: [steps] float64, ascending.

    Betas are linear in their square root ("scaled linear", Rombach et al. 2022, latent-diffusion), and
    sigma^2 = (1 - a) / a with a the cumulative product of 1 - beta (Ho et al. 2020, eq. 4).
    """
    betas = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, dim=0)
    return ((1 - kept) / kept).sqrt()


def zero_snr_sigmas(table: Tensor) -> Tensor:
    """The table of a model retrained to end in pure noise: [steps] float64, ascending.

    sqrt(a) is shifted and scaled so that its last value vanishes (Lin et al. 2023, algorithm 1); a tiny one stays, as
    in ComfyUI, because its sigma would be infinite.
    """
    root = (1 / (table**2 + 1)).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    kept = root**2
    kept[-1] = 4.8973451890853435e-08
    return ((1 - kept) / kept).sqrt()


def sigma_of_t(t: Tensor, table: Tensor) -> Tensor:
    """The sigma at a training step, of the shape of `t`: log-linear between table entries, clamped to its ends.

    Source: k-diffusion, `DiscreteSchedule.t_to_sigma`. Half way between two steps the last bit decides which of them
    `t_of_sigma` finds again, so the arithmetic is ComfyUI's to the bit.
    """
    t = t.float().clamp(0, len(table) - 1)
    low, high = t.floor().long(), t.ceil().long()
    logs, share = table.log().float(), t - low
    return ((1 - share) * logs[low] + share * logs[high]).exp()


def t_of_sigma(sigma: Tensor, table: Tensor) -> Tensor:
    """The training step whose sigma is nearest in the logarithm, as float32 of the shape of `sigma`.

    Source: k-diffusion, `DiscreteSchedule.sigma_to_t` with `quantize=True`: the model has only seen whole steps.
    """
    distance = (sigma.log().reshape(-1, 1) - table.log().float()).abs()
    return distance.argmin(dim=1).reshape(sigma.shape).float()


def sigmas_for(scheduler: str, steps: int, table: Tensor) -> Tensor:
    """A schedule by name: float32, descending, ending in 0.

    Nearly always [steps + 1]; `ddim_uniform` and `beta` may differ, because they pick whole training steps.

    Raises:
        ValueError: the name is unknown, there are no steps, or there is no finite schedule of so few.
    """
    if scheduler not in SCHEDULERS:
        hint = did_you_mean(scheduler, SCHEDULERS) or f"expected one of {', '.join(SCHEDULERS)}"
        raise ValueError(f"scheduler {scheduler!r} is unknown; {hint}")
    if steps < 1:
        raise ValueError(f"steps is {steps}; expected 1 or more")
    sigmas = SCHEDULERS[scheduler](steps, table if scheduler in _BY_TIME else table.float())
    if not bool(sigmas.isfinite().all()):
        raise ValueError(f"scheduler {scheduler!r} has no schedule of {steps} step; use 2 steps or more")
    return sigmas


def sampling_sigmas(sampler: str, scheduler: str, steps: int, denoise: float, table: Tensor) -> Tensor:
    """The schedule KSampler walks: `steps` steps, starting lower the smaller `denoise` is.

    Below 1, `denoise` makes a schedule of int(steps / denoise) steps and keeps its last `steps`; 0 gives an empty
    tensor. Samplers that evaluate between two sigmas skip the penultimate one (`DROPS_PENULTIMATE`).

    Raises:
        ValueError: the scheduler is unknown or has no finite schedule of so few steps.
    """
    if denoise <= 0:
        return table.new_empty(0)
    full_steps = steps if denoise > 0.9999 else int(steps / denoise)
    drops = sampler in DROPS_PENULTIMATE
    sigmas = sigmas_for(scheduler, full_steps + drops, table)
    if drops:
        sigmas = torch.cat([sigmas[:-2], sigmas[-1:]])
    return sigmas if denoise > 0.9999 else sigmas[-(steps + 1) :]


def part_of(sigmas: Tensor, first: int, last: int, *, to_zero: bool) -> Tensor:
    """The steps from `first` up to `last` of a schedule, as KSamplerAdvanced cuts them; empty where none is left.

    Where the end is cut off and `to_zero`, the last step goes to 0.
    """
    if last < len(sigmas) - 1:
        sigmas = sigmas[: last + 1].clone()
        if to_zero:
            sigmas[-1] = 0
    return sigmas[first:] if first < len(sigmas) - 1 else sigmas[:0]


def starts_from_pure_noise(sigmas: Tensor, table: Tensor) -> bool:
    """True when a schedule starts at the model's largest sigma, where the latent has vanished in the noise."""
    first, largest = float(sigmas[0]), float(table[-1])
    return first > largest or math.isclose(first, largest, rel_tol=1e-5)


def _ending_in_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas.float(), torch.zeros(1)])


def simple(steps: int, table: Tensor) -> Tensor:
    """Evenly spaced training steps from the last one down, without interpolation (ComfyUI's `simple`)."""
    stride = len(table) / steps
    return _ending_in_zero(table[[-(1 + int(i * stride)) for i in range(steps)]])


def normal(steps: int, table: Tensor) -> Tensor:
    """Evenly spaced times from the last training step to the first (k-diffusion, `DiscreteSchedule.get_sigmas`)."""
    return _ending_in_zero(sigma_of_t(torch.linspace(len(table) - 1, 0, steps), table))


def sgm_uniform(steps: int, table: Tensor) -> Tensor:
    """As `normal`, with the step to the first training step going to 0 (Stability AI, generative-models)."""
    return _ending_in_zero(sigma_of_t(torch.linspace(len(table) - 1, 0, steps + 1)[:-1], table))


def karras(steps: int, table: Tensor, rho: float = 7.0) -> Tensor:
    """Linear in sigma^(1/rho) (Karras et al. 2022, eq. 5)."""
    low, high = float(table[0]) ** (1 / rho), float(table[-1]) ** (1 / rho)
    return _ending_in_zero((high + torch.linspace(0, 1, steps) * (low - high)) ** rho)


def exponential(steps: int, table: Tensor) -> Tensor:
    """Linear in log sigma (k-diffusion, `get_sigmas_exponential`)."""
    return _ending_in_zero(torch.linspace(math.log(table[-1]), math.log(table[0]), steps).exp())


def polyexponential(steps: int, table: Tensor, rho: float = 1.0) -> Tensor:
    """A power of a linear ramp in log sigma (k-diffusion, `get_sigmas_polyexponential`)."""
    low, high = math.log(table[0]), math.log(table[-1])
    return _ending_in_zero((torch.linspace(1, 0, steps) ** rho * (high - low) + low).exp())


def laplace(steps: int, table: Tensor, mu: float = 0.0, beta: float = 0.5) -> Tensor:
    """Quantiles of a Laplace distribution of log sigma, within the table (Hang et al. 2024, arXiv:2407.03297).

    It does not end in 0, as ComfyUI has it.
    """
    x = 0.5 - torch.linspace(0, 1, steps)
    logs = mu - beta * x.sign() * (1 - 2 * x.abs() + 1e-5).log()
    return logs.exp().clamp(float(table[0]), float(table[-1]))


def vp(steps: int, beta_d: float, beta_min: float, eps_s: float) -> Tensor:
    """Even in the time of a variance-preserving process (Song et al. 2021, "Score-Based ..."; k-diffusion)."""
    t = torch.linspace(1, eps_s, steps)
    return _ending_in_zero((beta_d * t**2 / 2 + beta_min * t).expm1().sqrt())


def turbo(steps: int, denoise: float, sigma_of: Callable[[Tensor], Tensor]) -> Tensor:
    """Every 100th training step, from the last one down (Sauer et al. 2023, "Adversarial Diffusion Distillation").

    Args:
        denoise: the part of the ten that is walked.
        sigma_of: the sigma of training steps.
    """
    first = 10 - int(10 * denoise)
    return _ending_in_zero(sigma_of(torch.arange(999, 0, -100)[first : first + steps].float()))


_STEPS_ALIGNED: Mapping[str, tuple[float, ...]] = {
    "SD1": (14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092, 0.9642583904,
            0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582),
    "SDXL": (14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769, 1.3405244945, 0.8620721141, 0.5550693289,
             0.3798540708, 0.2332364134, 0.1114188177, 0.0291671582),
    "SVD": (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}  # fmt: skip


def align_your_steps(model_type: str, steps: int, denoise: float = 1.0) -> Tensor:
    """Schedules fitted to models, log-linear between their ten steps; of 0 steps left it is empty.

    Source: Sabour et al. 2024, "Align Your Steps" (arXiv:2404.14507), table of the project's page.
    """
    kept = steps if denoise >= 1 else round(steps * denoise)
    if denoise <= 0:
        return torch.empty(0)
    known = np.log(np.array(_STEPS_ALIGNED[model_type]))
    places = np.linspace(0, 1, steps + 1)
    sigmas = np.exp(np.interp(places, np.linspace(0, 1, len(known)), known))[-(kept + 1) :]
    return torch.tensor([*sigmas[:-1], 0.0], dtype=torch.float32)


def extended(sigmas: Tensor, steps: int, between: tuple[float, float], spacing: str) -> Tensor:
    """A schedule in which each step that starts within two sigmas, the higher first, is cut into `steps`.

    `spacing` of the cuts is `linear`, `cosine` (dense at the step's end) or `sine` (at its start).
    """
    x = torch.linspace(0, 1, steps + 1)[1:-1]
    shares = {"linear": x, "cosine": (x * math.pi / 2).sin(), "sine": 1 - (x * math.pi / 2).cos()}[spacing]
    parts: list[Tensor] = []
    for sigma, sigma_next in itertools.pairwise(sigmas):
        parts.append(sigma[None])
        if between[1] <= sigma <= between[0]:
            parts.append(shares * (sigma_next - sigma) + sigma)
    return torch.cat([*parts, sigmas[-1:]])


def ddim_uniform(steps: int, table: Tensor) -> Tensor:
    """Every k-th training step from the second on, k = 1000 // steps (Song et al. 2021, "DDIM", linear sub-sequence).

    Where k does not divide 1000 there are more steps than asked for.
    """
    stride = max(len(table) // steps, 1)
    return _ending_in_zero(table[1::stride].flip(0))


def beta(steps: int, table: Tensor, a: float = 0.6, b: float = 0.6) -> Tensor:
    """Training steps at quantiles of a Beta(0.6, 0.6): dense at both ends.

    The quantile is only wanted rounded to a whole step k, so it is not inverted: k is the number of the boundaries
    (j + 1/2) / 999 whose cumulated probability lies below. Steps that fall together are kept once.

    Source: Lee et al. 2024, "Beta Sampling is All You Need".
    """
    last = len(table) - 1
    boundaries = (torch.arange(last, dtype=torch.float64) + 0.5) / last
    quantiles = 1 - torch.arange(steps, dtype=torch.float64) / steps
    # At probability 1/2 a boundary is hit exactly; the margin sends it up whatever the last bit of the series is.
    chosen = torch.searchsorted(beta_cdf(boundaries, a, b), quantiles + 1e-12, right=True)
    return _ending_in_zero(table[torch.unique_consecutive(chosen)])


def beta_cdf(x: Tensor, a: float, b: float) -> Tensor:
    """The regularised incomplete beta function I_x(a, b), float64, to about 1e-14 for x in 0..1.

    The hypergeometric series of DLMF 8.17.7, x^a / (a B(a, b)) * 2F1(a, 1 - b; a + 1; x), gains a binary digit a
    term for x <= 1/2; above that I_x(a, b) = 1 - I_(1-x)(b, a) (DLMF 8.17.4).
    """
    scale = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b))

    def lower(x: Tensor, a: float, b: float) -> Tensor:
        term = torch.ones_like(x)
        total = term / a
        for n in range(1, 60):
            term = term * x * ((n - b) / n)
            total = total + term / (a + n)
        return scale * x**a * total

    x = x.double()
    return torch.where(x <= 0.5, lower(x.clamp(max=0.5), a, b), 1 - lower((1 - x).clamp(max=0.5), b, a))


def linear_quadratic(steps: int, table: Tensor, threshold: float = 0.025) -> Tensor:
    """Half the steps linear down to 1 - threshold of the largest sigma, then quadratic to 0, smooth at the joint.

    Source: Polyak et al. 2024, "Movie Gen" (linear-quadratic t-schedule); its form is genmoai/mochi's (Apache-2.0).
    """
    half = steps // 2
    if half == 0:
        return torch.tensor([float(table[-1]), 0.0])
    rest = steps - half
    slope = threshold / half
    curvature = (1 - threshold - slope * rest) / rest**2
    gone = [slope * i for i in range(half)]
    gone += [threshold + slope * j + curvature * j * j for j in range(rest)]
    return torch.tensor([1 - g for g in gone] + [0.0]) * table[-1]


def kl_optimal(steps: int, table: Tensor) -> Tensor:
    """Linear in atan(sigma) (Sabour et al. 2024, "Align Your Steps", the optimum for Gaussian data).

    One step is 0/0, as in ComfyUI, whose schedule then is [nan, 0].
    """
    part = torch.arange(steps) / (steps - 1) if steps > 1 else torch.full([1], math.nan)
    return _ending_in_zero((part * table[0].atan() + (1 - part) * table[-1].atan()).tan())


_MAKERS: dict[str, Callable[[int, Tensor], Tensor]] = {
    make.__name__: make
    for make in (
        simple, sgm_uniform, karras, exponential, ddim_uniform, beta, normal, linear_quadratic, kl_optimal,
    )
}  # fmt: skip
SCHEDULERS: Mapping[str, Callable[[int, Tensor], Tensor]] = MappingProxyType({name: _MAKERS[name] for name in NAMES})
"""Schedules by name, in ComfyUI's order."""
