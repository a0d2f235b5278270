"""Pictures that move: a batch of images as one file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO

from PIL import Image, PngImagePlugin
from torch import Tensor

from nodes.diffusion.pictures import to_bytes

EXIF_MODEL = 0x0110  # ComfyUI's places in a WEBP: the prompt here, what else there is from here downwards
EXIF_MAKE = 0x010F


def write_animated_webp(
    file: BinaryIO, images: Tensor, texts: Mapping[str, str], *, fps: float, lossless: bool, quality: int, effort: int
) -> None:
    """Writes [B, H, W, C] (C = 1, 3 or 4), 0..1, as one WEBP with texts in its EXIF tags.

    Args:
        file: where to.
        images: the frames.
        texts: by key; `prompt` under `Model`, others from `Make` downwards, each as `key:text`.
        fps: frames a second; a frame lasts whole milliseconds.
        lossless: keep every value.
        quality: 0..100; of a lossless file, how hard it is compressed.
        effort: 0 is fast, 6 makes small files.
    """
    frames = _pictures(images)
    exif = Image.Exif()
    others = (key for key in texts if key != "prompt")
    places = {"prompt": EXIF_MODEL} | {key: EXIF_MAKE - number for number, key in enumerate(others)}
    for key, text in texts.items():
        exif[places[key]] = f"{key}:{text}"
    frames[0].save(
        file, format="WEBP", save_all=True, append_images=frames[1:], duration=int(1000 / fps), exif=exif,
        lossless=lossless, quality=quality, method=effort,
    )  # fmt: skip


def write_animated_png(file: BinaryIO, images: Tensor, texts: Mapping[str, str], *, fps: float, level: int) -> None:
    """Writes [B, H, W, C] (C = 1, 3 or 4), 0..1, as one animated PNG with text chunks.

    Args:
        file: where to.
        images: the frames.
        texts: by key.
        fps: frames a second; a frame lasts whole milliseconds.
        level: of zlib, 0..9.
    """
    frames = _pictures(images)
    chunks = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        chunks.add_text(key, text)
    frames[0].save(
        file, format="PNG", save_all=True, append_images=frames[1:], duration=int(1000 / fps), pnginfo=chunks,
        compress_level=level,
    )  # fmt: skip


def _pictures(images: Tensor) -> list[Image.Image]:
    arrays = (to_bytes(image) for image in images)
    return [Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array) for array in arrays]
