"""Images: from files, to files, and to other sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from nodegraph.context import Context
from nodegraph.spec import node
from nodegraph.types import Choices, File, FileRef, Widget
from nodes.types import Image, Mask

if TYPE_CHECKING:
    from torch import Tensor

ImageFile = Annotated[FileRef, File("input"), Widget(image_upload=True)]
UpscaleMethod = Annotated[str, Choices(("nearest-exact", "bilinear", "area", "bicubic", "lanczos"))]
Crop = Annotated[str, Choices(("disabled", "center"))]
Channel = Annotated[str, Choices(("alpha", "red", "green", "blue"))]
Side = Annotated[int, Field(ge=0, le=16384), Widget(step=1)]
Megapixels = Annotated[float, Field(ge=0.01, le=16.0), Widget(step=0.01)]
Scale = Annotated[float, Field(ge=0.01, le=8.0), Widget(step=0.01)]


class LoadedImage(NamedTuple):
    """A picture and its transparency."""

    IMAGE: Image
    MASK: Mask


@node("LoadImage", category="image", title="Load Image")
def load_image(*, ctx: Context, image: ImageFile) -> LoadedImage:
    """Read a picture of the input folder: image [B, H, W, 3], and mask [B, H, W] that is 1 where it is transparent.

    Args:
        image: A file in the input folder; `name [output]` takes it from the output folder.
    """
    from nodes.diffusion.pictures import read_picture

    found, mask = read_picture(image.path, image.name)
    return LoadedImage(found.to(ctx.device), mask.to(ctx.device))


@node("LoadImageMask", category="mask", title="Load Image (as Mask)")
def load_image_mask(*, ctx: Context, image: ImageFile, channel: Channel) -> Mask:
    """Read one channel of a picture as a mask [B, H, W]; `alpha` is 1 where the picture is transparent.

    Args:
        image: A file in the input folder.
        channel: Which channel.
    """
    from nodes.diffusion.pictures import read_channel

    return read_channel(image.path, image.name, channel).to(ctx.device)


@node("SaveImage", category="image", title="Save Image", kind="sink", lane="io")
def save_image(*, ctx: Context, images: Image, filename_prefix: str = "ComfyUI") -> None:
    """Save images [B, H, W, C] as PNG in the output folder, each with the workflow that made it.

    Args:
        images: What to save.
        filename_prefix: Start of the file name, with folders before it if wanted; %width%, %height%, %year% and so
            on are filled in.
    """
    _save(ctx, images, filename_prefix, "output", level=4)


@node("PreviewImage", category="image", title="Preview Image", kind="sink", lane="io")
def preview_image(*, ctx: Context, images: Image) -> None:
    """Show images [B, H, W, C] without keeping them: PNG files in the temp folder.

    Args:
        images: What to show.
    """
    _save(ctx, images, "ComfyUI_temp", "temp", level=1)


@node("ImageScale", category="image/upscaling", title="Upscale Image")
def scale_image(
    *, image: Image, upscale_method: UpscaleMethod, width: Side = 512, height: Side = 512, crop: Crop
) -> Image:
    """Resize images [B, H, W, C] to width x height.

    Args:
        image: What to resize.
        upscale_method: How pixels are interpolated.
        width: New width; 0 keeps the aspect ratio.
        height: New height; 0 keeps the aspect ratio.
        crop: `center` cuts to the new aspect ratio first; `disabled` stretches.
    """
    if width == 0 and height == 0:
        return image
    old_height, old_width = image.shape[1:3]
    width = width or max(1, round(old_width * height / old_height))
    height = height or max(1, round(old_height * width / old_width))
    return _resized(image, width, height, upscale_method, crop)


@node("ImageScaleBy", category="image/upscaling", title="Upscale Image By")
def scale_image_by(*, image: Image, upscale_method: UpscaleMethod, scale_by: Scale = 1.0) -> Image:
    """Resize images [B, H, W, C] by a factor.

    Args:
        image: What to resize.
        upscale_method: How pixels are interpolated.
        scale_by: 2 doubles both sides.
    """
    width, height = round(image.shape[2] * scale_by), round(image.shape[1] * scale_by)
    return _resized(image, max(1, width), max(1, height), upscale_method, "disabled")


@node("ImageScaleToTotalPixels", category="image/upscaling")
def scale_image_to_pixels(*, image: Image, upscale_method: UpscaleMethod, megapixels: Megapixels = 1.0) -> Image:
    """Resize images [B, H, W, C] to a number of pixels, keeping the aspect ratio.

    Args:
        image: What to resize.
        upscale_method: How pixels are interpolated.
        megapixels: Size of the result; one is 1024 x 1024.
    """
    scale = (megapixels * 1024 * 1024 / (image.shape[1] * image.shape[2])) ** 0.5
    return _resized(image, round(image.shape[2] * scale), round(image.shape[1] * scale), upscale_method, "disabled")


def _resized(image: Tensor, width: int, height: int, method: str, crop: str) -> Tensor:
    from nodes.diffusion.resize import resize

    return resize(image.movedim(-1, 1), width, height, method, crop).movedim(1, -1)


def _save(ctx: Context, images: Tensor, prefix: str, kind: Literal["output", "temp"], level: int) -> None:
    from nodes.diffusion.pictures import fill_prefix, write_png

    texts = ctx.metadata()
    for number, image in enumerate(images):
        name = fill_prefix(prefix, image, number)
        ctx.save(name, "png", lambda file, image=image: write_png(file, image, texts, level), kind=kind)
