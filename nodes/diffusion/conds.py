"""A CONDITIONING made ready for a UNet: what is told it, where in the picture, and at which noise levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from nodes.diffusion.architecture import FAMILY_NAMES, Family, UNetConfig
from nodes.diffusion.concat import further_channels, noise_level
from nodes.diffusion.denoiser import repeat_to
from nodes.diffusion.parametrisation import Parametrisation
from nodes.diffusion.unet import timestep_embedding
from nodes.types import Cond

if TYPE_CHECKING:
    from nodes.types import ControlUse

_ENCODER_OF_WIDTH = {
    768: " (an SD1 text encoder)",
    1024: " (an SD2 text encoder)",
    1280: " (the text encoder of the SDXL refiner)",
    2048: " (an SDXL text encoder)",
}
_FIX = "encode the prompt with the CLIP of the model's own checkpoint"
_SIZE_FEATURES = 256
_FEATHER = 8  # latent pixels over which an area fades out, but no more than a quarter of its side
_SMALLEST = 8  # latent pixels of a side of an area taken from a mask
_FULL_LEVELS = (float("inf"), 0.0)


class Area(NamedTuple):
    """A rectangle of a latent."""

    height: int
    width: int
    top: int
    left: int

    def of(self, x: Tensor) -> Tensor:
        """What [..., h, w] has there, as a view."""
        return x[..., self.top : self.top + self.height, self.left : self.left + self.width]

    def covers(self, other: Area) -> bool:
        """True where the other lies inside."""
        return (self.top <= other.top and other.top + other.height <= self.top + self.height
                and self.left <= other.left and other.left + other.width <= self.left + self.width)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Prompt:
    """One conditioning, ready for the UNet.

    Attributes:
        context: [B, T, D].
        y: [B, A], or None for models without a vector.
        strength: its share among the prompts of its side: a number, or [B, 1, h, w] of its area.
        area: where it applies; None everywhere.
        levels: the highest and the lowest sigma it applies at.
        concat: [B, C', h, w], further channels of the input, for the whole latent; None for models without any.
        controls: ControlNets that steer it, the first one first.
    """

    context: Tensor
    y: Tensor | None = None
    strength: Tensor | float = 1.0
    area: Area | None = None
    levels: tuple[float, float] = _FULL_LEVELS
    concat: Tensor | None = None
    controls: tuple[ControlUse, ...] = ()

    def applies_at(self, sigma: float) -> bool:
        """True within its range of steps."""
        return self.levels[1] <= sigma <= self.levels[0]


class Model(NamedTuple):
    """What conditionings are made ready for: a UNet, and what a run asks of it.

    Attributes:
        config, family, parametrisation: of the UNet.
        noise_mask: of the latent, [M, H, W] or None.
        seed: of the run.
    """

    config: UNetConfig
    family: Family
    parametrisation: Parametrisation
    noise_mask: Tensor | None = None
    seed: int = 0


def prepare(conds: Sequence[Cond], side: str, model: Model, latent: Tensor) -> list[Prompt]:
    """A CONDITIONING as the UNet takes it, on the device of `latent` [B, C, h, w] and repeated to its batch.

    Args:
        side: its name in messages; the refiner is told another score where it is not `positive`.

    Raises:
        ValueError: it is empty, or was encoded for another kind of model; both sides are named.
    """
    if not conds:
        raise ValueError(f"the {side} conditioning is empty; connect a prompt")
    prompts: list[Prompt] = []
    for cond in conds:
        _check_width(cond, side, model)
        area, strength = _placed(cond.options, side, latent)
        y = _vector(cond, side, model, latent)
        context = repeat_to(cond.tokens.to(latent), len(latent))
        levels = _levels(cond.options, model.parametrisation)
        concat = further_channels(cond, model, latent)
        prompts.append(Prompt(context, y, strength, area, levels, concat, tuple(cond.options.get("control", ()))))
    return prompts


def check_latent(latent: Tensor, config: UNetConfig, family: Family) -> None:
    """Raises ValueError where a latent [B, C, h, w] is not of the model's kind."""
    if latent.ndim != 4 or latent.shape[1] != config.out_channels:
        has = f"{latent.shape[1]} channels" if latent.ndim == 4 else f"the shape {tuple(latent.shape)}"
        raise ValueError(
            f"the latent has {has} but this {FAMILY_NAMES[family]} model takes [B, {config.out_channels}, h, w]; "
            "make it with the VAE of the model's own checkpoint or an empty latent"
        )


def with_opposites(sides: Mapping[str, Sequence[Prompt]]) -> dict[str, list[Prompt]]:
    """Gives each prompt of an area a counterpart on the other sides, since guidance subtracts one from another.

    The counterpart says what the smallest prompt there that covers the area says, in that area (ComfyUI's
    `create_cond_with_same_area_if_none`).
    """
    found = {name: list(prompts) for name, prompts in sides.items()}
    for name, prompts in found.items():
        for prompt in prompts:
            for other, theirs in found.items():
                if other != name and prompt.area is not None:
                    theirs += _opposite(prompt, prompt.area, theirs)
    return found


def _opposite(prompt: Prompt, area: Area, others: Sequence[Prompt]) -> list[Prompt]:
    covering = [other for other in others if other.area is None or other.area.covers(area)]
    if not covering:
        return []
    smallest = min(covering, key=lambda other: float("inf") if other.area is None else other.area[0] * other.area[1])
    if smallest.area == area:
        return []
    return [replace(prompt, context=smallest.context, y=smallest.y, concat=smallest.concat)]


def _levels(options: Mapping[str, Any], parametrisation: Parametrisation) -> tuple[float, float]:
    high, low = options.get("start_percent"), options.get("end_percent")
    return (_FULL_LEVELS[0] if high is None else parametrisation.sigma_at(high),
            _FULL_LEVELS[1] if low is None else parametrisation.sigma_at(low))  # fmt: skip


def _placed(options: Mapping[str, Any], side: str, latent: Tensor) -> tuple[Area | None, Tensor | float]:
    """Where a conditioning applies and how much it counts there."""
    height, width = latent.shape[-2:]
    strength = float(options.get("strength", 1.0))
    area = _area(options.get("area"), side, height, width)
    mask = options.get("mask")
    if mask is None:
        return area, strength if area is None else strength * _feather(area, latent)
    mask = mask.to(latent).reshape(-1, 1, *mask.shape[-2:])
    if mask.shape[-2:] != (height, width):
        mask = interpolate(mask, size=(height, width), mode="bilinear")
    if options.get("set_area_to_bounds"):
        area = _bounds(mask)
    part = mask if area is None else area.of(mask)
    return area, repeat_to(part * float(options.get("mask_strength", 1.0)), len(latent)) * strength


def _area(given: Any, side: str, height: int, width: int) -> Area | None:
    """An area within a latent of that size."""
    if given is None:
        return None
    if given[0] == "percentage":
        h, w, top, left = given[1:]
        given = max(1, round(h * height)), max(1, round(w * width)), round(top * height), round(left * width)
    h, w, top, left = given
    area = Area(min(h, height - top), min(w, width - left), top, left)
    if area.height < 1 or area.width < 1:
        raise ValueError(
            f"an area of the {side} conditioning starts at x {left * 8}, y {top * 8}, outside the picture of "
            f"{width * 8} x {height * 8}; move it inside"
        )
    return area


def _bounds(mask: Tensor) -> Area:
    """The rectangle around what a mask [B, 1, h, w] has, of any of its items."""
    found = mask.abs().amax((0, 1)).nonzero()
    height, width = mask.shape[-2:]
    if not len(found):
        return Area(min(_SMALLEST, height), min(_SMALLEST, width), 0, 0)
    (top, left), (bottom, right) = found.amin(0).tolist(), found.amax(0).tolist()
    h, w = max(_SMALLEST, bottom - top + 1), max(_SMALLEST, right - left + 1)
    return Area(min(h, height - top), min(w, width - left), top, left)


def _feather(area: Area, latent: Tensor) -> Tensor:
    """Ones that fade out towards those edges of an area that are not the picture's: [1, 1, h, w]."""
    return (
        _ramp(area.height, area.top, latent.shape[-2])[:, None] * _ramp(area.width, area.left, latent.shape[-1])
    ).to(latent)[None, None]


def _ramp(length: int, start: int, size: int) -> Tensor:
    steps = min(_FEATHER, length // 4)
    fades = torch.arange(1, steps + 1) * (1 / max(steps, 1))
    weights = torch.ones(length)
    if start > 0:
        weights[: len(fades)] *= fades
    if start + length < size:
        weights[length - len(fades) :] *= fades.flip(0)
    return weights


def _check_width(cond: Cond, side: str, model: Model) -> None:
    width = cond.tokens.shape[-1]
    if width != model.config.context_dim:
        raise ValueError(
            f"{side} conditioning has {width} features{_ENCODER_OF_WIDTH.get(width, '')} but this "
            f"{FAMILY_NAMES[model.family]} model expects {model.config.context_dim}; {_FIX}"
        )


def _vector(cond: Cond, side: str, model: Model, latent: Tensor) -> Tensor | None:
    """SDXL's vector conditioning [B, A]: the pooled text, then the features of the picture's sizes.

    Of an upscaler [B]: how noisy the picture is that it enlarges.

    Source: Podell et al. 2023, "SDXL", section 2.2 (sizes, crop); generative-models of Stability AI (the refiner's
    aesthetic score).
    """
    if model.config.num_classes is not None:
        return torch.full((len(latent),), noise_level(cond), device=latent.device)
    if model.config.adm_in_channels is None:
        return None
    sizes = _sizes(cond, side, model.family, latent)
    expected = model.config.adm_in_channels - len(sizes) * _SIZE_FEATURES
    if cond.pooled is None:
        raise ValueError(
            f"{side} conditioning has no pooled output but this {FAMILY_NAMES[model.family]} model needs one of "
            f"{expected} features; {_FIX}"
        )
    if cond.pooled.shape[-1] != expected:
        raise ValueError(
            f"{side} conditioning has a pooled output of {cond.pooled.shape[-1]} features but this "
            f"{FAMILY_NAMES[model.family]} model expects {expected}; {_FIX}"
        )
    pooled = repeat_to(cond.pooled.to(latent), len(latent))
    features = timestep_embedding(torch.tensor(sizes), _SIZE_FEATURES).flatten()
    return torch.cat([pooled, features.to(latent).expand(len(latent), -1)], dim=1)


def _sizes(cond: Cond, side: str, family: Family, latent: Tensor) -> list[float]:
    """The numbers SDXL (6) and its refiner (5) are told; by default those of the picture being made."""
    options = cond.options
    height, width = options.get("height", latent.shape[2] * 8), options.get("width", latent.shape[3] * 8)
    common = [height, width, options.get("crop_h", 0), options.get("crop_w", 0)]
    if family == "sdxl_refiner":
        numbers = [*common, options.get("aesthetic_score", 6.0 if side == "positive" else 2.5)]
    else:
        numbers = [*common, options.get("target_height", height), options.get("target_width", width)]
    return [float(number) for number in numbers]
