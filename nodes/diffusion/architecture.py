"""The hyper-parameters of UNets, autoencoders and text encoders, worked out from the names and shapes of their tensors.

What shapes do not show (head counts, norm groups, activations, the kind of prediction) comes from `hints`: the JSON
under `arch` in a safetensors file's metadata, or the config.json of a diffusers folder; else from the family.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from nodegraph.errors import FileProblem

Family = Literal["sd1", "sd2", "sdxl", "sdxl_refiner"]
FAMILY_NAMES: Mapping[Family, str] = {"sd1": "SD1", "sd2": "SD2", "sdxl": "SDXL", "sdxl_refiner": "SDXL refiner"}
_WIDTHS: Mapping[Family, int] = {"sd1": 768, "sd2": 1024, "sdxl": 2048, "sdxl_refiner": 1280}  # of prompts
Shapes = Mapping[str, tuple[int, ...]]  # original names, prefix cut off
Hints = Mapping[str, Any]
_PICTURE = 3  # channels of a small picture beside the latent
_BETAS, _UPSCALER_BETAS = (0.00085, 0.012), (0.0001, 0.02)
N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True)
class UNetConfig:
    """A UNet of the latent diffusion family (Rombach et al. 2022; SDXL: Podell et al. 2023).

    Attributes:
        num_res_blocks: residual blocks of each level.
        transformer_depth: transformer blocks after each residual block of a level; 0 = none.
        num_heads: attention heads everywhere, or None where `head_channels` fixes the width of a head.
        use_linear: the projections around a transformer are linear layers, not 1x1 convolutions.
        adm_in_channels: width of the vector conditioning `y`, or None.
        prediction: what the network returns: the noise, or v (Salimans & Ho 2022).
        zero_terminal_snr: its schedule was rescaled to end in pure noise (Lin et al. 2023).
        latent_scale: latents are multiplied by this before the UNet sees them.
        num_classes: rows of a table that it is told one number by, in place of the vector, or None.
        is_cross_only: of each level, whether its transformers' first attention is one to the prompt too; () for none.
        betas: the first and the last variance of the noise it was trained with.
    """

    in_channels: int
    out_channels: int
    model_channels: int
    channel_mult: tuple[int, ...]
    num_res_blocks: tuple[int, ...]
    transformer_depth: tuple[int, ...]
    middle_depth: int
    context_dim: int
    num_heads: int | None
    head_channels: int | None
    use_linear: bool
    adm_in_channels: int | None = None
    norm_groups: int = 32
    prediction: Literal["eps", "v"] = "eps"
    zero_terminal_snr: bool = False
    latent_scale: float = 0.18215
    num_classes: int | None = None
    is_cross_only: tuple[bool, ...] = ()
    betas: tuple[float, float] = _BETAS

    @property
    def further_channels(self) -> int:
        """Channels of the input beside the noisy latent, which has as many as the output."""
        return self.in_channels - self.out_channels


@dataclass(frozen=True, slots=True)
class VaeConfig:
    """An AutoencoderKL (Rombach et al. 2022) that shrinks images by 2 ** (len(ch_mult) - 1)."""

    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    z_channels: int = 4
    embed_dim: int = 4
    image_channels: int = 3
    norm_groups: int = 32


@dataclass(frozen=True, slots=True)
class ClipConfig:
    """A CLIP text encoder (Radford et al. 2021).

    Attributes:
        layout: how the file names its tensors: as transformers does, or as open_clip.
        projection: width of the projected pooled output, or None where there is no projection.
        default_layer: the layer its UNet was trained on; -1 is the last.
        final_norm: the final norm follows whichever layer is taken.
        pad_token: what fills a prompt up to 77 tokens.
    """

    hidden: int = 768
    layers: int = 12
    heads: int = 12
    intermediate: int = 3072
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    vocab: int = 49408
    positions: int = 77
    layout: Literal["hf", "openclip"] = "hf"
    projection: int | None = None
    default_layer: int = -1
    final_norm: bool = True
    pad_token: int = 49407


def family_name(family: Family, width: int | None = None) -> str:
    """A family for people, with the width of its prompts where that is unusual."""
    name = FAMILY_NAMES[family]
    return name if width in (None, _WIDTHS[family]) else f"{name} with prompts of {width} features"


def unet_family(shapes: Shapes) -> Family:
    """The family of a UNet by its structure.

    SD1 projects with convolutions, SD2 with linear layers; SDXL and its refiner take a vector, and only the refiner
    has no transformer at its lowest level.
    """
    if "label_emb.0.0.weight" not in shapes:
        proj = next((shape for name, shape in shapes.items() if name.endswith(".1.proj_in.weight")), (0, 0, 1, 1))
        return "sd2" if len(proj) == 2 else "sd1"
    last = _count(shapes, "input_blocks.{}.0.") - 1
    return "sdxl" if f"input_blocks.{last}.1.proj_in.weight" in shapes else "sdxl_refiner"


def unet_config(shapes: Shapes, family: Family, hints: Hints, where: str) -> UNetConfig:
    """The hyper-parameters of a UNet.

    Raises:
        FileProblem: the tensors do not form such a UNet; `where` names the file.
    """
    get = _getter(shapes, where)
    width = get("input_blocks.0.0.weight", 0)
    levels: list[list[int]] = [[]]  # the blocks of each level, by number
    for block in range(1, _count(shapes, "input_blocks.{}.0.")):
        if f"input_blocks.{block}.0.op.weight" in shapes:
            levels.append([])
        else:
            levels[-1].append(block)
    if not all(levels):
        raise FileProblem(f"{where}: its UNet has a level without residual blocks, which is not supported")
    depths = tuple(_depth(shapes, f"input_blocks.{blocks[0]}.1.") for blocks in levels)
    mult = tuple(get(f"input_blocks.{blocks[0]}.0.out_layers.3.weight", 0) // width for blocks in levels)
    attention = next((name for name in shapes if name.endswith(".transformer_blocks.0.attn2.to_k.weight")), "attn2")
    is_upscaler = "label_emb.weight" in shapes  # SD's x4 upscaler, told how noisy the picture is that it enlarges
    hinted = _hinted(hints, where, "num_heads", int), _hinted(hints, where, "num_head_channels", int)
    heads, head_channels = hinted if any(hinted) else (8, None) if family == "sd1" or is_upscaler else (None, 64)
    usual_prediction = "v" if "v_pred" in shapes or is_upscaler else "eps"
    usual_scale = 0.08333 if is_upscaler else 0.13025 if "xl" in family else 0.18215
    crosses = tuple(_attends_prompt(shapes, f"input_blocks.{blocks[0]}.1.") for blocks in levels)
    config = UNetConfig(
        in_channels=get("input_blocks.0.0.weight", 1),
        out_channels=get("out.2.weight", 0),
        model_channels=width,
        channel_mult=mult,
        num_res_blocks=tuple(map(len, levels)),
        transformer_depth=depths,
        middle_depth=_depth(shapes, "middle_block.1."),
        context_dim=get(attention, 1),
        num_heads=None if head_channels else heads,
        head_channels=head_channels,
        use_linear=any(name.endswith(".1.proj_in.weight") and len(shape) == 2 for name, shape in shapes.items()),
        adm_in_channels=get("label_emb.0.0.weight", 1) if "label_emb.0.0.weight" in shapes else None,
        norm_groups=_hinted(hints, where, "norm_groups", int) or 32,
        prediction="v" if str(hints.get("prediction") or usual_prediction).startswith("v") else "eps",
        zero_terminal_snr="ztsnr" in shapes,
        latent_scale=_hinted(hints, where, "latent_scale", float) or usual_scale,
        num_classes=get("label_emb.weight", 0) if is_upscaler else None,
        is_cross_only=crosses if any(crosses) else (),
        betas=_UPSCALER_BETAS if is_upscaler else _BETAS,
    )
    _check_channels(where, config)
    channels = {width * m for m in (1, *mult)}
    _divide(where, "its UNet", channels, config.norm_groups, "norm groups")
    attended = {width * m for m, depth in zip(mult, depths, strict=True) if depth} | {width * mult[-1]}
    _divide(
        where, "its UNet", attended, config.num_heads or config.head_channels or 1, "attention heads or head channels"
    )
    return config


def vae_config(shapes: Shapes, hints: Hints, where: str) -> VaeConfig:
    """The hyper-parameters of an autoencoder.

    Raises:
        FileProblem: the tensors do not form such an autoencoder; `where` names the file.
    """
    if "quant_conv.weight" not in shapes:
        raise FileProblem(f"{where}: its VAE is not one of Stable Diffusion (no quant_conv), which is not supported")
    get = _getter(shapes, where)
    ch = get("encoder.conv_in.weight", 0)
    levels = _count(shapes, "encoder.down.{}.")
    config = VaeConfig(
        ch=ch,
        ch_mult=tuple(get(f"encoder.down.{level}.block.0.conv1.weight", 0) // ch for level in range(levels)),
        num_res_blocks=_count(shapes, "encoder.down.0.block.{}."),
        z_channels=get("decoder.conv_in.weight", 1),
        embed_dim=get("post_quant_conv.weight", 1),
        image_channels=get("encoder.conv_in.weight", 1),
        norm_groups=_hinted(hints, where, "norm_groups", int) or 32,
    )
    _divide(where, "its VAE", {ch * m for m in (1, *config.ch_mult)}, config.norm_groups, "norm groups")
    return config


def clip_config(shapes: Shapes, role: str, family: Family, hints: Hints, where: str) -> ClipConfig:
    """The hyper-parameters of a text encoder in the part `role` (`clip_l`, `clip_h`, `clip_g`) it has in a family.

    Raises:
        FileProblem: the tensors do not form such a text encoder; `where` names the file.
    """
    get = _getter(shapes, where)
    is_open = "positional_embedding" in shapes
    table = "token_embedding.weight" if is_open else "text_model.embeddings.token_embedding.weight"
    places = "positional_embedding" if is_open else "text_model.embeddings.position_embedding.weight"
    block = "transformer.resblocks." if is_open else "text_model.encoder.layers."
    projection = "text_projection" if is_open else "text_projection.weight"
    hidden, vocab = get(table, 1), get(table, 0)
    if vocab < 49408:
        raise FileProblem(f"{where}: its text encoder knows {vocab:,} tokens; only CLIP's 49,408 are supported")
    has_projection = role != "clip_l" and projection in shapes
    activation = str(hints.get("act") or ("quick_gelu" if role == "clip_l" else "gelu"))
    if activation not in ("quick_gelu", "gelu"):
        raise FileProblem(
            f"{where}: its text encoder's activation {activation!r} is not supported; gelu, quick_gelu are"
        )
    layers = _count(shapes, block + "{}.")
    is_cut = role == "clip_h" and layers == 23  # diffusers leaves out the last, which SD2 does not use
    config = ClipConfig(
        hidden=hidden,
        layers=layers,
        heads=_hinted(hints, where, "heads", int) or max(hidden // 64, 1),
        intermediate=get(block + ("0.mlp.c_fc.weight" if is_open else "0.mlp.fc1.weight"), 0),
        activation=activation,
        vocab=vocab,
        positions=get(places, 0),
        layout="openclip" if is_open else "hf",
        projection=get(projection, 1 if is_open else 0) if has_projection else None,
        default_layer=-1 if family == "sd1" or is_cut else -2,
        final_norm=family in ("sd1", "sd2"),
        pad_token=49407 if role == "clip_l" else 0,
    )
    _divide(where, "its text encoder", {hidden}, config.heads, "attention heads")
    return config


def _getter(shapes: Shapes, where: str) -> Callable[[str, int], int]:
    def get(name: str, axis: int) -> int:
        shape = shapes.get(name, ())
        if len(shape) <= axis or shape[axis] < 1:
            raise FileProblem(f"{where}: the tensor {name} is missing or misshapen; download the file again")
        return shape[axis]

    return get


def _count(shapes: Shapes, pattern: str) -> int:
    """How many of `pattern`'s names, numbered from 0, begin the name of a tensor."""
    return next(n for n in itertools.count() if not any(name.startswith(pattern.format(n)) for name in shapes))


def _depth(shapes: Shapes, prefix: str) -> int:
    return _count(shapes, prefix + "transformer_blocks.{}.")


def _attends_prompt(shapes: Shapes, prefix: str) -> bool:
    """Whether the first attention of a transformer takes keys of another width than its queries."""
    keys = shapes.get(prefix + "transformer_blocks.0.attn1.to_k.weight", (0, 0))
    return keys[0] != keys[-1]


def _check_channels(where: str, config: UNetConfig) -> None:
    extra, latent = config.further_channels, config.out_channels
    if extra not in (0, _PICTURE, latent, latent + 1):
        raise FileProblem(
            f"{where}: its UNet takes {config.in_channels} channels, which is not supported; {latent} (images), "
            f"{latent + _PICTURE} (x4 upscaler), {2 * latent} (InstructPix2Pix) and {2 * latent + 1} (inpainting) are"
        )


def _hinted(hints: Hints, where: str, name: str, kind: type[N]) -> N | None:
    """A number among the hints; None when it is not given (-1 says so too)."""
    value = hints.get(name)
    if value is None or value == -1:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, kind)) or not value > 0:
        raise FileProblem(f"{where}: its metadata gives {name} = {value!r}; expected a positive {kind.__name__}")
    return kind(value)


def _divide(where: str, what: str, channels: set[int], parts: int, name: str) -> None:
    odd = sorted(width for width in channels if width % parts)
    if odd:
        raise FileProblem(
            f"{where}: {what} has {odd[0]} channels, which {parts} {name} do not divide; "
            "the right number may be given as JSON under `arch` in the file's metadata"
        )
