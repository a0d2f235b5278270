"""Schedules as values: noise levels, highest first, and what is done with them. On the CPU: samplers compare them."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

from pydantic import Field

from nodegraph.spec import node
from nodegraph.types import Choices, Widget
from nodes.types import Fraction, Model, SchedulerName, Sigmas, Steps

Sigma = Annotated[float, Field(ge=0.0, le=5000.0), Widget(step=0.01)]
PositiveSigma = Annotated[float, Field(gt=0.0, le=5000.0), Widget(step=0.01)]
AnySigma = Annotated[float, Field(ge=0.0, le=20000.0), Widget(step=0.001)]
Rho = Annotated[float, Field(gt=0.0, le=100.0), Widget(step=0.01)]
Shape = Annotated[float, Field(gt=0.0, le=50.0), Widget(step=0.01)]
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


class SplitSchedule(NamedTuple):
    """A schedule in two: the first ends where the second begins."""

    high_sigmas: Sigmas
    low_sigmas: Sigmas


class Level(NamedTuple):
    """A noise level."""

    sigma_value: float


def _levels_problems(*, sigma_max: float = 14.614642, sigma_min: float = 0.0291675, **_: object) -> list[str]:
    return [] if sigma_min < sigma_max else [f"sigma_min is {sigma_min} and sigma_max {sigma_max}; expected min < max"]


def _manual_problems(*, sigmas: str = "", **_: object) -> list[str]:
    rest = re.sub(_NUMBER, " ", sigmas)
    strange = sorted(set(rest) - set(" ,;[]()\t\r\n"))
    return [f"sigmas has {''.join(strange)!r}; expected numbers, like 14.6, 5, 1, 0"] if strange else []


@node("BasicScheduler", category="sampling/custom_sampling/schedulers")
def basic(*, model: Model, scheduler: SchedulerName, steps: Steps = 20, denoise: Fraction = 1.0) -> Sigmas:
    """The schedule of a model by name.

    Args:
        model: Whose noise levels.
        scheduler: How the steps are spread.
        steps: Taken.
        denoise: Less than 1 starts lower, at a part of a longer schedule; 0 gives an empty one.
    """
    from nodes.diffusion.sampling import parametrisation_of
    from nodes.diffusion.schedules import sigmas_for

    table = parametrisation_of(model).table
    if denoise <= 0:
        return table.new_empty(0)
    return sigmas_for(scheduler, steps if denoise >= 1 else int(steps / denoise), table)[-(steps + 1) :]


@node("KarrasScheduler", category="sampling/custom_sampling/schedulers", check=_levels_problems)
def karras(
    *, steps: Steps = 20, sigma_max: PositiveSigma = 14.614642, sigma_min: PositiveSigma = 0.0291675, rho: Rho = 7.0
) -> Sigmas:
    """Linear in sigma^(1/rho) (Karras et al. 2022, eq. 5).

    Args:
        steps: Taken.
        sigma_max: The first level.
        sigma_min: The last before 0.
        rho: Higher takes more steps at low noise.
    """
    import torch

    from nodes.diffusion.schedules import karras

    return karras(steps, torch.tensor([sigma_min, sigma_max], dtype=torch.float64), rho)


@node("ExponentialScheduler", category="sampling/custom_sampling/schedulers", check=_levels_problems)
def exponential(
    *, steps: Steps = 20, sigma_max: PositiveSigma = 14.614642, sigma_min: PositiveSigma = 0.0291675
) -> Sigmas:
    """Linear in log sigma.

    Args:
        steps: Taken.
        sigma_max: The first level.
        sigma_min: The last before 0.
    """
    import torch

    from nodes.diffusion.schedules import exponential

    return exponential(steps, torch.tensor([sigma_min, sigma_max], dtype=torch.float64))


@node("PolyexponentialScheduler", category="sampling/custom_sampling/schedulers", check=_levels_problems)
def polyexponential(
    *, steps: Steps = 20, sigma_max: PositiveSigma = 14.614642, sigma_min: PositiveSigma = 0.0291675, rho: Rho = 1.0
) -> Sigmas:
    """A power of a linear ramp in log sigma.

    Args:
        steps: Taken.
        sigma_max: The first level.
        sigma_min: The last before 0.
        rho: The power; 1 is exponential.
    """
    import torch

    from nodes.diffusion.schedules import polyexponential

    return polyexponential(steps, torch.tensor([sigma_min, sigma_max], dtype=torch.float64), rho)


@node("LaplaceScheduler", category="sampling/custom_sampling/schedulers", check=_levels_problems)
def laplace(
    *, steps: Steps = 20, sigma_max: PositiveSigma = 14.614642, sigma_min: PositiveSigma = 0.0291675,
    mu: Annotated[float, Field(ge=-10.0, le=10.0), Widget(step=0.1)] = 0.0,
    beta: Annotated[float, Field(ge=0.0, le=10.0), Widget(step=0.1)] = 0.5,
) -> Sigmas:  # fmt: skip
    """Quantiles of a Laplace distribution of log sigma (Hang et al. 2024). It does not end in 0.

    Args:
        steps: Sigmas.
        sigma_max: None is above.
        sigma_min: None is below.
        mu: The middle, in log sigma.
        beta: How far they are spread.
    """
    import torch

    from nodes.diffusion.schedules import laplace

    return laplace(steps, torch.tensor([sigma_min, sigma_max], dtype=torch.float64), mu, beta)


@node("VPScheduler", category="sampling/custom_sampling/schedulers")
def vp(
    *, steps: Steps = 20, beta_d: Sigma = 19.9, beta_min: Sigma = 0.1,
    eps_s: Annotated[float, Field(ge=0.0, le=1.0), Widget(step=0.0001)] = 0.001,
) -> Sigmas:  # fmt: skip
    """Even in the time of a variance-preserving process.

    Args:
        steps: Taken.
        beta_d: How fast its rate rises.
        beta_min: Its rate at the start.
        eps_s: The last time before 0.
    """
    from nodes.diffusion.schedules import vp

    return vp(steps, beta_d, beta_min, eps_s)


@node("BetaSamplingScheduler", category="sampling/custom_sampling/schedulers")
def beta(*, model: Model, steps: Steps = 20, alpha: Shape = 0.6, beta: Shape = 0.6) -> Sigmas:
    """Training steps at quantiles of a Beta distribution (Lee et al. 2024); steps that fall together are kept once.

    Args:
        model: Whose noise levels.
        steps: Taken, at most.
        alpha: Below 1: dense at high noise.
        beta: Below 1: dense at low noise.
    """
    from nodes.diffusion.sampling import parametrisation_of
    from nodes.diffusion.schedules import beta as quantiles

    return quantiles(steps, parametrisation_of(model).table, alpha, beta)


@node("SDTurboScheduler", category="sampling/custom_sampling/schedulers")
def turbo(*, model: Model, steps: Annotated[int, Field(ge=1, le=10)] = 1, denoise: Fraction = 1.0) -> Sigmas:
    """Every 100th training step, for Turbo models.

    Args:
        model: Whose noise levels.
        steps: Taken.
        denoise: The part of the ten that is walked.
    """
    from nodes.diffusion.sampling import parametrisation_of
    from nodes.diffusion.schedules import turbo

    return turbo(steps, denoise, parametrisation_of(model).sigma_at_timestep)


@node("AlignYourStepsScheduler", category="sampling/custom_sampling/schedulers")
def align_your_steps(
    *, model_type: Annotated[str, Choices(("SD1", "SDXL", "SVD"))], steps: Steps = 10, denoise: Fraction = 1.0
) -> Sigmas:
    """Schedules fitted to models (Sabour et al. 2024, "Align Your Steps").

    Args:
        model_type: For which model.
        steps: Of the whole schedule.
        denoise: The part of them that is walked.
    """
    from nodes.diffusion.schedules import align_your_steps

    return align_your_steps(model_type, steps, denoise)


@node("ManualSigmas", category="_for_testing/custom_sampling", check=_manual_problems)
def manual(*, sigmas: str = "1, 0.5") -> Sigmas:
    """A schedule written down.

    Args:
        sigmas: Numbers between commas, highest first.
    """
    import torch

    for problem in _manual_problems(sigmas=sigmas):
        raise ValueError(problem)
    return torch.tensor([float(number) for number in re.findall(_NUMBER, sigmas)])


@node("SplitSigmas", category="sampling/custom_sampling/sigmas")
def split(*, sigmas: Sigmas, step: Annotated[int, Field(ge=0, le=10000)] = 0) -> SplitSchedule:
    """Cut a schedule in two after a step.

    Args:
        sigmas: The schedule.
        step: Steps of the first part.
    """
    return SplitSchedule(sigmas[: step + 1], sigmas[step:])


@node("SplitSigmasDenoise", category="sampling/custom_sampling/sigmas")
def split_denoise(*, sigmas: Sigmas, denoise: Fraction = 1.0) -> SplitSchedule:
    """Cut a schedule in two where a part of its steps is left.

    Args:
        sigmas: The schedule.
        denoise: The part of the steps that the second schedule has.
    """
    steps = max(len(sigmas) - 1, 0)
    kept = round(steps * denoise)
    return SplitSchedule(sigmas[: len(sigmas) - kept] if kept else sigmas[:0], sigmas[-(kept + 1) :])


@node("FlipSigmas", category="sampling/custom_sampling/sigmas")
def flip(*, sigmas: Sigmas) -> Sigmas:
    """Turn a schedule round, to add noise the way it would be taken away; a first 0 becomes 0.0001.

    Args:
        sigmas: The schedule.
    """
    flipped = sigmas.flip(0)
    if len(flipped) and flipped[0] == 0:
        flipped[0] = 0.0001
    return flipped


@node("SetFirstSigma", category="sampling/custom_sampling/sigmas")
def set_first(*, sigmas: Sigmas, sigma: AnySigma = 136.0) -> Sigmas:
    """Replace the first level of a schedule.

    Args:
        sigmas: The schedule.
        sigma: What it starts with.
    """
    changed = sigmas.clone()
    changed[:1] = sigma
    return changed


@node("ExtendIntermediateSigmas", category="sampling/custom_sampling/sigmas")
def extend(
    *, sigmas: Sigmas, steps: Annotated[int, Field(ge=1, le=100)] = 2,
    start_at_sigma: Annotated[float, Field(ge=-1.0, le=20000.0), Widget(step=0.01)] = -1.0,
    end_at_sigma: Annotated[float, Field(ge=0.0, le=20000.0), Widget(step=0.01)] = 12.0,
    spacing: Annotated[str, Choices(("linear", "cosine", "sine"))],
) -> Sigmas:  # fmt: skip
    """Cut the steps of a part of a schedule into smaller ones.

    Args:
        sigmas: The schedule.
        steps: What each becomes.
        start_at_sigma: The highest level a step may start at; below 0 there is no limit.
        end_at_sigma: The lowest.
        spacing: How the cuts are spread in a step.
    """
    from nodes.diffusion.schedules import extended

    return extended(sigmas, steps, (start_at_sigma if start_at_sigma >= 0 else float("inf"), end_at_sigma), spacing)


@node("SamplingPercentToSigma", category="sampling/custom_sampling/sigmas")
def percent_to_sigma(
    *, model: Model, sampling_percent: Annotated[float, Field(ge=0.0, le=1.0), Widget(step=0.0001)] = 0.0,
    return_actual_sigma: bool = False,
) -> Level:  # fmt: skip
    """The noise level after a part of the way from noise to picture.

    Args:
        model: Whose noise levels.
        sampling_percent: The part; 0 is above and 1 below every level.
        return_actual_sigma: At 0 and 1 the model's highest and lowest level instead.
    """
    from nodes.diffusion.sampling import parametrisation_of

    parametrisation = parametrisation_of(model)
    if return_actual_sigma and sampling_percent in (0.0, 1.0):
        return Level(float(parametrisation.table[-1 if sampling_percent == 0.0 else 0]))
    return Level(parametrisation.sigma_at(sampling_percent))
