"""Classifier-free guidance: from two lists of prompts and a scale to estimates of x0."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nodes.diffusion.architecture import Family, UNetConfig
from nodes.diffusion.contract import Estimate, GuidedDenoise
from nodes.diffusion.denoiser import Predict, repeat_to
from nodes.diffusion.unet import timestep_embedding
from nodes.types import Cond

_MODEL_NAMES = {"sd1": "SD1", "sd2": "SD2", "sdxl": "SDXL", "sdxl_refiner": "SDXL refiner"}
_ENCODER_OF_WIDTH = {
    768: " (an SD1 text encoder)",
    1024: " (an SD2 text encoder)",
    1280: " (the text encoder of the SDXL refiner)",
    2048: " (an SDXL text encoder)",
}
_FIX = "encode the prompt with the CLIP of the model's own checkpoint"
_SIZE_FEATURES = 256
_LONGEST_REPEAT = 4
"""Tokens are repeated at most so often to share a forward; beyond that a second forward costs less."""

Side = Literal["positive", "negative"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One conditioning, ready for the UNet.

    Attributes:
        context: [B, T, D].
        y: [B, A], or None for models without a vector.
        strength: its share among the prompts of its side.
    """

    context: Tensor
    y: Tensor | None = None
    strength: float = 1.0


def guided(
    predict: Predict, positive: Sequence[Prompt], negative: Sequence[Prompt], cfg: float, *, wants_uncond: bool = False
) -> GuidedDenoise:
    """x0 = uncond + cfg * (cond - uncond) (Ho & Salimans 2022, eq. 6 with w = cfg - 1).

    A side with several prompts is their mean weighed by strength. Both sides share one forward where their shapes
    allow; at cfg = 1 the negative side has no part and is not evaluated unless
    `wants_uncond`; `uncond` is x0 then.
    """
    is_guided = wants_uncond or not math.isclose(cfg, 1.0)
    prompts = [*positive, *negative] if is_guided else list(positive)
    groups = _groups(prompts)

    def denoise(x: Tensor, sigma: Tensor) -> Estimate:
        estimates = _evaluate(predict, x, sigma, prompts, groups)
        cond = _mean(estimates[: len(positive)], positive)
        if not is_guided:
            return Estimate(cond, cond)
        uncond = _mean(estimates[len(positive) :], negative)
        return Estimate(uncond + (cond - uncond) * cfg, uncond)

    return denoise


def _groups(prompts: Sequence[Prompt]) -> list[list[int]]:
    """The prompts, by place, that can share a forward.

    Attention does not change when all its tokens are repeated equally often, so lengths meet at their lcm.
    """
    groups: list[list[int]] = []
    for place, prompt in enumerate(prompts):
        for group in groups:
            lengths = [prompts[other].context.shape[1] for other in group] + [prompt.context.shape[1]]
            if math.lcm(*lengths) <= _LONGEST_REPEAT * min(lengths):
                group.append(place)
                break
        else:
            groups.append([place])
    return groups


def _evaluate(
    predict: Predict, x: Tensor, sigma: Tensor, prompts: Sequence[Prompt], groups: Iterable[Sequence[int]]
) -> list[Tensor]:
    """The estimates under each prompt, one forward a group."""
    estimates: dict[int, Tensor] = {}
    for group in groups:
        members = [prompts[place] for place in group]
        length = math.lcm(*[member.context.shape[1] for member in members])
        context = torch.cat([m.context.repeat(1, length // m.context.shape[1], 1) for m in members])
        vectors = [member.y for member in members if member.y is not None]
        y = torch.cat(vectors) if vectors else None
        output = predict(x.repeat(len(members), 1, 1, 1), sigma, context, y)
        estimates.update(zip(group, output.chunk(len(members)), strict=True))
    return [estimates[place] for place in range(len(prompts))]


def _mean(estimates: Sequence[Tensor], prompts: Sequence[Prompt]) -> Tensor:
    total = sum(prompt.strength for prompt in prompts)
    weighed = [estimate * prompt.strength for estimate, prompt in zip(estimates, prompts, strict=True)]
    return torch.stack(weighed).sum(dim=0) / (total + 1e-37)  # strengths that are all 0 give 0, as in ComfyUI, not 0/0


def prepare(conds: Sequence[Cond], side: Side, config: UNetConfig, family: Family, latent: Tensor) -> list[Prompt]:
    """A CONDITIONING as the UNet takes it, on the device of `latent` [B, C, h, w] and repeated to its batch.

    Raises:
        ValueError: it is empty, or was encoded for another kind of model; both sides are named.
    """
    if not conds:
        raise ValueError(f"the {side} conditioning is empty; connect a prompt")
    prompts: list[Prompt] = []
    for cond in conds:
        width = cond.tokens.shape[-1]
        if width != config.context_dim:
            raise ValueError(
                f"{side} conditioning has {width} features{_ENCODER_OF_WIDTH.get(width, '')} but this "
                f"{_MODEL_NAMES[family]} model expects {config.context_dim}; {_FIX}"
            )
        y = _vector(cond, side, config, family, latent)
        context = repeat_to(cond.tokens.to(latent), len(latent))
        prompts.append(Prompt(context, y, float(cond.options.get("strength", 1.0))))
    return prompts


def check_latent(latent: Tensor, config: UNetConfig, family: Family) -> None:
    """Raises ValueError where a latent [B, C, h, w] is not of the model's kind."""
    if latent.ndim != 4 or latent.shape[1] != config.in_channels:
        has = f"{latent.shape[1]} channels" if latent.ndim == 4 else f"the shape {tuple(latent.shape)}"
        raise ValueError(
            f"the latent has {has} but this {_MODEL_NAMES[family]} model takes [B, {config.in_channels}, h, w]; "
            "make it with the VAE of the model's own checkpoint or an empty latent"
        )


def _vector(cond: Cond, side: Side, config: UNetConfig, family: Family, latent: Tensor) -> Tensor | None:
    """SDXL's vector conditioning [B, A]: the pooled text, then the features of the picture's sizes.

    Source: Podell et al. 2023, "SDXL", section 2.2 (sizes, crop); generative-models of Stability AI (the refiner's
    aesthetic score).
    """
    if config.adm_in_channels is None:
        return None
    sizes = _sizes(cond, side, family, latent)
    expected = config.adm_in_channels - len(sizes) * _SIZE_FEATURES
    if cond.pooled is None:
        raise ValueError(
            f"{side} conditioning has no pooled output but this {_MODEL_NAMES[family]} model needs one of "
            f"{expected} features; {_FIX}"
        )
    if cond.pooled.shape[-1] != expected:
        raise ValueError(
            f"{side} conditioning has a pooled output of {cond.pooled.shape[-1]} features but this "
            f"{_MODEL_NAMES[family]} model expects {expected}; {_FIX}"
        )
    pooled = repeat_to(cond.pooled.to(latent), len(latent))
    features = timestep_embedding(torch.tensor(sizes), _SIZE_FEATURES).flatten()
    return torch.cat([pooled, features.to(latent).expand(len(latent), -1)], dim=1)


def _sizes(cond: Cond, side: Side, family: Family, latent: Tensor) -> list[float]:
    """The numbers SDXL (6) and its refiner (5) are told; by default those of the picture being made."""
    options = cond.options
    height, width = options.get("height", latent.shape[2] * 8), options.get("width", latent.shape[3] * 8)
    common = [height, width, options.get("crop_h", 0), options.get("crop_w", 0)]
    if family == "sdxl_refiner":
        numbers = [*common, options.get("aesthetic_score", 6.0 if side == "positive" else 2.5)]
    else:
        numbers = [*common, options.get("target_height", height), options.get("target_width", width)]
    return [float(number) for number in numbers]
