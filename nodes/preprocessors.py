"""Hints for ControlNets by arithmetic alone; names and inputs of comfyui_controlnet_aux, so that its workflows run."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from nodegraph.context import Context
from nodegraph.spec import node
from nodegraph.types import Choices, Lazy, Widget
from nodes.types import Image, Mask, Seed

LINES, TILES = "ControlNet Preprocessors/Line Extractors", "ControlNet Preprocessors/tile"
COLOURS, OTHERS = "ControlNet Preprocessors/T2IAdapter-only", "ControlNet Preprocessors/others"
RECOLOUR = "ControlNet Preprocessors/Recolor"

Resolution = Annotated[int, Field(ge=64, le=16384), Widget(step=64)]
Byte = Annotated[int, Field(ge=0, le=255)]
Gamma = Annotated[float, Field(ge=0.1, le=2.0), Widget(step=0.01)]
Side = Annotated[int, Field(ge=64, le=16384), Widget(step=8)]
ResizeMode = Annotated[str, Choices(("Just Resize", "Crop and Resize", "Resize and Fill"))]
NAMES = (
    "none", "CannyEdgePreprocessor", "BinaryPreprocessor", "ScribblePreprocessor", "Scribble_XDoG_Preprocessor",
    "LineartStandardPreprocessor", "TilePreprocessor", "ColorPreprocessor", "ShufflePreprocessor",
    "ImageLuminanceDetector", "ImageIntensityDetector", "HEDPreprocessor", "FakeScribblePreprocessor",
    "LineArtPreprocessor", "AnimeLineArtPreprocessor", "DepthAnythingPreprocessor", "DepthAnythingV2Preprocessor",
    "MiDaS-DepthMapPreprocessor", "MiDaS-NormalMapPreprocessor", "OneFormer-COCO-SemSegPreprocessor",
    "OneFormer-ADE20K-SemSegPreprocessor", "SemSegPreprocessor", "UniFormer-SemSegPreprocessor",
    "OpenposePreprocessor", "DWPreprocessor",
)  # fmt: skip


@node("AIO_Preprocessor", category="ControlNet Preprocessors", title="AIO Aux Preprocessor")
async def any_preprocessor(
    *, ctx: Context, image: Lazy[Image], preprocessor: Annotated[str, Choices(NAMES)] = "none",
    resolution: Resolution = 512,
) -> Image:  # fmt: skip
    """Make a hint by the preprocessor named, with its defaults.

    Args:
        image: What to make a hint of.
        preprocessor: Which; `none` passes the image on.
        resolution: Pixels of the hint's shorter side.
    """
    if preprocessor == "none":
        return image  # pyright: ignore[reportReturnType]
    return ctx.expand(preprocessor, name="hint", image=image, resolution=resolution)[0]  # pyright: ignore[reportReturnType]


@node("PixelPerfectResolution", category="ControlNet Preprocessors", title="Pixel Perfect Resolution")
def pixel_perfect_resolution(
    *, original_image: Image, image_gen_width: Side = 512, image_gen_height: Side = 512,
    resize_mode: ResizeMode = "Just Resize",
) -> int:  # fmt: skip
    """The resolution at which a hint has just the pixels that a picture of a given size will use of it.

    Args:
        original_image: What the hint is made of.
        image_gen_width: Of the picture to be made.
        image_gen_height: Of the picture to be made.
        resize_mode: How the hint is brought to that size; `Resize and Fill` shows it whole.
    """
    from nodes.diffusion.preprocessors.frames import shorter_side

    height, width = original_image.shape[1:3]
    return shorter_side(height, width, (image_gen_height, image_gen_width), resize_mode == "Resize and Fill")


@node("CannyEdgePreprocessor", category=LINES, title="Canny Edge")
def canny_edge(
    *, image: Image, low_threshold: Byte = 100, high_threshold: Byte = 200, resolution: Resolution = 512
) -> Image:
    """Edges of images [B, H, W, C], white on black, one pixel wide (Canny 1986), as OpenCV finds them.

    Args:
        image: What to find edges in.
        low_threshold: How strong an edge must be to continue one.
        high_threshold: How strong an edge must be to begin.
        resolution: Pixels of the hint's shorter side.
    """
    from nodes.diffusion.preprocessors.lines import canny

    return canny(image, low_threshold, high_threshold, resolution)


@node("BinaryPreprocessor", category=LINES, title="Binary Lines")
def binary_lines(*, image: Image, bin_threshold: Byte = 100, resolution: Resolution = 512) -> Image:
    """White where images [B, H, W, C] are bright, black where they are dark.

    Args:
        image: What to part.
        bin_threshold: Luma above which is white; 0 and 255 find one for each image (Otsu 1979).
        resolution: Pixels of the hint's shorter side.
    """
    from nodes.diffusion.preprocessors.lines import binary

    return binary(image, bin_threshold, resolution)


@node("ScribblePreprocessor", category=LINES, title="Scribble Lines")
def scribble_lines(*, image: Image, resolution: Resolution = 512) -> Image:
    """A drawing [B, H, W, C] in black and white: black where it is dark. Invert it for a scribble ControlNet.

    Args:
        image: A drawing of dark lines.
        resolution: Pixels of the hint's shorter side.
    """
    from nodes.diffusion.preprocessors.lines import scribble

    return scribble(image, resolution)


@node("Scribble_XDoG_Preprocessor", category=LINES, title="Scribble XDoG Lines")
def xdog_lines(
    *, image: Image, threshold: Annotated[int, Field(ge=1, le=64)] = 32, resolution: Resolution = 512
) -> Image:
    """Scribbles, white on black, where images [B, H, W, C] are darker than around.

    Args:
        image: What to draw.
        threshold: The larger, the fewer lines.
        resolution: Pixels of the hint's shorter side.
    """
    from nodes.diffusion.preprocessors.lines import xdog

    return xdog(image, threshold, resolution)


@node("LineartStandardPreprocessor", category=LINES, title="Standard Lineart")
def standard_lineart(
    *, image: Image, guassian_sigma: Annotated[float, Field(ge=0.0, le=100.0), Widget(step=0.01)] = 6.0,
    intensity_threshold: Annotated[int, Field(ge=0, le=16)] = 8, resolution: Resolution = 512,
) -> Image:  # fmt: skip
    """Line art, white on black, where images [B, H, W, C] are darker than their blur.

    Args:
        image: What to draw.
        guassian_sigma: Width of the blur in pixels.
        intensity_threshold: What counts as a line when their strength is measured.
        resolution: Pixels of the hint's shorter side.
    """
    from nodes.diffusion.preprocessors.lines import lineart

    return lineart(image, guassian_sigma, intensity_threshold, resolution)


@node("TilePreprocessor", category=TILES, title="Tile")
def tile_hint(
    *,
    image: Image,
    pyrUp_iters: Annotated[int, Field(ge=1, le=10)] = 3,  # noqa: N803
    resolution: Resolution = 512,
) -> Image:
    """Images [B, H, W, C] without their details, for tile ControlNets, which bring details back.

    Args:
        image: What to blur.
        pyrUp_iters: How often its size is halved before it is doubled again.
        resolution: Not heeded: the hint has the size of the image, rounded to multiples of 64.
    """
    from nodes.diffusion.preprocessors.colours import tile

    return tile(image, pyrUp_iters)


@node("ColorPreprocessor", category=COLOURS, title="Color Pallete")
def colour_blocks(*, image: Image, resolution: Resolution = 512) -> Image:
    """Images [B, H, W, C] in squares of one colour, for T2I-Adapter's colour model.

    Args:
        image: What to show in squares.
        resolution: Pixels of the hint's shorter side; a square has 64.
    """
    from nodes.diffusion.preprocessors.colours import blocks

    return blocks(image, resolution)


@node("ShufflePreprocessor", category=COLOURS, title="Content Shuffle")
def content_shuffle(*, image: Image, resolution: Resolution = 512, seed: Seed = 0) -> Image:
    """Images [B, H, W, C] with their content out of place, for shuffle ControlNets, which take colours and style.

    Args:
        image: What to shuffle.
        resolution: Pixels of the hint's shorter side.
        seed: Decides what goes where.
    """
    from nodes.diffusion.preprocessors.colours import shuffled

    return shuffled(image, resolution, seed)


@node("ImageLuminanceDetector", category=RECOLOUR, title="Image Luminance")
def luminance_hint(*, image: Image, gamma_correction: Gamma = 1.0, resolution: Resolution = 512) -> Image:
    """Lightness of images [B, H, W, C], for ControlNets that colour.

    Args:
        image: What to take the colour from.
        gamma_correction: Lightness is taken to this power; above 1 is darker.
        resolution: Pixels of the hint's shorter side.
    """
    from nodes.diffusion.preprocessors.colours import luminance

    return luminance(image, gamma_correction, resolution)


@node("ImageIntensityDetector", category=RECOLOUR, title="Image Intensity")
def intensity_hint(*, image: Image, gamma_correction: Gamma = 1.0, resolution: Resolution = 512) -> Image:
    """The brightest of the three colours at each place of images [B, H, W, C], for ControlNets that colour.

    Args:
        image: What to take the colour from.
        gamma_correction: Brightness is taken to this power; above 1 is darker.
        resolution: Pixels of the hint's shorter side.
    """
    from nodes.diffusion.preprocessors.colours import intensity

    return intensity(image, gamma_correction, resolution)


@node("InpaintPreprocessor", category=OTHERS, title="Inpaint Preprocessor")
def inpaint_hint(*, image: Image, mask: Mask, black_pixel_for_xinsir_cn: bool = False) -> Image:
    """Images [B, H, W, C] with what is masked marked as missing (-1), for inpainting ControlNets.

    Args:
        image: What to fill in.
        mask: White where something new is wanted.
        black_pixel_for_xinsir_cn: Mark it black (0) instead, as the ControlNets of xinsir take it.
    """
    from nodes.diffusion.preprocessors.colours import without_masked

    return without_masked(image, mask, 0.0 if black_pixel_for_xinsir_cn else -1.0)
