"""How a UNet's output is read as x0, and the noise levels it knows (ComfyUI's `model_sampling`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.schedules import TRAINING_STEPS, model_sigmas, sigma_of_t, t_of_sigma, zero_snr_sigmas

Prediction = Literal["eps", "v", "x0", "lcm", "edm", "image"]
_ABOVE_ALL = 999_999_999.9
_LCM_STRIDE = 20  # LCM was distilled from every 20th training step


@dataclass(frozen=True, slots=True)
class Parametrisation:
    """Reads what a UNet returns.

    Attributes:
        table: the sigmas it knows, ascending, float64.
        prediction: what it returns: the noise, v (Salimans & Ho 2022), x0, the noise under LCM's boundary condition
            (Luo et al. 2023, section 3), EDM's F (Karras et al. 2022), or x0 of x as it is (`image`).
        stride: training steps from one entry of the table to the next; the last entry is the last training step.
        is_continuous: it is told log(sigma) / 4 instead of a training step (Karras et al. 2022, table 1).
    """

    table: Tensor
    prediction: Prediction = "eps"
    stride: int = 1
    is_continuous: bool = False

    def timestep(self, sigma: Tensor) -> Tensor:
        """What the UNet is told of a scalar sigma."""
        if self.is_continuous:
            return sigma.log() / 4
        return t_of_sigma(sigma, self.table) * self.stride + (self.stride - 1)

    def sigma_at_timestep(self, timestep: Tensor) -> Tensor:
        """The sigma of training steps, of their shape."""
        return sigma_of_t((timestep - (self.stride - 1)) / self.stride, self.table)

    def sigma_at(self, percent: float) -> float:
        """The sigma after a part of all training steps; a range's first bound holds every sigma, its last none.

        0 is above and 1 below every schedule; between them the time is (1 - percent) * 999, log-linear between steps.
        """
        if percent <= 0:
            return _ABOVE_ALL
        if percent >= 1:
            return 0.0
        last = len(self.table) - 1 if self.is_continuous else TRAINING_STEPS - 1
        return float(self.sigma_at_timestep(torch.tensor((1 - percent) * last)))

    def scaled(self, x: Tensor, sigma: Tensor) -> Tensor:
        """X as the UNet sees it: of unit variance."""
        if self.prediction == "image":
            return x
        return x / (sigma**2 + self._data**2).sqrt()

    def estimate(self, x: Tensor, sigma: Tensor, output: Tensor) -> Tensor:
        """x0, from what the UNet returned for `scaled(x, sigma)`."""
        if self.prediction in ("x0", "image"):
            return output
        if self.prediction == "eps":
            return x - output * sigma
        if self.prediction == "lcm":
            scaled = self.timestep(sigma) * 10.0
            size = (scaled**2 + 0.25).sqrt()
            return (x - output * sigma) * (scaled / size) + x * (0.25 / size**2)
        size = (sigma**2 + self._data**2).sqrt()
        slope = output * (sigma * self._data / size)
        return x * (self._data / size) ** 2 + (slope if self.prediction == "edm" else -slope)

    @property
    def _data(self) -> float:
        """The deviation of the data the UNet was built for."""
        return 0.5 if self.prediction == "edm" else 1.0


def trained(config: UNetConfig) -> Parametrisation:
    """What a UNet was trained as."""
    return discrete(config.prediction, config.zero_terminal_snr, model_sigmas(*config.betas))


def discrete(prediction: Prediction, zero_snr: bool, table: Tensor | None = None) -> Parametrisation:
    """Stable Diffusion's training steps, or those of a table; LCM knows every 20th of them."""
    table = model_sigmas() if table is None else table
    table = zero_snr_sigmas(table) if zero_snr else table
    if prediction != "lcm":
        return Parametrisation(table, prediction)
    return Parametrisation(table[_LCM_STRIDE - 1 :: _LCM_STRIDE], prediction, _LCM_STRIDE)


def continuous(prediction: Prediction, sigma_min: float, sigma_max: float) -> Parametrisation:
    """Every sigma between two; the table is even in log sigma."""
    table = torch.linspace(math.log(sigma_min), math.log(sigma_max), TRAINING_STEPS, dtype=torch.float64).exp()
    return Parametrisation(table, prediction, is_continuous=True)
