"""What a UNet returns becomes x0 as the papers and diffusers have it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.parametrisation import Parametrisation, Prediction, continuous, discrete, trained
from nodes.diffusion.sampling_patches import ContinuousSampling, DiscreteSampling
from nodes.diffusion.schedules import model_sigmas, zero_snr_sigmas

TABLE = model_sigmas()
CONFIG = UNetConfig(
    in_channels=4, out_channels=4, model_channels=32, channel_mult=(1,), num_res_blocks=(1,), transformer_depth=(1,),
    middle_depth=1, context_dim=8, num_heads=8, head_channels=None, use_linear=False,
)  # fmt: skip
X, OUTPUT = torch.randn((2, 2, 4, 3, 3), generator=torch.Generator().manual_seed(0)).unbind()


def test_a_model_is_read_as_it_was_trained() -> None:
    plain = trained(CONFIG)
    assert plain.prediction == "eps" and not plain.is_continuous and torch.equal(plain.table, TABLE)
    other = trained(replace(CONFIG, prediction="v", zero_terminal_snr=True))
    assert other.prediction == "v" and torch.equal(other.table, zero_snr_sigmas(TABLE))


@pytest.mark.parametrize("sigma", [0.03, 1.0, 14.6])
def test_v_is_that_of_salimans_and_ho(sigma: float) -> None:
    x0, noise = X.double(), OUTPUT.double()
    alpha = 1 / math.sqrt(1 + sigma**2)
    v = alpha * noise - sigma * alpha * x0
    found = Parametrisation(TABLE, "v").estimate(x0 + sigma * noise, torch.tensor(sigma).double(), v)
    torch.testing.assert_close(found, x0, rtol=1e-6, atol=1e-6)


def test_x0_is_taken_as_it_is_and_an_image_model_sees_x_unscaled() -> None:
    sigma = torch.tensor(3.0)
    for prediction in ("x0", "image"):
        assert Parametrisation(TABLE, prediction).estimate(X, sigma, OUTPUT) is OUTPUT
    assert Parametrisation(TABLE, "image").scaled(X, sigma) is X
    torch.testing.assert_close(Parametrisation(TABLE, "x0").scaled(X, sigma), X / math.sqrt(10))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("t", [19, 39, 519, 999])
def test_lcm_has_the_boundary_condition_of_diffusers(t: int) -> None:
    """ComfyUI, whose numbers these are, joins them in x = x0 + sigma * noise, not in a unit-variance latent."""
    diffusers = pytest.importorskip("diffusers")
    skip, out = diffusers.LCMScheduler().get_scalings_for_boundary_condition_discrete(t)
    lcm = discrete("lcm", zero_snr=False)
    sigma = TABLE[t].float()
    assert float(lcm.timestep(sigma)) == t
    expected = out * (X - sigma * OUTPUT) + skip * X
    torch.testing.assert_close(lcm.estimate(X, sigma, OUTPUT), expected, rtol=1e-5, atol=1e-5)


def test_lcm_knows_every_twentieth_training_step() -> None:
    lcm = discrete("lcm", zero_snr=False)
    assert torch.equal(lcm.table, TABLE[[19 + 20 * i for i in range(50)]])
    assert float(lcm.timestep(TABLE[25].float())) == 19.0 and float(lcm.timestep(TABLE[32].float())) == 39.0
    steps = torch.tensor([19.0, 999.0, 500.0])
    found = lcm.sigma_at_timestep(steps)
    between = math.log(TABLE[499]) * 0.95 + math.log(TABLE[519]) * 0.05
    torch.testing.assert_close(found.log(), torch.tensor([math.log(TABLE[19]), math.log(TABLE[999]), between]))


@pytest.mark.parametrize(("prediction", "theirs"), [("edm", "epsilon"), ("v", "v_prediction")])
@pytest.mark.parametrize("sigma", [0.002, 0.7, 120.0])
def test_edm_and_v_are_preconditioned_as_in_diffusers(prediction: Prediction, theirs: str, sigma: float) -> None:
    diffusers = pytest.importorskip("diffusers")
    data = 0.5 if prediction == "edm" else 1.0
    peer = diffusers.EDMEulerScheduler(0.002, 120.0, sigma_data=data, prediction_type=theirs)
    ours, level = continuous(prediction, 0.002, 120.0), torch.tensor(sigma)
    torch.testing.assert_close(ours.scaled(X, level), peer.precondition_inputs(X, level))
    torch.testing.assert_close(ours.estimate(X, level, OUTPUT), peer.precondition_outputs(X, OUTPUT, level))
    torch.testing.assert_close(ours.timestep(level), peer.precondition_noise(level))


def test_a_continuous_table_is_even_in_log_sigma() -> None:
    table = continuous("eps", 0.01, 100.0).table
    assert len(table) == 1000 and float(table[0]) == pytest.approx(0.01) and float(table[-1]) == pytest.approx(100)
    torch.testing.assert_close(table.log().diff(), torch.full([999], math.log(1e4) / 999, dtype=torch.float64))


def test_percents_are_of_the_way_from_noise_to_picture() -> None:
    eps = discrete("eps", zero_snr=False)
    assert eps.sigma_at(0.0) > 1e8 and eps.sigma_at(1.0) == 0.0
    assert eps.sigma_at(0.25) == pytest.approx(math.exp(0.75 * TABLE[749].log() + 0.25 * TABLE[750].log()), rel=1e-6)
    assert eps.sigma_at(0.5) == pytest.approx(math.sqrt(TABLE[499] * TABLE[500]), rel=1e-6)
    assert continuous("eps", 0.01, 100.0).sigma_at(0.25) == pytest.approx(10.0, rel=1e-5)
    lcm = discrete("lcm", zero_snr=False)
    assert lcm.sigma_at(0.5) == pytest.approx(float(lcm.sigma_at_timestep(torch.tensor(499.5))))


def test_patches_say_how_a_model_is_read() -> None:
    before = trained(CONFIG)
    after = DiscreteSampling("v", True).parametrise(before)
    assert after.prediction == "v" and torch.equal(after.table, zero_snr_sigmas(TABLE)) and before.prediction == "eps"
    edm = ContinuousSampling("edm", 0.002, 80.0).parametrise(before)
    assert edm.is_continuous and float(edm.table[-1]) == pytest.approx(80)
