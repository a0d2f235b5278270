"""Predictions become estimates of x0; masks keep what they protect."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from nodes.diffusion.contract import Estimate
from nodes.diffusion.denoiser import Told, UNetDenoiser, fit_mask, masked, repeat_to
from nodes.diffusion.parametrisation import Parametrisation
from nodes.diffusion.schedules import model_sigmas

TABLE = model_sigmas()


class Oracle(nn.Module):
    """Predicts exactly, for data that is `x0` everywhere, and remembers the timesteps."""

    def __init__(self, x0: Tensor, prediction: Literal["eps", "v"]) -> None:
        super().__init__()
        self.x0, self.prediction = x0, prediction
        self.timesteps: list[Tensor] = []

    def forward(self, x: Tensor, timesteps: Tensor, *_: object) -> Tensor:
        self.timesteps.append(timesteps)
        sigma = TABLE[int(timesteps[0])].float()
        alpha = 1 / (sigma**2 + 1).sqrt()
        eps = (x - alpha * self.x0) / (sigma * alpha)
        return eps if self.prediction == "eps" else alpha * eps - sigma * alpha * self.x0


@pytest.mark.parametrize("prediction", ["eps", "v"])
@pytest.mark.parametrize("t", [0, 17, 500, 999])
def test_an_exact_prediction_gives_the_data_back(prediction: Literal["eps", "v"], t: int) -> None:
    x0 = torch.linspace(-2, 2, 32).reshape(2, 4, 2, 2)
    unet = Oracle(x0, prediction)
    x = x0 + TABLE[t].float() * torch.randn(x0.shape, generator=torch.Generator().manual_seed(t))
    estimate = UNetDenoiser(unet, Parametrisation(TABLE, prediction))(x, TABLE[t].float(), Told(torch.zeros(2, 77, 8)))
    assert torch.allclose(estimate, x0, atol=1e-4)


def test_the_unet_is_told_the_nearest_training_step_once_for_each_item() -> None:
    unet = Oracle(torch.zeros(3, 4, 2, 2), "eps")
    sigma = TABLE[400].float() * 1.0001
    UNetDenoiser(unet, Parametrisation(TABLE))(torch.zeros(3, 4, 2, 2), sigma, Told(torch.zeros(3, 77, 8)))
    assert unet.timesteps[0].tolist() == [400.0, 400.0, 400.0]


def test_a_mask_shows_the_model_the_noised_latent_and_keeps_it_in_the_estimate() -> None:
    latent, noise = torch.full((1, 4, 2, 2), 3.0), torch.full((1, 4, 2, 2), 0.5)
    mask = torch.tensor([[[[0.0, 0.25], [1.0, 1.0]]]])
    seen: list[Tensor] = []

    def denoise(x: Tensor, sigma: Tensor) -> Estimate:
        seen.append(x)
        return Estimate(torch.full_like(x, -1.0), x)

    x0, uncond = masked(denoise, mask, latent, noise)(torch.full((1, 4, 2, 2), 10.0), torch.tensor(2.0))
    assert uncond is seen[0]
    assert seen[0][0, 0].tolist() == [[4.0, 5.5], [10.0, 10.0]]
    assert x0[0, 0].tolist() == [[3.0, 2.0], [-1.0, -1.0]]


def test_a_mask_may_change_with_the_noise_level() -> None:
    latent = torch.full((1, 4, 1, 2), 3.0)
    mask = torch.tensor([[[[0.2, 0.8]]]])
    nothing = lambda x, sigma: Estimate(torch.zeros_like(x), x)  # noqa: E731
    denoise = masked(nothing, mask, latent, latent, lambda given, sigma: (given > sigma) * 1.0)
    assert denoise(latent, torch.tensor(0.5)).x0[0, 0, 0].tolist() == [3.0, 0.0]
    assert denoise(latent, torch.tensor(0.1)).x0[0, 0, 0].tolist() == [0.0, 0.0]


def test_a_mask_is_resized_and_repeated_to_the_latents() -> None:
    mask = torch.zeros(2, 16, 16)
    mask[0, :, 8:] = 1
    fitted = fit_mask(mask, torch.zeros(3, 4, 2, 2))
    assert fitted.shape == (3, 1, 2, 2)
    assert fitted[0, 0].tolist() == [[0.0, 1.0], [0.0, 1.0]]
    assert torch.equal(fitted[2], fitted[0]) and not fitted[1].any()


def test_batches_are_repeated_in_order_and_cut() -> None:
    batch = torch.arange(3).reshape(3, 1)
    assert repeat_to(batch, 5).flatten().tolist() == [0, 1, 2, 0, 1]
    assert repeat_to(batch, 2).flatten().tolist() == [0, 1]
    assert repeat_to(batch, 3) is batch
