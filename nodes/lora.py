"""LoRAs: small files that change the weights of a model and its text encoders. Nothing is loaded here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple, overload

from pydantic import Field

from nodegraph.context import Context
from nodegraph.spec import node
from nodegraph.types import File, FileRef, Port, Widget
from nodes.diffusion.lora import LoraFile, overlaid
from nodes.diffusion.lora_blocks import Blocks, parse_blocks
from nodes.diffusion.lora_shapes import lora_family, lora_problems
from nodes.types import Clip, ClipValue, Model, ModelValue


@dataclass(frozen=True, slots=True)
class LoraUse:
    """A LoRA and how strong it is in the UNet and in the text encoders.

    Attributes:
        blocks: factors of its strength by block.
    """

    file: LoraFile
    strength_model: float
    strength_clip: float
    blocks: Blocks = ()


LoraStackPort = Annotated[tuple[LoraUse, ...], Port("LORA_STACK", kin=True)]
Lora = Annotated[FileRef, File("loras")]
Strength = Annotated[float, Field(ge=-100.0, le=100.0), Widget(step=0.01)]
BlockWeights = Annotated[str, Widget(multiline=True)]


class WithLora(NamedTuple):
    """A model and its text encoders with LoRAs."""

    MODEL: Model
    CLIP: Clip


def _problems(**inputs: object) -> list[str]:
    found = [problem for file in _files(inputs) for problem in lora_problems(file.path)]
    try:
        parse_blocks(str(inputs.get("block_weights", "")))
    except ValueError as error:
        found.append(f"block_weights: {error}")
    return found


def _family(**inputs: object) -> str | None:
    """That of the first file which tells its own; the check of a stack tells where they differ."""
    return next((family for file in _files(inputs) if (family := lora_family(file.path, file.digest))), None)


def _stack_problems(**inputs: object) -> list[str]:
    found = _problems(**inputs)
    families = {} if found else {lora_family(file.path, file.digest): file.name for file in _files(inputs)}
    families.pop(None, None)
    if len(families) > 1:
        told = " and ".join(f"{name} is of {family}" for family, name in families.items())
        found.append(f"{told}; expected LoRAs of one family")
    return found


def _files(inputs: Mapping[str, object]) -> list[FileRef]:
    return [file for file in inputs.values() if isinstance(file, FileRef)]


@node("LoraLoader", category="loaders", title="Load LoRA", check=_problems, family=_family)
def load_lora(
    *, ctx: Context, model: Model, clip: Clip, lora_name: Lora, strength_model: Strength = 1.0,
    strength_clip: Strength = 1.0,
) -> WithLora:  # fmt: skip
    """Change a model and its text encoders by a LoRA: LoRA, LoCon, LoHa, LoKr, GLoRA, OFT, BOFT, DoRA and differences.

    Args:
        model: The UNet.
        clip: The text encoders.
        lora_name: A file of the `loras` folder.
        strength_model: How much it changes the UNet; 1 is as trained, below 0 is the opposite.
        strength_clip: How much it changes the text encoders.
    """
    return WithLora(*_with(ctx, _use(lora_name, strength_model, strength_clip), model, clip))


@node("LoraLoaderModelOnly", category="loaders", title="LoraLoaderModelOnly", check=_problems, family=_family)
def load_lora_model_only(
    *, ctx: Context, model: Model, lora_name: Lora, strength_model: Strength = 1.0
) -> Model:  # fmt: skip
    """Change a model by a LoRA, and leave the text encoders as they are.

    Args:
        model: The UNet.
        lora_name: A file of the `loras` folder.
        strength_model: How much it changes the UNet; 1 is as trained, below 0 is the opposite.
    """
    return _with(ctx, _use(lora_name, strength_model, 0.0), model, None)[0]


@node("LoraLoaderBlockWeights", category="loaders", title="Load LoRA (Block Weights)", check=_problems, family=_family)
def load_lora_by_block(
    *, ctx: Context, model: Model, clip: Clip, lora_name: Lora, strength_model: Strength = 1.0,
    strength_clip: Strength = 1.0, block_weights: BlockWeights = "",
) -> WithLora:  # fmt: skip
    """Change a model by a LoRA with a strength of its own in each block of the UNet.

    Args:
        model: The UNet.
        clip: The text encoders.
        lora_name: A file of the `loras` folder.
        strength_model: How much it changes the UNet.
        strength_clip: How much it changes the text encoders.
        block_weights: Factors of the strengths: `IN01:0.5, MID:1, OUT03-05:0` (others 1; BASE is the text encoders),
            the 12, 17, 20 or 26 numbers of A1111's LoRA Block Weight, or a preset: ALL, NONE, INS, IND, INALL, MIDD,
            OUTD, OUTS, OUTALL.
    """
    use = replace(_use(lora_name, strength_model, strength_clip), blocks=parse_blocks(block_weights))
    return WithLora(*_with(ctx, use, model, clip))


@node("LoraStack", category="loaders", title="LoRA Stack", check=_stack_problems, family=_family)
def stack_loras(
    *, lora_1: Lora, strength_model_1: Strength = 1.0, strength_clip_1: Strength = 1.0,
    lora_2: Lora | None = None, strength_model_2: Strength = 1.0, strength_clip_2: Strength = 1.0,
    lora_3: Lora | None = None, strength_model_3: Strength = 1.0, strength_clip_3: Strength = 1.0,
    lora_stack: LoraStackPort | None = None,
) -> LoraStackPort:  # fmt: skip
    """Up to three LoRAs in a row, after those of another stack; Apply LoRA Stack lays them over a model.

    Args:
        lora_1: A file of the `loras` folder.
        strength_model_1: How much it changes the UNet.
        strength_clip_1: How much it changes the text encoders.
        lora_2: A further file.
        strength_model_2: How much it changes the UNet.
        strength_clip_2: How much it changes the text encoders.
        lora_3: A further file.
        strength_model_3: How much it changes the UNet.
        strength_clip_3: How much it changes the text encoders.
        lora_stack: LoRAs that come before these.
    """
    rows = (
        (lora_1, strength_model_1, strength_clip_1),
        (lora_2, strength_model_2, strength_clip_2),
        (lora_3, strength_model_3, strength_clip_3),
    )
    return *(lora_stack or ()), *(_use(*row) for row in rows if row[0] is not None)  # pyright: ignore[reportArgumentType]


@node("ApplyLoraStack", category="loaders", title="Apply LoRA Stack")
def apply_lora_stack(*, ctx: Context, model: Model, clip: Clip, lora_stack: LoraStackPort) -> WithLora:
    """Change a model and its text encoders by all LoRAs of a stack, the first one first.

    Args:
        model: The UNet.
        clip: The text encoders.
        lora_stack: The LoRAs and their strengths.
    """
    for use in lora_stack:
        model, clip = _with(ctx, use, model, clip)
    return WithLora(model, clip)


def _use(file: FileRef, strength_model: float, strength_clip: float) -> LoraUse:
    return LoraUse(LoraFile(*file), strength_model, strength_clip)


@overload
def _with(ctx: Context, use: LoraUse, model: ModelValue, clip: ClipValue) -> tuple[ModelValue, ClipValue]: ...
@overload
def _with(ctx: Context, use: LoraUse, model: ModelValue, clip: None) -> tuple[ModelValue, None]: ...
def _with(ctx: Context, use: LoraUse, model: ModelValue, clip: ClipValue | None) -> tuple[ModelValue, ClipValue | None]:
    """The model and its text encoders with a LoRA; of strength 0 as they were, and its file is not looked into."""
    if use.strength_model == 0 == use.strength_clip:
        return model, clip
    encoders = () if clip is None else clip.encoders
    parts = ((model.unet, use.strength_model), *((encoder, use.strength_clip) for encoder in encoders))
    (unet, *laid), told = overlaid(use.file, parts, use.blocks)
    if told:
        ctx.note(told)
    return replace(model, unet=unet), None if clip is None else replace(clip, encoders=tuple(laid))
