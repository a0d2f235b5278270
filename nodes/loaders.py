"""Loading checkpoints: what each file holds, to be wired; weights are read when they are used."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, NamedTuple

from nodegraph.errors import FileProblem
from nodegraph.spec import node
from nodegraph.types import File, FileRef
from nodes.diffusion.checkpoints import checkpoint_problems, family_of, lacking, read_checkpoint
from nodes.diffusion.training_config import read_config
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


def _config_problems(*, config_name: FileRef | None = None, ckpt_name: FileRef | None = None) -> list[str]:
    try:
        if config_name is not None:
            read_config(config_name.path)
    except FileProblem as problem:
        return [str(problem), *_problems(ckpt_name=ckpt_name)]
    return _problems(ckpt_name=ckpt_name)


def _family_of_checkpoint(*, ckpt_name: FileRef, **_: object) -> str | None:
    return _family(ckpt_name=ckpt_name)


@node(
    "CheckpointLoader", category="advanced/loaders", title="Load Checkpoint With Config (DEPRECATED)",
    check=_config_problems, family=_family_of_checkpoint,
)  # fmt: skip
def load_with_config(
    *, config_name: Annotated[FileRef, File("configs")], ckpt_name: Annotated[FileRef, File("checkpoints")]
) -> LoadedCheckpoint:
    """Load a checkpoint, and take from its configuration what a checkpoint itself does not always say.

    Args:
        config_name: A configuration of Stable Diffusion: whether the model predicts v, and the layer of its prompts.
        ckpt_name: A file of Stable Diffusion 1, 2, XL or the XL refiner.
    """
    config, loaded = read_config(config_name.path), _parts_of(ckpt_name)
    unet = loaded.MODEL.unet
    if config.predicts_v:
        unet = replace(unet, config=replace(unet.config, prediction="v"))
    return loaded._replace(MODEL=replace(loaded.MODEL, unet=unet), CLIP=replace(loaded.CLIP, layer=config.clip_layer))


def _parts_of(file: FileRef) -> LoadedCheckpoint:
    found = read_checkpoint(file.path, file.digest)
    if found.unet is None:
        raise ValueError(f"{file.name} holds no UNet; choose a whole checkpoint")
    clip = found.clip or (lacking(file.path, file.digest, "clip_l", found.family),)
    vae = found.vae or lacking(file.path, file.digest, "vae", found.family)
    return LoadedCheckpoint(ModelValue(found.unet), ClipValue(clip), VaeValue(vae))
