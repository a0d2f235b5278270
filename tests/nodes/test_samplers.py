"""Samplers as values: the options of their nodes are those of their functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from nodegraph.codec import decode, encode
from nodegraph.spec import NODE_ATTRIBUTE, NodeSpec
from nodes import samplers
from nodes.diffusion import names
from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.checkpoints import Part
from nodes.diffusion.contract import Estimate
from nodes.diffusion.parametrisation import discrete
from nodes.diffusion.samplers import noise_for, sampler_for
from nodes.diffusion.schedules import sigmas_for
from nodes.types import ModelValue, SamplerValue

CONFIG = UNetConfig(
    in_channels=4, out_channels=4, model_channels=32, channel_mult=(1,), num_res_blocks=(1,), transformer_depth=(1,),
    middle_depth=1, context_dim=8, num_heads=8, head_channels=None, use_linear=False,
)  # fmt: skip
MODEL = ModelValue(Part("", "", "unet", "sd1", CONFIG))
PARAMETRISATION = discrete("eps", zero_snr=False)
CPU = {"noise_device": "cpu"}
NODES: dict[str, tuple[Callable[..., SamplerValue], dict[str, Any], str]] = {  # what has no default; the sampler
    "KSamplerSelect": (samplers.select, {}, "euler"),
    "SamplerEulerAncestral": (samplers.euler_ancestral, {}, "euler_ancestral"),
    "SamplerEulerAncestralCFGPP": (samplers.euler_ancestral_cfg_pp, {}, "euler_ancestral_cfg_pp"),
    "SamplerLMS": (samplers.lms, {}, "lms"),
    "SamplerDPMPP_2S_Ancestral": (samplers.dpmpp_2s_ancestral, {}, "dpmpp_2s_ancestral"),
    "SamplerDPMPP_SDE": (samplers.dpmpp_sde, CPU, "dpmpp_sde"),
    "SamplerDPMPP_2M_SDE": (samplers.dpmpp_2m_sde, {"solver_type": "midpoint", **CPU}, "dpmpp_2m_sde"),
    "SamplerDPMPP_3M_SDE": (samplers.dpmpp_3m_sde, CPU, "dpmpp_3m_sde"),
    "SamplerDPMAdaptative": (samplers.dpm_adaptive, {}, "dpm_adaptive"),
    "SamplerER_SDE": (samplers.er_sde, {"solver_type": "ER-SDE"}, "er_sde"),
    "SamplerSASolver": (samplers.sa_solver, {"model": MODEL}, "sa_solver"),
}
INPUTS: dict[str, dict[str, Any]] = {
    "KSamplerSelect": {"sampler_name": "euler"},
    "SamplerEulerAncestral": {"eta": 1.0, "s_noise": 1.0},
    "SamplerEulerAncestralCFGPP": {"eta": 1.0, "s_noise": 1.0},
    "SamplerLMS": {"order": 4},
    "SamplerDPMPP_2S_Ancestral": {"eta": 1.0, "s_noise": 1.0},
    "SamplerDPMPP_SDE": {"eta": 1.0, "s_noise": 1.0, "r": 0.5, "noise_device": "gpu"},
    "SamplerDPMPP_2M_SDE": {"solver_type": "midpoint", "eta": 1.0, "s_noise": 1.0, "noise_device": "gpu"},
    "SamplerDPMPP_3M_SDE": {"eta": 1.0, "s_noise": 1.0, "noise_device": "gpu"},
    "SamplerDPMAdaptative": {
        "order": 3, "rtol": 0.05, "atol": 0.0078, "h_init": 0.05, "pcoeff": 0.0, "icoeff": 1.0, "dcoeff": 0.0,
        "accept_safety": 0.81, "eta": 0.0, "s_noise": 1.0,
    },
    "SamplerER_SDE": {"solver_type": "ER-SDE", "max_stage": 3, "eta": 1.0, "s_noise": 1.0},
    "SamplerSASolver": {
        "model": None, "eta": 1.0, "sde_start_percent": 0.2, "sde_end_percent": 0.8, "s_noise": 1.0,
        "predictor_order": 3, "corrector_order": 4, "use_pece": False, "simple_order_2": False,
    },
}  # fmt: skip


def walked(value: SamplerValue, steps: int = 6) -> Tensor:
    """A walk of a sampler over a denoiser that is not linear."""

    def both(x: Tensor, sigma: Tensor) -> Estimate:
        return Estimate(torch.tanh(x) / (1 + sigma**2), torch.tanh(x / 2) / (1 + sigma**2))

    sigmas = sigmas_for("karras", steps, PARAMETRISATION.table)
    x = torch.linspace(-1.5, 1.5, 16).reshape(1, 4, 2, 2) * sigmas[0]
    walk = sampler_for(value.name, PARAMETRISATION, value.options)
    return walk(both, x, sigmas, noise_for(value.name, x, sigmas, (3,)), lambda i, x0: None)


@pytest.mark.parametrize("name", NODES)
def test_the_nodes_have_comfyuis_inputs_and_defaults(name: str) -> None:
    spec: NodeSpec = getattr(NODES[name][0], NODE_ATTRIBUTE)
    assert spec.name == name and spec.outputs[0].port == "SAMPLER"
    assert [item.name for item in spec.inputs] == list(INPUTS[name])
    for item in spec.inputs:
        first = item.choices[0] if item.choices and item.is_required else None
        default = first if item.is_required else item.default
        assert default == INPUTS[name][item.name], item.name


@pytest.mark.parametrize("name", NODES)
def test_the_defaults_of_a_node_are_the_sampler_by_name(name: str) -> None:
    make, given, sampler = NODES[name]
    value = make(**given)
    assert value.name == sampler and torch.equal(walked(value), walked(SamplerValue(sampler)))
    assert decode(*encode(value), ["nodes"]) == value


def test_a_sampler_is_chosen_by_name() -> None:
    for name in names.SAMPLERS:
        assert samplers.select(sampler_name=name) == SamplerValue(name)
    with pytest.raises(ValidationError):
        spec: NodeSpec = getattr(samplers.select, NODE_ATTRIBUTE)
        TypeAdapter(spec.by_name["sampler_name"].literal).validate_python("eulr")


@pytest.mark.parametrize(("value", "twin"), [
    (samplers.euler_ancestral(eta=0.0), SamplerValue("euler")),
    (samplers.euler_ancestral_cfg_pp(eta=0.0), SamplerValue("euler_cfg_pp")),
    (samplers.lms(order=1), SamplerValue("euler")),
    (samplers.dpmpp_2m_sde(solver_type="midpoint", eta=0.0, noise_device="cpu"), SamplerValue("dpmpp_2m")),
    (samplers.dpmpp_2m_sde(solver_type="heun", noise_device="cpu"), SamplerValue("dpmpp_2m_sde_heun")),
    (samplers.dpmpp_2m_sde(solver_type="midpoint", noise_device="gpu"), SamplerValue("dpmpp_2m_sde_gpu")),
    (samplers.dpmpp_sde(noise_device="gpu"), SamplerValue("dpmpp_sde_gpu")),
    (samplers.dpmpp_3m_sde(noise_device="gpu"), SamplerValue("dpmpp_3m_sde_gpu")),
    (samplers.dpmpp_sde(eta=0.0, noise_device="cpu"), samplers.dpmpp_2s_ancestral(eta=0.0)),
    (samplers.er_sde(solver_type="ODE", max_stage=1), SamplerValue("euler")),
    (samplers.er_sde(solver_type="Reverse-time SDE", eta=0.0),
     samplers.er_sde(solver_type="ODE", eta=5.0, s_noise=3.0)),
    (samplers.sa_solver(model=MODEL, use_pece=True), SamplerValue("sa_solver_pece")),
    (samplers.sa_solver(model=MODEL, eta=0.0, predictor_order=1, corrector_order=0), SamplerValue("euler")),
])  # fmt: skip
def test_with_such_inputs_a_node_is_another_sampler(value: SamplerValue, twin: SamplerValue) -> None:
    torch.testing.assert_close(walked(value), walked(twin), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NODES)
def test_every_input_counts(name: str) -> None:
    make, given, _ = NODES[name]
    changed: dict[str, Any] = {
        "eta": 0.5, "s_noise": 0.5, "order": 2, "r": 0.3, "rtol": 0.001, "atol": 0.00001, "h_init": 1.0, "pcoeff": 0.5,
        "icoeff": 0.6, "dcoeff": 0.4, "accept_safety": 0.01, "max_stage": 1, "sde_start_percent": 0.6,
        "sde_end_percent": 0.4, "predictor_order": 2, "corrector_order": 1, "use_pece": True,
    }  # fmt: skip
    base = {"eta": 1.0, "h_init": 20.0} if name == "SamplerDPMAdaptative" else {}
    before = walked(make(**given, **base), 12)
    for item in getattr(make, NODE_ATTRIBUTE).inputs:
        if item.name in changed and not (name == "SamplerER_SDE" and item.name == "eta"):
            after = walked(make(**{**given, **base, item.name: changed[item.name]}), 12)
            assert not torch.allclose(before, after, rtol=1e-6, atol=1e-7), item.name


def test_the_simple_weights_count_at_order_two() -> None:
    def value(is_simple: bool) -> SamplerValue:
        return samplers.sa_solver(model=MODEL, predictor_order=2, corrector_order=2, simple_order_2=is_simple)

    assert not torch.allclose(walked(value(True)), walked(value(False)), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("given", [{"rtol": 0.0, "atol": 0.0}, {"h_init": 0.0}, {"accept_safety": 1.5}])
def test_an_adaptive_sampler_that_would_never_end_is_a_problem(given: dict[str, float]) -> None:
    spec: NodeSpec = getattr(samplers.dpm_adaptive, NODE_ATTRIBUTE)
    assert spec.check is not None and not list(spec.check()) and not list(spec.check(rtol=0.0))
    (problem,) = spec.check(**given)
    assert "; expected " in str(problem)
