"""Samplers as values: how a step is taken, with options."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from nodegraph.spec import node
from nodegraph.types import Choices, Widget
from nodes.types import Model, Sampler, SamplerName, SamplerValue

Factor = Annotated[float, Field(ge=0.0, le=100.0), Widget(step=0.01)]
SmallFactor = Annotated[float, Field(ge=0.0, le=10.0), Widget(step=0.01)]
Share = Annotated[float, Field(ge=0.0, le=1.0), Widget(step=0.01)]
Percent = Annotated[float, Field(ge=0.0, le=1.0), Widget(step=0.001)]
NoiseDevice = Annotated[str, Choices(("gpu", "cpu"))]
_OF_DEVICE = {"gpu": "_gpu", "cpu": ""}


@node("KSamplerSelect", category="sampling/custom_sampling/samplers")
def select(*, sampler_name: SamplerName = "euler") -> Sampler:
    """A sampler by name.

    Args:
        sampler_name: How a step is taken.
    """
    return SamplerValue(sampler_name)


@node("SamplerEulerAncestral", category="sampling/custom_sampling/samplers")
def euler_ancestral(*, eta: Factor = 1.0, s_noise: Factor = 1.0) -> Sampler:
    """Euler steps that go below the next noise level and are noised up again.

    Args:
        eta: How stochastic; 0 is `euler`.
        s_noise: Factor of the noise that is added.
    """
    return SamplerValue("euler_ancestral", {"eta": eta, "s_noise": s_noise})


@node("SamplerEulerAncestralCFGPP", category="sampling/custom_sampling/samplers", title="SamplerEulerAncestralCFG++")
def euler_ancestral_cfg_pp(*, eta: Share = 1.0, s_noise: SmallFactor = 1.0) -> Sampler:
    """The same along the noise predicted without the prompt (CFG++, Chung et al. 2024); wants a cfg near 1.

    Args:
        eta: How stochastic.
        s_noise: Factor of the noise that is added.
    """
    return SamplerValue("euler_ancestral_cfg_pp", {"eta": eta, "s_noise": s_noise})


@node("SamplerEulerCFGpp", category="_for_testing", title="SamplerEulerCFG++")
def euler_cfg_pp(*, version: Annotated[str, Choices(("regular", "alternative"))]) -> Sampler:
    """Euler steps from the guided estimate along the noise predicted without the prompt (CFG++, Chung et al. 2024).

    Args:
        version: `alternative` steps from the latent, along that noise less the guidance.
    """
    return SamplerValue("euler_cfg_pp", {"from_x": version == "alternative"})


@node("SamplerLMS", category="sampling/custom_sampling/samplers")
def lms(*, order: Annotated[int, Field(ge=1, le=100)] = 4) -> Sampler:
    """Linear multistep.

    Args:
        order: How many of the last slopes count.
    """
    return SamplerValue("lms", {"order": order})


@node("SamplerDPMPP_2S_Ancestral", category="sampling/custom_sampling/samplers")
def dpmpp_2s_ancestral(*, eta: Factor = 1.0, s_noise: Factor = 1.0) -> Sampler:
    """Ancestral DPM-Solver++ of order 2, two evaluations a step.

    Args:
        eta: How stochastic.
        s_noise: Factor of the noise that is added.
    """
    return SamplerValue("dpmpp_2s_ancestral", {"eta": eta, "s_noise": s_noise})


@node("SamplerDPMPP_SDE", category="sampling/custom_sampling/samplers")
def dpmpp_sde(
    *, eta: Factor = 1.0, s_noise: Factor = 1.0, r: Annotated[Factor, Field(gt=0.0)] = 0.5, noise_device: NoiseDevice
) -> Sampler:
    """DPM-Solver++ with noise, two evaluations a step.

    Args:
        eta: How stochastic.
        s_noise: Factor of the noise that is added.
        r: Where in a step the second evaluation is made.
        noise_device: Where the noise is drawn; from `cpu` it is the same on every device.
    """
    return SamplerValue("dpmpp_sde" + _OF_DEVICE[noise_device], {"eta": eta, "s_noise": s_noise, "r": r})


@node("SamplerDPMPP_2M_SDE", category="sampling/custom_sampling/samplers")
def dpmpp_2m_sde(
    *, solver_type: Annotated[str, Choices(("midpoint", "heun"))], eta: Factor = 1.0, s_noise: Factor = 1.0,
    noise_device: NoiseDevice,
) -> Sampler:  # fmt: skip
    """DPM-Solver++(2M) with noise.

    Args:
        solver_type: The correction by the estimate of the step before.
        eta: How stochastic.
        s_noise: Factor of the noise that is added.
        noise_device: Where the noise is drawn; from `cpu` it is the same on every device.
    """
    options = {"eta": eta, "s_noise": s_noise, "heun": solver_type == "heun"}
    return SamplerValue("dpmpp_2m_sde" + _OF_DEVICE[noise_device], options)


@node("SamplerDPMPP_3M_SDE", category="sampling/custom_sampling/samplers")
def dpmpp_3m_sde(*, eta: Factor = 1.0, s_noise: Factor = 1.0, noise_device: NoiseDevice) -> Sampler:
    """DPM-Solver++(3M) with noise.

    Args:
        eta: How stochastic.
        s_noise: Factor of the noise that is added.
        noise_device: Where the noise is drawn; from `cpu` it is the same on every device.
    """
    return SamplerValue("dpmpp_3m_sde" + _OF_DEVICE[noise_device], {"eta": eta, "s_noise": s_noise})


def _endless(
    *, rtol: float = 0.05, atol: float = 0.0078, h_init: float = 0.05, accept_safety: float = 0.81, **_: object
) -> list[str]:
    found = [] if rtol or atol else ["rtol and atol are 0, so no step would be good enough; expected one above 0"]
    if h_init == 0:
        found.append("h_init is 0, so no step would lead on; expected more than 0")
    if accept_safety > 1:
        found.append(f"accept_safety is {accept_safety}, so no step may be good enough; expected 1 or less")
    return found


@node("SamplerDPMAdaptative", category="sampling/custom_sampling/samplers", check=_endless)
def dpm_adaptive(
    *, order: Annotated[int, Field(ge=2, le=3)] = 3, rtol: Factor = 0.05, atol: Factor = 0.0078,
    h_init: Factor = 0.05, pcoeff: Factor = 0.0, icoeff: Factor = 1.0, dcoeff: Factor = 0.0,
    accept_safety: Factor = 0.81, eta: Factor = 0.0, s_noise: Factor = 1.0,
) -> Sampler:  # fmt: skip
    """DPM-Solver with steps of its own length; the schedule only says from where to where.

    Args:
        order: Of the solver.
        rtol: Error allowed, relative to the latent.
        atol: Error allowed, absolute.
        h_init: Length of the first step, in log sigma.
        pcoeff: Proportional part of the step length control.
        icoeff: Its integral part.
        dcoeff: Its derivative part.
        accept_safety: A step is taken back where its successor would be shorter by this factor.
        eta: How stochastic.
        s_noise: Factor of the noise that is added.
    """
    options = {
        "order": order, "rtol": rtol, "atol": atol, "h_init": h_init, "pcoeff": pcoeff, "icoeff": icoeff,
        "dcoeff": dcoeff, "accept_safety": accept_safety, "eta": eta, "s_noise": s_noise,
    }  # fmt: skip
    return SamplerValue("dpm_adaptive", options)


@node("SamplerER_SDE", category="sampling/custom_sampling/samplers")
def er_sde(
    *, solver_type: Annotated[str, Choices(("ER-SDE", "Reverse-time SDE", "ODE"))],
    max_stage: Annotated[int, Field(ge=1, le=3)] = 3, eta: Factor = 1.0, s_noise: Factor = 1.0,
) -> Sampler:  # fmt: skip
    """Solver of the extended reverse-time SDE (Cui et al. 2023).

    Args:
        solver_type: Which noise is added on the way; `ODE` adds none.
        max_stage: How many of the last estimates count.
        eta: How stochastic, for `Reverse-time SDE`.
        s_noise: Factor of the noise that is added.
    """
    if solver_type == "ER-SDE":
        return SamplerValue("er_sde", {"max_stage": max_stage, "s_noise": s_noise})
    if solver_type == "ODE" or eta == 0:
        eta, s_noise = 0.0, 0.0
    return SamplerValue("er_sde", {"max_stage": max_stage, "s_noise": s_noise, "eta": eta})


@node("SamplerSASolver", category="sampling/custom_sampling/samplers")
def sa_solver(
    *, model: Model, eta: SmallFactor = 1.0, sde_start_percent: Percent = 0.2, sde_end_percent: Percent = 0.8,
    s_noise: Factor = 1.0, predictor_order: Annotated[int, Field(ge=1, le=6)] = 3,
    corrector_order: Annotated[int, Field(ge=0, le=6)] = 4, use_pece: bool = False, simple_order_2: bool = False,
) -> Sampler:  # fmt: skip
    """Stochastic Adams solver (Xue et al. 2023).

    Args:
        model: Not used; the percents are those of the model that samples.
        eta: How stochastic, within the range.
        sde_start_percent: Where the stochastic range begins, of the way from noise to picture.
        sde_end_percent: Where it ends.
        s_noise: Factor of the noise that is added.
        predictor_order: Order of the predictor.
        corrector_order: Order of the corrector; 0 leaves it out.
        use_pece: Evaluate once more after the correction.
        simple_order_2: The paper's simpler weights at order 2.
    """
    options = {
        "percents": (sde_start_percent, sde_end_percent), "eta": eta, "s_noise": s_noise,
        "predictor": predictor_order, "corrector": corrector_order, "again": use_pece, "simple": simple_order_2,
    }  # fmt: skip
    return SamplerValue("sa_solver", options)
