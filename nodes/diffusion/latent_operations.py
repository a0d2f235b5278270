"""What may be done to a latent inside other nodes, as values on a link. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

_TONES = 5  # standard deviations above the mean that count as the brightest
_SHARPNESS = 10  # of alpha in ComfyUI's units


class LatentOperation(Protocol):
    """Changes a latent."""

    def __call__(self, latent: Tensor) -> Tensor:
        """A latent [B, C, h, w] from one of the same shape, which stays as it is."""
        ...


@dataclass(frozen=True, slots=True)
class TonemapReinhard:
    """Shortens long channel vectors, which are strong colours and contrasts, and leaves short ones.

    Source: Reinhard et al. 2002, "Photographic tone reproduction", eq. 3, on the lengths; scaled as ComfyUI does.

    Attributes:
        multiplier: of the length that is taken for the brightest; less means stronger.
    """

    multiplier: float = 1.0

    def __call__(self, latent: Tensor) -> Tensor:
        """A latent [B, C, h, w] with lengths m -> m * top / (m + top), top = multiplier * (mean + 5 std)."""
        length = latent.norm(dim=1, keepdim=True) + 1e-10
        mean = length.mean(dim=(1, 2, 3), keepdim=True)
        top = (length.std(dim=(1, 2, 3), keepdim=True) * _TONES + mean) * self.multiplier
        return latent / length * (length * top / (length + top))


@dataclass(frozen=True, slots=True)
class Sharpen:
    """Sharpens the directions of the channel vectors by an unsharp mask, and keeps their lengths.

    Attributes:
        radius: of the mask, in latent cells.
        sigma: of its Gaussian, where 1 is the radius.
        alpha: how strongly.
    """

    radius: int = 9
    sigma: float = 1.0
    alpha: float = 0.1

    def __call__(self, latent: Tensor) -> Tensor:
        """A sharper latent [B, C, h, w].

        Raises:
            ValueError: the latent is too small for the radius.
        """
        import torch.nn.functional as F  # noqa: N812

        from nodes.diffusion.filters import gaussian

        if min(latent.shape[-2:]) <= self.radius:
            size = f"{latent.shape[-1]} x {latent.shape[-2]}"
            raise ValueError(
                f"sharpen_radius is {self.radius} and the latent {size}; expected less than its shorter side"
            )
        kernel = gaussian(self.radius, self.sigma).to(latent) * (-self.alpha * _SHARPNESS)
        kernel[self.radius, self.radius] += 1 - kernel.sum()
        length = latent.norm(dim=1, keepdim=True) + 1e-6
        padded = F.pad(latent / length, [self.radius] * 4, mode="reflect")
        channels = latent.shape[1]
        return length * F.conv2d(padded, kernel.expand(channels, 1, -1, -1), groups=channels)
