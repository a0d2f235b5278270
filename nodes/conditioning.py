"""Conditioning: combining prompts, and where and when each applies."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from nodegraph.spec import node
from nodegraph.types import Widget
from nodes.types import Cond, Conditioning, Fraction, Mask

Side = Annotated[int, Field(ge=64, le=16384), Widget(step=8)]
Offset = Annotated[int, Field(ge=0, le=16384), Widget(step=8)]
Strength = Annotated[float, Field(ge=0.0, le=10.0), Widget(step=0.01)]
Percent = Annotated[float, Field(ge=0.0, le=1.0), Widget(step=0.001)]


@node("ConditioningCombine", category="conditioning", title="Conditioning (Combine)")
def combine(*, conditioning_1: Conditioning, conditioning_2: Conditioning) -> Conditioning:
    """Follow several prompts at once: the sampler takes the mean of what each asks for.

    Args:
        conditioning_1: Some prompts.
        conditioning_2: More prompts.
    """
    return conditioning_1 + conditioning_2


@node("ConditioningAverage", category="conditioning", title="Conditioning (Average)")
def average(
    *, conditioning_to: Conditioning, conditioning_from: Conditioning, conditioning_to_strength: Fraction = 1.0
) -> Conditioning:
    """Blend each prompt, [B, T, D], with the first of others, token by token; the shorter one is filled with zeros.

    Args:
        conditioning_to: The prompts to change; they keep their lengths and options.
        conditioning_from: What they are blended with; only its first prompt is used.
        conditioning_to_strength: 1 keeps the prompts, 0 replaces them.
    """
    first = _first(conditioning_from, "conditioning_from")
    share = conditioning_to_strength
    found: list[Cond] = []
    for cond in conditioning_to:
        tokens, other = cond.tokens, first.tokens[:, : cond.tokens.shape[1]]
        _check_widths(tokens, other)
        gap = other.new_zeros(other.shape[0], tokens.shape[1] - other.shape[1], other.shape[2])
        pooled = cond.pooled if first.pooled is None else first.pooled
        if cond.pooled is not None and first.pooled is not None:
            pooled = cond.pooled * share + first.pooled * (1.0 - share)
        blended = tokens * share + _cat(other, gap).to(tokens) * (1.0 - share)
        found.append(replace(cond, tokens=blended, pooled=pooled))
    return tuple(found)


@node("ConditioningConcat", category="conditioning", title="Conditioning (Concat)")
def concat(*, conditioning_to: Conditioning, conditioning_from: Conditioning) -> Conditioning:
    """Lengthen each prompt, [B, T, D], by the tokens of another, as if both were chunks of one prompt.

    Args:
        conditioning_to: The prompts to lengthen; they keep their pooled outputs and options.
        conditioning_from: What is added; only its first prompt is used.
    """
    added = _first(conditioning_from, "conditioning_from").tokens
    for cond in conditioning_to:
        _check_widths(cond.tokens, added)
    return tuple(replace(cond, tokens=_cat(cond.tokens, added.to(cond.tokens))) for cond in conditioning_to)


@node("ConditioningSetArea", category="conditioning", title="Conditioning (Set Area)")
def set_area(
    *, conditioning: Conditioning, width: Side = 64, height: Side = 64, x: Offset = 0, y: Offset = 0,
    strength: Strength = 1.0,
) -> Conditioning:  # fmt: skip
    """Use prompts only in a rectangle of the picture.

    Args:
        conditioning: The prompts.
        width: Of the rectangle, in pixels; rounded down to a multiple of 8, as all four.
        height: Of the rectangle.
        x: Its left side.
        y: Its upper side.
        strength: Its share where rectangles overlap.
    """
    area = (height // 8, width // 8, y // 8, x // 8)
    return _with(conditioning, area=area, strength=strength, set_area_to_bounds=False)


@node("ConditioningSetAreaPercentage", category="conditioning", title="Conditioning (Set Area with Percentage)")
def set_area_percentage(
    *, conditioning: Conditioning, width: Fraction = 1.0, height: Fraction = 1.0, x: Fraction = 0.0,
    y: Fraction = 0.0, strength: Strength = 1.0,
) -> Conditioning:  # fmt: skip
    """Use prompts only in a rectangle, told as fractions of the picture.

    Args:
        conditioning: The prompts.
        width: Of the rectangle; 1 is the whole width.
        height: Of the rectangle; 1 is the whole height.
        x: Its left side.
        y: Its upper side.
        strength: Its share where rectangles overlap.
    """
    area = ("percentage", height, width, y, x)
    return _with(conditioning, area=area, strength=strength, set_area_to_bounds=False)


@node("ConditioningSetAreaStrength", category="conditioning")
def set_area_strength(*, conditioning: Conditioning, strength: Strength = 1.0) -> Conditioning:
    """Set the share of prompts among those they are combined with.

    Args:
        conditioning: The prompts.
        strength: 0 leaves them out, 2 counts twice.
    """
    return _with(conditioning, strength=strength)


@node("ConditioningSetMask", category="conditioning", title="Conditioning (Set Mask)")
def set_mask(
    *, conditioning: Conditioning, mask: Mask, strength: Strength = 1.0,
    set_cond_area: Literal["default", "mask bounds"],
) -> Conditioning:  # fmt: skip
    """Use prompts where a mask [B, H, W] is above 0, and as much as it is; it is scaled to the picture.

    Args:
        conditioning: The prompts.
        mask: Where they are used.
        strength: Multiplies the mask.
        set_cond_area: `mask bounds` shows the model only the rectangle around the mask, `default` the whole picture.
    """
    whole = mask if mask.ndim > 2 else mask[None]
    is_bound = set_cond_area != "default"
    return _with(conditioning, mask=whole, mask_strength=strength, set_area_to_bounds=is_bound)


@node("ConditioningZeroOut", category="advanced/conditioning")
def zero_out(*, conditioning: Conditioning) -> Conditioning:
    """Replace prompts by zeros of the same shape, which is not the same as an empty prompt.

    Args:
        conditioning: The prompts; they keep their options.
    """
    return tuple(
        replace(cond, tokens=cond.tokens.new_zeros(cond.tokens.shape), pooled=_zeros(cond)) for cond in conditioning
    )


@node("ConditioningSetTimestepRange", category="advanced/conditioning")
def set_timestep_range(*, conditioning: Conditioning, start: Percent = 0.0, end: Percent = 1.0) -> Conditioning:
    """Use prompts during a part of the sampling only.

    Args:
        conditioning: The prompts.
        start: 0 is the first noise the model was trained on, 1 the clean picture; a time, not a number of steps.
        end: Where they stop.
    """
    return _with(conditioning, start_percent=start, end_percent=end)


def _with(conditioning: Conditioning, **options: Any) -> Conditioning:
    return tuple(replace(cond, options={**cond.options, **options}) for cond in conditioning)


def _first(conditioning: Conditioning, name: str) -> Cond:
    if not conditioning:
        raise ValueError(f"{name} is empty; connect a prompt")
    return conditioning[0]


def _check_widths(one: Any, other: Any) -> None:
    if one.shape[-1] != other.shape[-1]:
        raise ValueError(
            f"the prompts have {one.shape[-1]} and {other.shape[-1]} features; encode both with the CLIP of one model"
        )


def _cat(*tokens: Any) -> Any:
    import torch

    return torch.cat(tokens, dim=1)


def _zeros(cond: Cond) -> Any:
    return None if cond.pooled is None else cond.pooled.new_zeros(cond.pooled.shape)
