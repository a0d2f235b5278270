"""Patches of how a UNet's output is read, for models trained otherwise than their family."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import override

from nodes.diffusion.parametrisation import Parametrisation, Prediction, continuous, discrete
from nodes.diffusion.patches import Patch


@dataclass(frozen=True, slots=True)
class DiscreteSampling(Patch):
    """Stable Diffusion's training steps with another prediction, or ending in pure noise."""

    prediction: Prediction
    zero_snr: bool

    @override
    def parametrise(self, parametrisation: Parametrisation) -> Parametrisation:
        return discrete(self.prediction, self.zero_snr)


@dataclass(frozen=True, slots=True)
class ContinuousSampling(Patch):
    """Every noise level between two (Karras et al. 2022)."""

    prediction: Prediction
    sigma_min: float
    sigma_max: float

    @override
    def parametrise(self, parametrisation: Parametrisation) -> Parametrisation:
        return continuous(self.prediction, self.sigma_min, self.sigma_max)
