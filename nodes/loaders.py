"""Loading checkpoints: what each file holds, to be wired; weights are read when they are used."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from nodegraph.spec import node
from nodegraph.types import File, FileRef
from nodes.diffusion.checkpoints import checkpoint_problems, family_of, lacking, read_checkpoint
from nodes.types import Clip, ClipValue, Model, ModelValue, Vae, VaeValue


class LoadedCheckpoint(NamedTuple):
    """The three parts of a checkpoint."""

    MODEL: Model
    CLIP: Clip
    VAE: Vae


def _problems(**files: FileRef | None) -> list[str]:
    return [problem for file in files.values() if file is not None for problem in checkpoint_problems(file.path)]


def _family(**files: FileRef) -> str | None:
    (file,) = files.values()
    return family_of(file.path, file.digest)


@node("CheckpointLoaderSimple", category="loaders", title="Load Checkpoint", check=_problems, family=_family)
def load_checkpoint(*, ckpt_name: Annotated[FileRef, File("checkpoints")]) -> LoadedCheckpoint:
    """Load a checkpoint: the model that denoises, its text encoders, and its VAE.

    Args:
        ckpt_name: A file of Stable Diffusion 1, 2, XL or the XL refiner.
    """
    return _parts_of(ckpt_name)


@node(
    "DiffusersLoader", category="advanced/loaders/deprecated", title="DiffusersLoader", check=_problems, family=_family
)
def load_diffusers(*, model_path: Annotated[FileRef, File("diffusers")]) -> LoadedCheckpoint:
    """Load a model folder as diffusers saves it.

    Args:
        model_path: A folder with model_index.json.
    """
    return _parts_of(model_path)


def _parts_of(file: FileRef) -> LoadedCheckpoint:
    found = read_checkpoint(file.path, file.digest)
    if found.unet is None:
        raise ValueError(f"{file.name} holds no UNet; choose a whole checkpoint")
    clip = found.clip or (lacking(file.path, file.digest, "clip_l", found.family),)
    vae = found.vae or lacking(file.path, file.digest, "vae", found.family)
    return LoadedCheckpoint(ModelValue(found.unet), ClipValue(clip), VaeValue(vae))
