"""Says what a file is that is not a checkpoint, and where it belongs."""

from __future__ import annotations

from collections.abc import Iterable

from nodegraph.errors import FileProblem
from nodes.diffusion.headers import FLOATS, TensorEntry

_SUPPORTED = "it is not supported; SD1, SD2, SDXL and its refiner are"
# Marks in the names of tensors, what a file with one of them is, and where it belongs.
_FOREIGN: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("lora_unet_", "lora_te", ".lora_A.", ".lora_B.", "lora_down", "lora_up", "lora.down", "lora.up", "lora_linear",
         ".hada_w1_", ".lokr_w", ".oft_diag"),
        "a LoRA", "put it in the `loras` folder and load it with LoraLoader",
    ),
    (
        ("controlnet_blocks.", "controlnet_x_embedder."),
        "a ControlNet of another family (Flux, SD3 or a relative)", "it is not supported; those for SD1, SD2, SDXL are",
    ),
    (("lllite_",), "a ControlNet-LLLite", "it is not supported; ControlNets, control-LoRAs and T2I-Adapters are"),
    (("ip_adapter.", "image_proj."), "an IP-Adapter", "it is not supported; ControlNets and T2I-Adapters are"),
    (
        ("body.0.block1.", "body.0.resnets.0.", "body.0.body.0.block1."),
        "a T2I-Adapter", "put it in the `controlnet` folder and load it with ControlNetLoader",
    ),
    (
        ("control_model.", "controlnet_cond_embedding.", "input_hint_block.", "zero_convs."),
        "a ControlNet", "put it in the `controlnet` folder and load it with ControlNetLoader",
    ),
    (("emb_params", "string_to_param"), "a textual inversion", "put it in the `embeddings` folder"),
    (
        ("double_blocks.", "joint_blocks.", "double_stream_blocks.", "joint_transformer_blocks."),
        "a model of another family (Flux, SD3 or a relative)", _SUPPORTED,
    ),
    (("time_stack.", "temporal_transformer", "motion_modules."), "a video model", _SUPPORTED),
    (("edm_mean", "edm_vpred.sigma_max"), "a model with EDM sampling", _SUPPORTED),
    (("embedder.model.visual.",), "an unCLIP model", _SUPPORTED),
)  # fmt: skip
# The same for whole parts, which also occur inside checkpoints: the beginnings of names.
_PARTS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("input_blocks.0.0.", "down_blocks.0.", "model.diffusion_model."),
        "a UNet alone", "put it in the `diffusion_models` folder and load it with UNETLoader",
    ),
    (
        ("decoder.conv_in.", "decoder.up", "first_stage_model."),
        "a VAE", "put it in the `vae` folder and load it with VAELoader",
    ),
    (
        ("3.conv.0.",),
        "a half of TAESD", "put it in the `vae_approx` folder and choose taesd or taesdxl in VAELoader",
    ),
    (
        ("vision_model.", "visual."),
        "a CLIP vision model", "put it in the `clip_vision` folder and load it with CLIPVisionLoader",
    ),
    (
        ("text_model.", "transformer.resblocks.", "cond_stage_model.", "conditioner."),
        "a text encoder", "put it in the `text_encoders` folder and load it with CLIPLoader",
    ),
    (
        ("model.0.weight", "conv_first.", "body.0.", "model.1.sub.", "upsampler."),
        "an upscaler", "put it in the `upscale_models` folder and load it with UpscaleModelLoader",
    ),
)  # fmt: skip
_WHOLE = "model.diffusion_model.", "first_stage_model."


def refuse_foreign(where: str, names: Iterable[str], wanted: str) -> None:
    """Raises when tensors so named are marked as another kind of model.

    Raises:
        FileProblem: it says what the file is and which loader or folder it belongs to.
    """
    names = list(names)
    for marks, what, fix in _FOREIGN:
        if any(mark in name for name in names for mark in marks):
            raise FileProblem(f"{where}: is {what}, not {wanted}; {fix}")


def name_kind(
    where: str, names: Iterable[str], wanted: str,
    known: str = "of a supported family; SD1, SD2, SDXL and its refiner are",
) -> FileProblem:  # fmt: skip
    """The problem of a file that lacks what is wanted: what it is instead."""
    names = list(names)
    if all(any(name.startswith(start) for name in names) for start in _WHOLE):
        return FileProblem(
            f"{where}: is a checkpoint, not {wanted}; put it in the `checkpoints` folder and load it with "
            "CheckpointLoaderSimple"
        )
    for starts, what, fix in _PARTS:
        if what != wanted and any(name.startswith(starts) for name in names):
            return FileProblem(f"{where}: is {what}, not {wanted}; {fix}")
    return FileProblem(f"{where}: is not {wanted} {known}")


def refuse_quantised(where: str, entries: Iterable[TensorEntry]) -> None:
    """Raises when weights are not stored as plain floats (fp8, int8, nf4).

    Raises:
        FileProblem: it names the storage format.
    """
    for entry in entries:
        if entry.dtype not in FLOATS and len(entry.shape) > 1:
            raise FileProblem(
                f"{where}: its weights are stored as {entry.dtype}, which is not supported; use an fp16 version"
            )
