"""Prompts to conditioning."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from nodegraph.context import Context
from nodegraph.spec import node
from nodegraph.types import Widget
from nodes.diffusion.prompts import segments
from nodes.types import Clip, Cond, Conditioning

Prompt = Annotated[str, Widget(multiline=True, dynamic_prompts=True)]
LastLayer = Annotated[int, Field(ge=-24, le=-1), Widget(step=1)]


def _problems(*, text: str = "", **_: object) -> list[str]:
    try:
        segments(text)
    except ValueError as error:
        return [str(error)]
    return []


@node("CLIPTextEncode", category="conditioning", title="CLIP Text Encode (Prompt)", check=_problems)
def encode_text(*, ctx: Context, text: Prompt, clip: Clip) -> Conditioning:
    """Encode a prompt: `(word:1.3)` weighs more, `(word:0.7)` less; any length, in chunks of 75 tokens.

    Args:
        text: What the picture should show, or should not.
        clip: The text encoders that the model was trained with.
    """
    from nodes.diffusion.text import encode_prompt

    encoding = encode_prompt(clip.encoders, text, ctx.use, layer=clip.layer)
    return (Cond(encoding.tokens, encoding.pooled),)


@node("CLIPSetLastLayer", category="conditioning", title="CLIP Set Last Layer")
def set_last_layer(*, clip: Clip, stop_at_clip_layer: LastLayer = -1) -> Clip:
    """Take the prompt from an earlier layer of the text encoders ("clip skip").

    Args:
        clip: The text encoders.
        stop_at_clip_layer: -1 is the last layer, -2 the one before it.
    """
    return replace(clip, layer=stop_at_clip_layer)
