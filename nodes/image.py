"""Images: from files, to files, and to other sizes."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal, NamedTuple

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
OutputFile = Annotated[FileRef, File("output"), Widget(image_upload=True)]
Size = Annotated[int, Field(ge=1, le=16384), Widget(step=1)]
MaxMethod = Annotated[str, Choices(("area", "lanczos", "bilinear", "nearest-exact", "bicubic"))]
PadMethod = Annotated[str, Choices(("area", "bicubic", "nearest-exact", "bilinear", "lanczos"))]
PadColor = Annotated[str, Choices(("white", "black"))]
FramesPerSecond = Annotated[float, Field(ge=0.01, le=1000.0), Widget(step=0.01)]
Quality = Annotated[int, Field(ge=0, le=100)]
Compression = Annotated[int, Field(ge=0, le=9)]
WEBP_EFFORTS = {"default": 4, "fastest": 0, "slowest": 6}
Effort = Annotated[str, Choices(tuple(WEBP_EFFORTS))]


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


@node("LoadImageOutput", category="image", title="Load Image (from Outputs)")
def load_image_output(*, ctx: Context, image: OutputFile) -> LoadedImage:
    """Read a picture of the output folder: image [B, H, W, 3], and mask [B, H, W] that is 1 where it is transparent.

    Args:
        image: A file in the output folder.
    """
    return load_image(ctx=ctx, image=image)


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
    save_pngs(ctx, images, filename_prefix, "output", level=4)


@node("PreviewImage", category="image", title="Preview Image", kind="sink", lane="io")
def preview_image(*, ctx: Context, images: Image) -> None:
    """Show images [B, H, W, C] without keeping them: PNG files in the temp folder.

    Args:
        images: What to show.
    """
    save_pngs(ctx, images, "ComfyUI_temp", "temp", level=1)


@node("SaveImageWebsocket", category="api/image", kind="sink", lane="io", cache=False)
def save_image_websocket(*, ctx: Context, images: Image) -> None:
    """Send images [B, H, W, C] as PNG to whoever follows the run, and keep none on disk.

    Args:
        images: What to send.
    """
    from nodes.diffusion.pictures import write_png

    for number, image in enumerate(images, 1):
        file = BytesIO()
        write_png(file, image, {}, 4)
        ctx.step(number, len(images))
        ctx.show("png", file.getvalue())


@node("SaveAnimatedWEBP", category="image/animation", kind="sink", lane="io")
def save_animated_webp(
    *,
    ctx: Context,
    images: Image,
    filename_prefix: str = "ComfyUI",
    fps: FramesPerSecond = 6.0,
    lossless: bool = True,
    quality: Quality = 80,
    method: Effort,
) -> None:
    """Save images [B, H, W, C] as the frames of one WEBP in the output folder, with the workflow that made it.

    Args:
        images: The frames.
        filename_prefix: Start of the file name, as in SaveImage.
        fps: Frames a second.
        lossless: Keep every value; the file is larger.
        quality: 100 is best; of a lossless file, how hard it is compressed.
        method: `slowest` makes the smallest file.
    """
    from nodes.diffusion.animation import write_animated_webp
    from nodes.diffusion.pictures import fill_prefix

    def write(file: BinaryIO) -> None:
        effort = WEBP_EFFORTS[method]
        write_animated_webp(file, images, ctx.metadata(), fps=fps, lossless=lossless, quality=quality, effort=effort)

    ctx.save(fill_prefix(filename_prefix, images[0], 0), "webp", write)


@node("SaveAnimatedPNG", category="image/animation", kind="sink", lane="io")
def save_animated_png(
    *,
    ctx: Context,
    images: Image,
    filename_prefix: str = "ComfyUI",
    fps: FramesPerSecond = 6.0,
    compress_level: Compression = 4,
) -> None:
    """Save images [B, H, W, C] as the frames of one animated PNG in the output folder, with the workflow that made it.

    Args:
        images: The frames.
        filename_prefix: Start of the file name, as in SaveImage.
        fps: Frames a second.
        compress_level: 9 makes the smallest file and takes longest.
    """
    from nodes.diffusion.animation import write_animated_png
    from nodes.diffusion.pictures import fill_prefix

    def write(file: BinaryIO) -> None:
        write_animated_png(file, images, ctx.metadata(), fps=fps, level=compress_level)

    ctx.save(fill_prefix(filename_prefix, images[0], 0), "png", write)


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


@node("ImageScaleToMaxDimension", category="image/upscaling")
def scale_image_to_max_dimension(*, image: Image, upscale_method: MaxMethod, largest_size: Side = 512) -> Image:
    """Resize images [B, H, W, C] so that the longer side has a given length, keeping the aspect ratio.

    Args:
        image: What to resize.
        upscale_method: How pixels are interpolated.
        largest_size: New length of the longer side.
    """
    if largest_size == 0:
        raise ValueError("largest_size is 0; expected the length of the longer side, at least 1")
    height, width = image.shape[1:3]
    shorter = max(1, round(min(height, width) / max(height, width) * largest_size))
    new = (shorter, largest_size) if height > width else (largest_size, shorter)
    return _resized(image, *new, upscale_method, "disabled")


@node("ResizeAndPadImage", category="image/transform")
def resize_and_pad_image(
    *,
    image: Image,
    target_width: Size = 512,
    target_height: Size = 512,
    padding_color: PadColor,
    interpolation: PadMethod,
) -> Image:
    """Resize images [B, H, W, C] to fit into a size, keeping the aspect ratio, and fill up what is left around them.

    Args:
        image: What to resize.
        target_width: Width of the result.
        target_height: Height of the result.
        padding_color: What is put around the image.
        interpolation: How pixels are interpolated.
    """
    from nodes.diffusion.layout import pad_to_fit

    return pad_to_fit(image, target_width, target_height, float(padding_color == "white"), interpolation)


def save_pngs(ctx: Context, images: Tensor, prefix: str, kind: Literal["output", "temp"], level: int) -> None:
    """Saves each of [B, H, W, C] as a PNG with the workflow that made it, zlib level 0..9."""
    from nodes.diffusion.pictures import fill_prefix, write_png

    texts = ctx.metadata()
    for number, image in enumerate(images):
        name = fill_prefix(prefix, image, number)
        ctx.save(name, "png", lambda file, image=image: write_png(file, image, texts, level), kind=kind)


def _resized(image: Tensor, width: int, height: int, method: str, crop: str) -> Tensor:
    from nodes.diffusion.resize import resize

    return resize(image.movedim(-1, 1), width, height, method, crop).movedim(1, -1)
