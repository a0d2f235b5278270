"""Schedules, noise, denoiser and samplers against what ComfyUI 0.3.64 computed (`sampling/manifest.json`)."""

from __future__ import annotations

import json
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.checkpoints import read_checkpoint
from nodes.diffusion.denoiser import UNetDenoiser
from nodes.diffusion.ksampler import Settings, sample
from nodes.diffusion.names import SAMPLERS
from nodes.diffusion.noise import initial_noise
from nodes.diffusion.schedules import model_sigmas, sampling_sigmas, sigma_at_percent, sigmas_for
from nodes.types import Cond, LatentValue

HERE = Path(__file__).parent
CASES: list[dict[str, Any]] = json.loads((HERE / "sampling" / "manifest.json").read_text())["cases"]
TABLE = model_sigmas()
ALL_BUT_ONE_STEP = [case for case in CASES if case["id"] != "sigmas/kl_optimal/1"]


@cache
def tensors() -> dict[str, Tensor]:
    return load_file(HERE / "sampling" / "tensors.safetensors")


@cache
def unet() -> tuple[nn.Module, UNetConfig]:
    part = read_checkpoint(HERE / "weights" / "tiny-sd15.safetensors", "").unet
    assert part is not None
    return part.load("cpu", torch.float32), part.config


def of(kind: str) -> Any:
    cases = [case for case in ALL_BUT_ONE_STEP if case["kind"] == kind]
    return pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in cases])


def assert_parity(ours: Tensor, case: dict[str, Any], name: str, within: float) -> None:
    expected = tensors()[case["tensors"][name]["key"]]
    assert ours.shape == expected.shape
    error = float((ours - expected).norm() / expected.norm())
    assert error <= within, f"relative error {error:.2e}, largest difference {float((ours - expected).abs().max()):.2e}"


def test_the_table_of_sigmas() -> None:
    (case,) = [case for case in CASES if case["id"] == "model_sigmas"]
    assert_parity(TABLE, case, "sigmas", 1e-6)
    assert_parity(TABLE.log(), case, "log_sigmas", 1e-6)


def test_the_sigmas_of_percents() -> None:
    (case,) = [case for case in CASES if case["id"] == "percent_to_sigma"]
    ours = torch.tensor([sigma_at_percent(percent, TABLE) for percent in case["percents"]], dtype=torch.float64)
    expected = tensors()[case["tensors"]["sigmas"]["key"]]
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=0)


@of("schedule")
def test_a_schedule(case: dict[str, Any]) -> None:
    assert_parity(sigmas_for(case["scheduler"], case["steps"], TABLE), case, "sigmas", 1e-6)


def test_one_step_of_kl_optimal_is_not_a_number_there_and_here() -> None:
    ours = sigmas_for("kl_optimal", 1, TABLE)
    torch.testing.assert_close(ours, tensors()["sigmas/kl_optimal/1/sigmas"], equal_nan=True)


@of("ksampler_schedule")
def test_the_sigmas_ksampler_cuts(case: dict[str, Any]) -> None:
    ours = sampling_sigmas(case["sampler"], case["scheduler"], case["steps"], case["denoise"], TABLE)
    assert_parity(ours, case, "sigmas", 1e-6)


@of("noise")
def test_the_noise_of_a_seed_to_the_bit(case: dict[str, Any]) -> None:
    assert_parity(initial_noise(case["shape"], int(case["seed"])), case, "noise", 0.0)


@of("apply_model")
def test_the_estimate_of_the_unet(case: dict[str, Any]) -> None:
    network, config = unet()
    sigma = torch.tensor(case["sigma"])
    x = tensors()["latent_b2"] * (1 + sigma)  # as the case says: "latent_b2*(1+sigma)"
    context = torch.cat([tensors()[key] for key in case["context"]])
    with torch.no_grad():
        x0 = UNetDenoiser(network, TABLE, config.prediction)(x, sigma, context)
    assert_parity(x0, case, "denoised", 1e-5)
    assert_parity((x - x0) / sigma, case, "eps", 1e-5)


class Silent:
    """Progress nobody follows."""

    def check(self) -> None:
        """Never ends the run."""

    def step(self, i: int, n: int) -> None:
        """Says nothing."""


@of("ksampler")
def test_the_latent_of_a_sampler(case: dict[str, Any]) -> None:
    network, config = unet()
    given = case["params"]
    settings = Settings(
        given["seed"], given["steps"], given["cfg"], given["sampler"], given["scheduler"], given["denoise"]
    )  # fmt: skip
    result = sample(
        nullcontext(network), config, family="sd1", latent=LatentValue(tensors()[case["latent"]]),
        prompts=((Cond(tensors()[case["positive"]]),), (Cond(tensors()[case["negative"]]),)),
        settings=settings, progress=Silent(),
    )  # fmt: skip
    assert_parity(result.samples, case, "latent", 1e-4)


def test_every_sampler_of_comfyui_that_we_have_is_compared() -> None:
    compared = {case["params"]["sampler"] for case in CASES if case["kind"] == "ksampler"}
    assert compared == set(SAMPLERS) - {"pndm"}
