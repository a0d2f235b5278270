"""Saving models: whole checkpoints and single networks with merges and LoRAs baked in, and differences as LoRAs."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, BinaryIO

from pydantic import Field

from nodegraph.context import Context
from nodegraph.spec import node
from nodegraph.types import Choices
from nodes.diffusion.architecture import FAMILY_NAMES
from nodes.diffusion.checkpoints import CLIPS, UNET, VAE, Part
from nodes.types import Clip, Model, ModelValue, Vae, VaeValue

if TYPE_CHECKING:
    from nodes.diffusion.saving import Entry

LoraType = Annotated[str, Choices(("standard", "full_diff"))]
Rank = Annotated[int, Field(ge=1, le=4096)]


@node("CheckpointSave", category="advanced/model_merging", title="Save Checkpoint", kind="sink")
def save_checkpoint(
    *, ctx: Context, model: Model, clip: Clip, vae: Vae, filename_prefix: str = "checkpoints/ComfyUI"
) -> None:
    """Save a model, its text encoders and its VAE as one checkpoint, merged and with LoRAs as they are used.

    Args:
        model: The UNet.
        clip: Its text encoders.
        vae: Its VAE.
        filename_prefix: Start of the file name in the output folder, with folders before it; %year% and so on are
            filled in.
    """
    starts = {(family, role): prefix for prefix, role, family in CLIPS}
    prefixes = {part: starts.get((model.unet.family, part.role)) for part in clip.encoders}
    if stranger := next((part for part, prefix in prefixes.items() if prefix is None), None):
        family = FAMILY_NAMES[model.unet.family]
        raise ValueError(f"clip has {stranger.role}, which a checkpoint of {family} has not; wire its own")
    parts = [(model.unet, UNET), *((part, prefix or "") for part, prefix in prefixes.items()), (_vae(vae), VAE)]
    _save(ctx, filename_prefix, parts, model)


@node("ModelSave", category="advanced/model_merging", title="ModelSave", kind="sink")
def save_model(*, ctx: Context, model: Model, filename_prefix: str = "diffusion_models/ComfyUI") -> None:
    """Save a UNet alone, merged and with LoRAs as it is used.

    Args:
        model: The UNet.
        filename_prefix: Start of the file name in the output folder, with folders before it.
    """
    _save(ctx, filename_prefix, [(model.unet, UNET)], model)


@node("CLIPSave", category="advanced/model_merging", title="CLIPSave", kind="sink")
def save_clip(*, ctx: Context, clip: Clip, filename_prefix: str = "clip/ComfyUI") -> None:
    """Save each text encoder in a file of its own with transformers' names, merged and with LoRAs as they are used.

    Args:
        clip: The text encoders.
        filename_prefix: Start of the file names in the output folder, with folders before it; `_clip_l` and so on
            come after it.
    """
    for part in clip.encoders:
        _save(ctx, f"{filename_prefix}_{part.role}", [(part, "")])


@node("VAESave", category="advanced/model_merging", title="VAESave", kind="sink", lane="io")
def save_vae(*, ctx: Context, vae: Vae, filename_prefix: str = "vae/ComfyUI_vae") -> None:
    """Save a VAE alone.

    Args:
        vae: The VAE.
        filename_prefix: Start of the file name in the output folder, with folders before it.
    """
    _save(ctx, filename_prefix, [(_vae(vae), "")])


@node("LoraSave", category="_for_testing", title="Extract and Save Lora", kind="sink")
def save_lora(
    *, ctx: Context, filename_prefix: str = "loras/ComfyUI_extracted_lora", rank: Rank = 8, lora_type: LoraType,
    bias_diff: bool = True, model_diff: Model | None = None, text_encoder_diff: Clip | None = None,
) -> None:  # fmt: skip
    """Save what two models differ by, as ModelMergeSubtract gives it, as a LoRA.

    Args:
        filename_prefix: Start of the file name in the output folder, with folders before it.
        rank: Of the LoRA; a higher one keeps more of the difference and makes a larger file.
        lora_type: A LoRA of this rank, or with full_diff the differences as they are.
        bias_diff: Save the differences of biases and norms too.
        model_diff: The difference of two models.
        text_encoder_diff: The difference of the text encoders of two models.
    """
    from nodes.diffusion.extraction import extracted
    from nodes.diffusion.saving import Entry, write_safetensors
    from nodes.diffusion.weights import recipe

    parts = [] if model_diff is None else [(model_diff.unet, "diffusion_model.")]
    encoders = () if text_encoder_diff is None else text_encoder_diff.encoders
    parts += [(part, f"text_encoders.{part.role}.transformer.") for part in encoders]
    if not parts:
        raise ValueError("nothing is wired; give model_diff, text_encoder_diff, or both")
    if whole := [part.role for part, _ in parts if not part.overlays]:
        ctx.note(f"the {' and '.join(whole)} is a whole model, not a difference; expected one of ModelMergeSubtract")

    def write(file: BinaryIO) -> None:
        tensors = {}
        for part, start in parts:
            with recipe(part, ctx.device) as found:
                tensors |= extracted(found, start, rank if lora_type == "standard" else None, bias_diff, ctx.step)
        if not tensors:
            raise ValueError("the two models are the same; there is no difference to save")
        entries = [Entry(name, made.dtype, tuple(made.shape), lambda made=made: made) for name, made in tensors.items()]
        write_safetensors(file, entries, {"format": "pt", **ctx.metadata()})

    ctx.save(_filled(filename_prefix), "safetensors", write)


def _vae(vae: VaeValue) -> Part:
    if not isinstance(vae.vae, Part):
        raise ValueError("vae is TAESD, which has no place in a checkpoint; wire the VAE of a checkpoint or VAELoader")
    return vae.vae


def _save(ctx: Context, prefix: str, parts: list[tuple[Part, str]], model: ModelValue | None = None) -> None:
    """Writes parts, each with what its names begin with, into one file."""
    from nodes.diffusion.saving import arch, checkpoint_metadata, markers, part_entries, write_safetensors
    from nodes.diffusion.weights import recipe

    name = _filled(prefix)
    texts = {"format": "pt", "arch": arch(part for part, _ in parts), **ctx.metadata()}
    extra: Iterable[Entry] = ()
    if model is not None:
        texts |= checkpoint_metadata(model.unet, PurePosixPath(name).name)
        extra = markers(model.unet.config, _is_zero_snr(model))

    def write(file: BinaryIO) -> None:
        with ExitStack() as stack:
            entries = list(extra)
            for part, start in parts:
                found = stack.enter_context(recipe(part, ctx.device if part.overlays else "cpu"))
                is_open = part.role in ("clip_h", "clip_g") and bool(start)
                entries += part_entries(found, start, is_open_clip=is_open)
            write_safetensors(file, entries, texts, ctx.step)

    ctx.save(name, "safetensors", write)


def _is_zero_snr(model: ModelValue) -> bool:
    from nodes.diffusion.sampling_patches import DiscreteSampling

    return any(isinstance(patch, DiscreteSampling) and patch.zero_snr for patch in model.patches)


def _filled(prefix: str) -> str:
    """The prefix with the time filled in; as in ComfyUI, a picture's measures are 0."""
    import torch

    from nodes.diffusion.pictures import fill_prefix

    return fill_prefix(prefix, torch.empty(0, 0), 0)
