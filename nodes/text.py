"""Prompts to conditioning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from nodegraph.context import Context
from nodegraph.errors import FileProblem
from nodegraph.files import Folders
from nodegraph.spec import node
from nodegraph.types import Widget
from nodes.diffusion import a1111
from nodes.diffusion.embeddings import embedding_problems, embeddings_digest
from nodes.diffusion.prompts import embedding_names, tag_problems
from nodes.types import Clip, Cond, Conditioning, Steps

Prompt = Annotated[str, Widget(multiline=True, dynamic_prompts=True)]
LastLayer = Annotated[int, Field(ge=-24, le=-1), Widget(step=1)]
Pixels = Annotated[int, Field(ge=0, le=16384)]
AestheticScore = Annotated[float, Field(ge=0.0, le=1000.0), Widget(step=0.01)]
_PROMPTS = ("text", "text_g", "text_l")


def _tell_tags(ctx: Context, *prompts: str) -> None:
    """Notes tags of A1111's, which ComfyUI too reads as words."""
    for text in prompts:
        for problem in tag_problems(text):
            ctx.note(f"tags are read as words here: {problem}")


def _problems(*, files: Folders, **literals: object) -> list[str | FileProblem]:
    """What is wrong with prompts in ComfyUI's syntax: their form, or the embeddings they name."""
    found: list[str] = []
    names: dict[str, None] = {}
    for text in (literals[name] for name in _PROMPTS if name in literals):
        try:
            names |= dict.fromkeys(embedding_names(str(text)))
        except ValueError as error:
            found.append(str(error))
    return [*found, *embedding_problems(files, names)]


def _embeddings(*prompts: str) -> Callable[..., str]:
    """A fingerprint: the content of the embeddings that these inputs name; of all there are, when one is linked."""

    def fingerprint(*, files: Folders, **literals: object) -> str:
        if any(name not in literals for name in prompts):
            return embeddings_digest(files, None)
        try:
            return embeddings_digest(files, [used for name in prompts for used in embedding_names(str(literals[name]))])
        except ValueError:
            return ""  # what is wrong is told by the check

    return fingerprint


@node(
    "CLIPTextEncode", category="conditioning", title="CLIP Text Encode (Prompt)", check=_problems,
    fingerprint=_embeddings("text"),
)  # fmt: skip
def encode_text(*, ctx: Context, text: Prompt, clip: Clip) -> Conditioning:
    """Encode a prompt: `(word:1.3)` weighs more, `(word:0.7)` less; `embedding:name` takes a textual inversion from the
    embeddings folder; any length, in chunks of 75 tokens.

    Args:
        text: What the picture should show, or should not.
        clip: The text encoders that the model was trained with.
    """
    from nodes.diffusion.text import encode_prompt

    _tell_tags(ctx, text)
    encoding = encode_prompt(clip.encoders, text, ctx.use, layer=clip.layer, files=ctx.files)
    return (Cond(encoding.tokens, encoding.pooled),)


@node("CLIPSetLastLayer", category="conditioning", title="CLIP Set Last Layer")
def set_last_layer(*, clip: Clip, stop_at_clip_layer: LastLayer = -1) -> Clip:
    """Take the prompt from an earlier layer of the text encoders ("clip skip").

    Args:
        clip: The text encoders.
        stop_at_clip_layer: -1 is the last layer, -2 the one before it.
    """
    return replace(clip, layer=stop_at_clip_layer)


@node(
    "CLIPTextEncodeSDXL", category="advanced/conditioning", check=_problems, fingerprint=_embeddings("text_g", "text_l")
)
def encode_text_sdxl(
    *, ctx: Context, clip: Clip, width: Pixels = 1024, height: Pixels = 1024, crop_w: Pixels = 0, crop_h: Pixels = 0,
    target_width: Pixels = 1024, target_height: Pixels = 1024, text_g: Prompt, text_l: Prompt,
) -> Conditioning:  # fmt: skip
    """Encode a prompt for each of SDXL's text encoders, and say of which size and crop the picture should look.

    Args:
        clip: The two text encoders of SDXL.
        width: Width of the picture before it was cropped; a small one asks for the look of small pictures.
        height: Height of the picture before it was cropped.
        crop_w: How much was cut off at the left; 0 asks for a centred subject.
        crop_h: How much was cut off at the top.
        target_width: Width of the picture after cropping.
        target_height: Height of the picture after cropping.
        text_g: The prompt for OpenCLIP-G.
        text_l: The prompt for CLIP-L.
    """
    from nodes.diffusion.text import encode_prompt

    if len(clip.encoders) != 2:
        raise ValueError(
            "this CLIP has not the two text encoders of SDXL; wire one from an SDXL checkpoint, or use CLIPTextEncode"
        )
    _tell_tags(ctx, text_g, text_l)
    encoding = encode_prompt(clip.encoders, text_g, ctx.use, layer=clip.layer, text_l=text_l, files=ctx.files)
    sizes = {
        "width": width, "height": height, "crop_w": crop_w, "crop_h": crop_h,
        "target_width": target_width, "target_height": target_height,
    }  # fmt: skip
    return (Cond(encoding.tokens, encoding.pooled, sizes),)


@node("CLIPTextEncodeSDXLRefiner", category="advanced/conditioning", check=_problems, fingerprint=_embeddings("text"))
def encode_text_refiner(
    *, ctx: Context, ascore: AestheticScore = 6.0, width: Pixels = 1024, height: Pixels = 1024, text: Prompt, clip: Clip
) -> Conditioning:
    """Encode a prompt for the refiner of SDXL, and say how good the picture should look.

    Args:
        ascore: The score people would give the picture, 1 to 10; use about 2.5 for the negative prompt.
        width: Width of the picture before it was cropped.
        height: Height of the picture before it was cropped.
        text: What the picture should show, or should not.
        clip: The text encoder of the refiner.
    """
    from nodes.diffusion.text import encode_prompt

    _tell_tags(ctx, text)
    encoding = encode_prompt(clip.encoders, text, ctx.use, layer=clip.layer, files=ctx.files)
    return (Cond(encoding.tokens, encoding.pooled, {"aesthetic_score": ascore, "width": width, "height": height}),)


def _a1111_problems(*, files: Folders, text: str = "", steps: int = 20, **_: object) -> list[str | FileProblem]:
    try:
        return [*embedding_problems(files, a1111.embedding_names(text, steps))]
    except ValueError as error:
        return [str(error)]


def _a1111_embeddings(*, files: Folders, text: str | None = None, steps: int | None = None, **_: object) -> str:
    if text is None or steps is None:
        return embeddings_digest(files, None)
    try:
        return embeddings_digest(files, a1111.embedding_names(text, steps))
    except ValueError:
        return ""  # what is wrong is told by the check


@node(
    "CLIPTextEncodeA1111", category="conditioning", title="CLIP Text Encode (A1111 syntax)", check=_a1111_problems,
    fingerprint=_a1111_embeddings,
)  # fmt: skip
def encode_text_a1111(
    *, ctx: Context, text: Prompt, clip: Clip, steps: Steps = 20, normalize: bool = True
) -> Conditioning:
    r"""Encode a prompt written for AUTOMATIC1111's web UI.

    `(x)` weighs 1.1, `[x]` 1 / 1.1, `(x:1.3)` 1.3, and they multiply where they nest; `\(` is a parenthesis.
    `[a:b:0.5]` turns from a to b halfway, `[a:b:10]` after step 10; `[a:0.5]` begins with nothing, `[a::0.5]` ends so;
    `[a|b]` takes turns each step. BREAK starts another chunk of 75 tokens. `embedding:name` takes a textual inversion.
    Steps are those of schedules that spread them evenly in time (normal, simple, sgm_uniform); with others a change
    comes earlier or later.

    `a AND b :0.7` joins prompts, for the positive side only. The sampler takes their mean weighed by 1 and 0.7, where
    A1111 adds up cfg * weight for each: for the same picture multiply cfg by the sum of the weights, here 1.7.

    Args:
        text: What the picture should show, or should not.
        clip: The text encoders that the model was trained with.
        steps: Steps of the sampler, which decide where changes fall.
        normalize: Give each chunk the mean it had before its weights, as A1111 does unless told otherwise.
    """
    return a1111.encode(
        clip.encoders, text, ctx.use, steps=steps, normalize=normalize, layer=clip.layer, files=ctx.files
    )
