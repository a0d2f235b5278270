"""Merging models: the weights of one blended into those of another when they are loaded. Nothing is loaded here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from nodegraph.context import Context
from nodegraph.spec import node
from nodegraph.types import Names, Widget
from nodes.diffusion.checkpoints import Part
from nodes.diffusion.merging import Share, blended
from nodes.types import Clip, ClipValue, Fraction, Model, ModelValue

Multiplier = Annotated[float, Field(ge=-10.0, le=10.0), Widget(step=0.01)]
_SD1_BLOCKS = (
    "time_embed.", "label_emb.", *(f"input_blocks.{i}." for i in range(12)), *(f"middle_block.{i}." for i in range(3)),
    *(f"output_blocks.{i}." for i in range(12)), "out.",
)  # fmt: skip
_SDXL_BLOCKS = (
    "time_embed.", "label_emb.", *(f"input_blocks.{i}" for i in range(9)), *(f"middle_block.{i}" for i in range(3)),
    *(f"output_blocks.{i}" for i in range(9)), "out.",
)  # fmt: skip


@node("ModelMergeSimple", category="advanced/model_merging", title="ModelMergeSimple")
def merge_models(*, ctx: Context, model1: Model, model2: Model, ratio: Fraction = 1.0) -> Model:
    """Mix two models of one family: every weight is `ratio` of the first and the rest of the second.

    Args:
        model1: The first; its patches are kept.
        model2: The second.
        ratio: How much of the first; 1 is the first alone.
    """
    return _merged(ctx, model1, model2, Share("", ratio, 1.0 - ratio))


@node("ModelMergeBlocks", category="advanced/model_merging", title="ModelMergeBlocks")
def merge_blocks(
    *, ctx: Context, model1: Model, model2: Model, input: Fraction = 1.0, middle: Fraction = 1.0, out: Fraction = 1.0
) -> Model:
    """Mix two models of one family, by other ratios in the encoder, the middle and the decoder.

    Args:
        model1: The first; its patches are kept.
        model2: The second.
        input: How much of the first in the input blocks, and in what is in none (the embeddings of the time).
        middle: In the middle block.
        out: In the output blocks and the last layers.
    """
    return _merged(ctx, model1, model2, *_by_block({"input": input, "middle": middle, "out": out}))


@node("ModelMergeSD1", category="advanced/model_merging/model_specific", title="ModelMergeSD1")
def merge_sd1(
    *, ctx: Context, model1: Model, model2: Model, **ratios: Annotated[Fraction, Names(_SD1_BLOCKS, default=1.0)]
) -> Model:
    """Mix two models of SD1, by another ratio in every block.

    Args:
        model1: The first; its patches are kept.
        model2: The second.
        ratios: How much of the first in this block; the first of all counts for what is in none.
    """
    return _merged(ctx, model1, model2, *_by_block(ratios))


@node("ModelMergeSD2", category="advanced/model_merging/model_specific", title="ModelMergeSD2")
def merge_sd2(
    *, ctx: Context, model1: Model, model2: Model, **ratios: Annotated[Fraction, Names(_SD1_BLOCKS, default=1.0)]
) -> Model:
    """Mix two models of SD2, by another ratio in every block.

    Args:
        model1: The first; its patches are kept.
        model2: The second.
        ratios: How much of the first in this block; the first of all counts for what is in none.
    """
    return _merged(ctx, model1, model2, *_by_block(ratios))


@node("ModelMergeSDXL", category="advanced/model_merging/model_specific", title="ModelMergeSDXL")
def merge_sdxl(
    *, ctx: Context, model1: Model, model2: Model, **ratios: Annotated[Fraction, Names(_SDXL_BLOCKS, default=1.0)]
) -> Model:
    """Mix two models of SDXL, by another ratio in every block.

    Args:
        model1: The first; its patches are kept.
        model2: The second.
        ratios: How much of the first in this block; the first of all counts for what is in none.
    """
    return _merged(ctx, model1, model2, *_by_block(ratios))


@node("ModelMergeSubtract", category="advanced/model_merging", title="ModelMergeSubtract")
def subtract_models(*, ctx: Context, model1: Model, model2: Model, multiplier: Multiplier = 1.0) -> Model:
    """Take one model from another: what is left is a difference, to be added to a third or saved as a LoRA.

    Args:
        model1: The first; its patches are kept.
        model2: What is taken from it.
        multiplier: What the difference is multiplied by.
    """
    return _merged(ctx, model1, model2, Share("", multiplier, -multiplier))


@node("ModelMergeAdd", category="advanced/model_merging", title="ModelMergeAdd")
def add_models(*, ctx: Context, model1: Model, model2: Model) -> Model:
    """Add to a model another one, such as the difference of two.

    Args:
        model1: The first; its patches are kept.
        model2: What is added to it.
    """
    return _merged(ctx, model1, model2, Share("", 1.0, 1.0))


@node("CLIPMergeSimple", category="advanced/model_merging", title="CLIPMergeSimple")
def merge_clips(*, ctx: Context, clip1: Clip, clip2: Clip, ratio: Fraction = 1.0) -> Clip:
    """Mix the text encoders of two models of one family.

    Args:
        clip1: The first.
        clip2: The second.
        ratio: How much of the first; 1 is the first alone.
    """
    return _merged_clip(ctx, clip1, clip2, Share("", ratio, 1.0 - ratio))


@node("CLIPMergeSubtract", category="advanced/model_merging", title="CLIPMergeSubtract")
def subtract_clips(*, ctx: Context, clip1: Clip, clip2: Clip, multiplier: Multiplier = 1.0) -> Clip:
    """Take text encoders from others: what is left is a difference, to be added to a third or saved as a LoRA.

    Args:
        clip1: The first.
        clip2: What is taken from it.
        multiplier: What the difference is multiplied by.
    """
    return _merged_clip(ctx, clip1, clip2, Share("", multiplier, -multiplier))


@node("CLIPMergeAdd", category="advanced/model_merging", title="CLIPMergeAdd")
def add_clips(*, ctx: Context, clip1: Clip, clip2: Clip) -> Clip:
    """Add to text encoders others, such as the difference of two.

    Args:
        clip1: The first.
        clip2: What is added to it.
    """
    return _merged_clip(ctx, clip1, clip2, Share("", 1.0, 1.0))


def _by_block(ratios: Mapping[str, float]) -> tuple[Share, ...]:
    return tuple(Share(prefix, ratio, 1.0 - ratio) for prefix, ratio in ratios.items())


def _merged(ctx: Context, first: ModelValue, second: ModelValue, *shares: Share) -> ModelValue:
    return replace(first, unet=_blended(ctx, first.unet, second.unet, shares))


def _merged_clip(ctx: Context, first: ClipValue, second: ClipValue, *shares: Share) -> ClipValue:
    """Text encoders go by their role: CLIP-L with CLIP-L. One that the second lacks stays as it is, as in ComfyUI."""
    others = {encoder.role: encoder for encoder in second.encoders}
    if not others.keys() & {encoder.role for encoder in first.encoders}:
        roles = [" and ".join(encoder.role for encoder in clip.encoders) for clip in (first, second)]
        raise ValueError(f"clip1 is {roles[0]} and clip2 {roles[1]}; merge text encoders of one family")
    encoders = tuple(
        _blended(ctx, encoder, others[encoder.role], shares) if encoder.role in others else encoder
        for encoder in first.encoders
    )
    return replace(first, encoders=encoders)


def _blended(ctx: Context, part: Part, other: Part, shares: tuple[Share, ...]) -> Part:
    blend, told = blended(part, other, shares)
    if told:
        ctx.note(told)
    return blend
