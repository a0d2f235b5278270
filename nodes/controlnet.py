"""ControlNets and T2I-Adapters: loading them, and letting them steer prompts by a picture."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, NamedTuple

from pydantic import Field

from nodegraph.spec import node
from nodegraph.types import Choices, File, FileRef, Widget
from nodes.diffusion.control_files import (
    NEEDS_UNET,
    ControlNetConfig,
    ControlPart,
    control_family,
    control_problems,
    is_pooled,
    only_with_model,
    read_control,
)
from nodes.types import Conditioning, ControlNet, ControlNetValue, ControlUse, Image, Mask, Model, Vae

NetName = Annotated[FileRef, File("controlnet")]
Strength = Annotated[float, Field(ge=0.0, le=10.0), Widget(step=0.01)]
Percent = Annotated[float, Field(ge=0.0, le=1.0), Widget(step=0.001)]
_UNION_TYPES = (
    "openpose", "depth", "hed/pidi/scribble/ted", "canny/lineart/anime_lineart/mlsd", "normal", "segment", "tile",
    "repaint",
)  # fmt: skip


class Steered(NamedTuple):
    """Prompts of both sides with a ControlNet."""

    positive: Conditioning
    negative: Conditioning


def _problems(*, control_net_name: FileRef | None = None, **_: object) -> list[str]:
    return [] if control_net_name is None else control_problems(control_net_name.path)


def _problems_alone(*, control_net_name: FileRef | None = None) -> list[str]:
    found = _problems(control_net_name=control_net_name)
    return found if found or control_net_name is None else only_with_model(control_net_name.path)


def _family(*, control_net_name: FileRef, **_: object) -> str | None:
    return control_family(control_net_name.path, control_net_name.digest)


def _by_name(*, control_net_name: FileRef, **_: object) -> str:
    """What the name of a file decides, and not its content."""
    return str(is_pooled(control_net_name.name))


@node(
    "ControlNetLoader", category="loaders", title="Load ControlNet Model", check=_problems_alone, family=_family,
    fingerprint=_by_name,
)  # fmt: skip
def load_controlnet(*, control_net_name: NetName) -> ControlNet:
    """Load a ControlNet, a control-LoRA or a T2I-Adapter, which let a picture steer where things are.

    Args:
        control_net_name: A file for the kind of model you use; canny, depth, pose and others each need their own.
    """
    found = _read(control_net_name)
    if found.kind == "difference":  # of a pickle, which planning does not look into
        raise ValueError(f"{control_net_name.name} {NEEDS_UNET['difference']}")
    return ControlNetValue(found)


@node(
    "DiffControlNetLoader", category="loaders", title="Load ControlNet Model (diff)", check=_problems, family=_family,
    fingerprint=_by_name,
)  # fmt: skip
def load_diff_controlnet(*, model: Model, control_net_name: NetName) -> ControlNet:
    """Load a ControlNet whose file holds only differences from a model's weights; other ControlNets load as they are.

    Args:
        model: The model the differences are added to.
        control_net_name: The file.
    """
    found = _read(control_net_name)
    return ControlNetValue(replace(found, unet=model.unet) if found.kind == "difference" else found)


def _read(file: FileRef) -> ControlPart:
    return replace(read_control(file.path, file.digest), is_pooled=is_pooled(file.name))


@node("ControlNetApply", category="conditioning/controlnet", title="Apply ControlNet (OLD)")
def apply(
    *, conditioning: Conditioning, control_net: ControlNet, image: Image, strength: Strength = 1.0
) -> Conditioning:
    """Let a picture steer what a sampler makes of prompts; given to the positive side, it steers the negative one too.

    Args:
        conditioning: The prompts.
        control_net: What reads the picture.
        image: What to follow, [N, H, W, C]: edges, depth, a pose, as the ControlNet was trained for.
        strength: How much it counts; 0 changes nothing.
    """
    if strength == 0:
        return conditioning
    return _with(conditioning, ControlUse(control_net, image, strength), is_on_both_sides=True)


@node("ControlNetApplyAdvanced", category="conditioning/controlnet", title="Apply ControlNet")
def apply_advanced(
    *, positive: Conditioning, negative: Conditioning, control_net: ControlNet, image: Image, strength: Strength = 1.0,
    start_percent: Percent = 0.0, end_percent: Percent = 1.0, vae: Vae | None = None, mask: Mask | None = None,
) -> Steered:  # fmt: skip
    """Let a picture steer what a sampler makes of prompts, in a part of the steps or of the picture.

    Args:
        positive: What the picture should show.
        negative: What it should not.
        control_net: What reads the picture.
        image: What to follow, [N, H, W, C]: edges, depth, a pose, as the ControlNet was trained for.
        strength: How much it counts; 0 changes nothing.
        start_percent: When it starts to count: 0 is the first step, where noise is highest.
        end_percent: When it stops.
        vae: For ControlNets that see latents; none of those for SD1, SD2 and SDXL does, so that it changes nothing.
        mask: Where it counts, [N, H, W]: 1 fully, 0 not at all. It is cut and stretched as the image is.
    """
    if strength == 0:
        return Steered(positive, negative)
    use = ControlUse(control_net, image, strength, start_percent, end_percent, mask)
    return Steered(*(_with(side, use, is_on_both_sides=False) for side in (positive, negative)))


def _with(conditioning: Conditioning, use: ControlUse, *, is_on_both_sides: bool) -> Conditioning:
    return tuple(
        replace(cond, options={
            **cond.options, "control": (*cond.options.get("control", ()), use),
            "control_apply_to_uncond": is_on_both_sides,
        })
        for cond in conditioning
    )  # fmt: skip


@node("SetUnionControlNetType", category="conditioning/controlnet", title="SetUnionControlNetType")
def set_union_type(*, control_net: ControlNet, type: Annotated[str, Choices(("auto", *_UNION_TYPES))]) -> ControlNet:
    """Tell a union ControlNet, which knows several kinds of pictures, which kind it is given; others ignore it.

    Args:
        control_net: A union ControlNet.
        type: The kind; `auto` leaves it to the network. The last two need a ProMax one.
    """
    chosen = None if type == "auto" else _UNION_TYPES.index(type)
    config = control_net.net.config
    union = config.union if isinstance(config, ControlNetConfig) else None
    if chosen is not None and union is not None and chosen >= union.types:
        raise ValueError(
            f"type {type!r} is not among the {union.types} kinds that this union ControlNet knows; expected one of "
            f"{', '.join(_UNION_TYPES[: union.types])}, or load a ProMax one"
        )
    return replace(control_net, union_type=chosen)
