"""Loading the parts of a model from files of their own; weights are read when they are used."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from nodegraph.context import Context
from nodegraph.errors import FileProblem
from nodegraph.spec import node
from nodegraph.types import Choices, File, FileRef
from nodes.diffusion.architecture import family_name
from nodes.diffusion.checkpoints import read_unet, read_vae
from nodes.diffusion.headers import PICKLES, sniff
from nodes.diffusion.text_encoders import read_encoder, read_two_encoders
from nodes.diffusion.tiny_vae import LATENT_SCALES, TinyVae
from nodes.types import Clip, ClipValue, Model, ModelValue, Vae, VaeValue

EncoderFile = Annotated[FileRef, File("text_encoders")]
Device = Annotated[str, Choices(("default", "cpu"))]
ClipType = Annotated[str, Choices((
    "stable_diffusion", "stable_cascade", "sd3", "stable_audio", "mochi", "ltxv", "pixart", "cosmos", "lumina2", "wan",
    "hidream", "chroma", "ace", "omnigen2", "qwen_image", "hunyuan_image",
))]  # fmt: skip
DualType = Annotated[str, Choices(("sdxl", "sd3", "flux", "hunyuan_video", "hidream", "hunyuan_image"))]
WeightDType = Annotated[str, Choices(("default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"))]


def _is_pickle(file: FileRef) -> bool:
    return Path(file.path).suffix.lower() in PICKLES


def _problems_of(read: Callable[[str, str], object], file: FileRef | None) -> list[str]:
    """What is wrong with a file, found without torch; a pickle is only sniffed at."""
    try:
        if file is not None and _is_pickle(file):
            sniff(Path(file.path))
        elif file is not None:
            read(file.path, file.digest)
    except FileProblem as problem:
        return [str(problem)]
    return []


def _vae_problems(*, vae_name: FileRef | None = None) -> list[str]:
    return [] if vae_name is not None and vae_name.name in LATENT_SCALES else _problems_of(read_vae, vae_name)


@node("VAELoader", category="loaders", title="Load VAE", check=_vae_problems)
def load_vae(*, ctx: Context, vae_name: Annotated[FileRef, File("vae")]) -> Vae:
    """Load a VAE alone: what goes between images and latents.

    Args:
        vae_name: A VAE of Stable Diffusion, or TAESD, which is tiny and quick, for SD1 and SD2 (taesd) or SDXL
            (taesdxl).
    """
    scale = LATENT_SCALES.get(vae_name.name)
    if scale is None:
        return VaeValue(read_vae(vae_name.path, vae_name.digest))
    other = next(
        (name for name in ctx.files.names("vae_approx") if Path(name).stem == f"{vae_name.name}_encoder"), None
    )
    encoder = None if other is None else str(ctx.files.path("vae_approx", other))
    return VaeValue(TinyVae(vae_name.path, encoder, vae_name.digest, scale))


def _unet_problems(*, unet_name: FileRef | None = None, **_: object) -> list[str]:
    return _problems_of(read_unet, unet_name)


@lru_cache(maxsize=64)
def _unet_name(path: str, digest: str) -> str:
    part = read_unet(path, digest)
    return family_name(part.family, part.config.context_dim)


def _unet_family(*, unet_name: FileRef, **_: object) -> str | None:
    return None if _is_pickle(unet_name) else _unet_name(unet_name.path, unet_name.digest)


@node(
    "UNETLoader", category="advanced/loaders", title="Load Diffusion Model", check=_unet_problems, family=_unet_family
)
def load_unet(
    *, ctx: Context, unet_name: Annotated[FileRef, File("diffusion_models")], weight_dtype: WeightDType
) -> Model:
    """Load a UNet alone: the model that denoises.

    Args:
        unet_name: A UNet of Stable Diffusion 1, 2, XL or the XL refiner, with original or diffusers names.
        weight_dtype: How weights are held; fp8 has no effect here, they stay in the session's precision.
    """
    if weight_dtype != "default":
        ctx.note(f"weight_dtype {weight_dtype} is not supported; the weights are held in the session's precision")
    return ModelValue(read_unet(unet_name.path, unet_name.digest))


def _type_problems(type: str | None, supported: str) -> list[str]:
    if type in (None, supported):
        return []
    return [f"type {type!r} is of models that are not supported; choose {supported!r}"]


def _clip_problems(*, clip_name: FileRef | None = None, type: str | None = None, **_: object) -> list[str]:
    return _type_problems(type, "stable_diffusion") or _problems_of(read_encoder, clip_name)


@lru_cache(maxsize=64)
def _clip_name(path: str, digest: str) -> str:
    part = read_encoder(path, digest)
    return family_name(part.family, part.config.hidden)


def _clip_family(*, clip_name: FileRef, **_: object) -> str | None:
    return None if _is_pickle(clip_name) else _clip_name(clip_name.path, clip_name.digest)


@node("CLIPLoader", category="advanced/loaders", title="Load CLIP", check=_clip_problems, family=_clip_family)
def load_clip(*, clip_name: EncoderFile, type: ClipType, device: Device = "default") -> Clip:
    """Load a text encoder alone: CLIP-L of SD1, OpenCLIP-H of SD2, or OpenCLIP-G of the XL refiner.

    Args:
        clip_name: The text encoder, with the names of transformers or of open_clip.
        type: What it is for; only stable_diffusion is supported.
        device: Without effect: where models are held is decided for all of them.
    """
    return ClipValue((read_encoder(clip_name.path, clip_name.digest),))


def _dual_problems(
    *,
    clip_name1: FileRef | None = None,
    clip_name2: FileRef | None = None,
    type: str | None = None,
    **_: object,
) -> list[str]:
    found = _type_problems(type, "sdxl")
    found = found or _problems_of(read_encoder, clip_name1) + _problems_of(read_encoder, clip_name2)
    if found or clip_name1 is None or clip_name2 is None or _is_pickle(clip_name1) or _is_pickle(clip_name2):
        return found
    return _problems_of(lambda path, digest: read_two_encoders(clip_name1, clip_name2), clip_name1)


@lru_cache(maxsize=64)
def _dual_name(first: FileRef, second: FileRef) -> str:
    return family_name("sdxl", sum(part.config.hidden for part in read_two_encoders(first, second)))


def _dual_family(*, clip_name1: FileRef, clip_name2: FileRef, **_: object) -> str | None:
    return None if _is_pickle(clip_name1) or _is_pickle(clip_name2) else _dual_name(clip_name1, clip_name2)


@node("DualCLIPLoader", category="advanced/loaders", title="DualCLIPLoader", check=_dual_problems, family=_dual_family)
def load_two_clips(
    *,
    clip_name1: EncoderFile,
    clip_name2: EncoderFile,
    type: DualType,
    device: Device = "default",
) -> Clip:
    """Load the two text encoders of SDXL: CLIP-L and OpenCLIP-G, in either order.

    Args:
        clip_name1: One of them.
        clip_name2: The other.
        type: What they are for; only sdxl is supported.
        device: Without effect: where models are held is decided for all of them.
    """
    return ClipValue(read_two_encoders(clip_name1, clip_name2))
