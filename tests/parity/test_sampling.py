"""Schedules, noise, denoiser and samplers give what they give in ComfyUI 0.3.64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nodes.diffusion.names import SAMPLERS
from tests.parity.kinds import assert_parity, cases_of

FOLDER = Path(__file__).parent / "sampling"
CASES = cases_of(FOLDER)


def of(kind: str) -> Any:
    cases = [pytest.param(case, id=case["id"]) for case in CASES if case["kind"] == kind]
    return pytest.mark.parametrize("case", cases)


@of("table")
def test_the_sigmas_of_a_model(case, session):
    assert_parity(case, FOLDER, session, 1e-6)


@of("schedule")
def test_a_schedule(case, session):
    assert_parity(case, FOLDER, session, 1e-6)


@of("ksampler_schedule")
def test_the_sigmas_ksampler_cuts(case, session):
    assert_parity(case, FOLDER, session, 1e-6)


@of("noise")
def test_the_noise_of_a_seed_to_the_bit(case, session):
    assert_parity(case, FOLDER, session, 0.0)


@of("apply_model")
def test_the_estimate_of_the_unet(case, session):
    assert_parity(case, FOLDER, session, 1e-5)


@of("ksampler")
def test_the_latent_of_a_sampler(case, session):
    assert_parity(case, FOLDER, session, 1e-4)


def test_every_sampler_of_comfyui_that_we_have_is_compared():
    compared = {case["params"]["sampler"] for case in CASES if case["kind"] == "ksampler"}
    assert compared == set(SAMPLERS) - {"pndm"}
