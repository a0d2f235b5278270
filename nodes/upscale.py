"""Upscaling images by a network made for it."""

from __future__ import annotations

from typing import Annotated

from nodegraph.context import Context
from nodegraph.spec import node
from nodegraph.types import File, FileRef
from nodes.diffusion.upscalers import read_upscaler, upscaler_problems
from nodes.types import Image, UpscaleModel, UpscaleModelValue


def _problems(*, model_name: FileRef | None = None) -> list[str]:
    return [] if model_name is None else upscaler_problems(model_name.path)


@node("UpscaleModelLoader", category="loaders", title="Load Upscale Model", check=_problems)
def load_upscale_model(*, model_name: Annotated[FileRef, File("upscale_models")]) -> UpscaleModel:
    """Load a network that enlarges or cleans images: ESRGAN, Real-ESRGAN, SwinIR, HAT, DAT and what spandrel knows.

    Args:
        model_name: A .safetensors or .pth file.
    """
    return UpscaleModelValue(read_upscaler(model_name.path, model_name.digest))


@node("ImageUpscaleWithModel", category="image/upscaling", title="Upscale Image (using Model)")
def upscale_with_model(*, ctx: Context, upscale_model: UpscaleModel, image: Image) -> Image:
    """Enlarge images [B, H, W, C] by the factor of a network, tile by tile where memory asks for it.

    Args:
        upscale_model: The network; one of factor 1 cleans images.
        image: Colour images; alpha is enlarged with them.
    """
    from nodes.diffusion.upscaling import upscaled

    with ctx.use(upscale_model.weights) as network:
        return upscaled(network, image.to(ctx.device), on_tile=ctx.step)
