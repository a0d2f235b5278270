"""Pictures in files to tensors and back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, ImageSequence, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from nodegraph.errors import FileProblem

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SIXTEEN_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")


def read_picture(path: str, name: str) -> tuple[Tensor, Tensor]:
    """Reads a picture, turned upright by its EXIF tag; an animation gives its frames as a batch.

    Args:
        path: where it is.
        name: for messages.

    Returns:
        image [B, H, W, 3] and mask [B, H, W], 0..1; the mask is 1 where the picture is transparent. A picture without
        alpha gives a mask of zeros [1, 64, 64], as in ComfyUI.

    Raises:
        FileProblem: it is not a picture, damaged, or so large that it may be a decompression bomb.
    """
    frames = _upright_frames(path, name)
    first = frames[0].size
    frames = [frame for frame in frames if frame.size == first]
    images = torch.stack([_colours(frame) for frame in frames])
    masks = [_transparency(frame) for frame in frames]
    return images, torch.stack([mask if mask is not None else torch.zeros(64, 64) for mask in masks])


def read_channel(path: str, name: str, channel: str) -> Tensor:
    """One channel of a picture's first frame as a mask [1, H, W], 0..1.

    Args:
        path: where it is.
        name: for messages.
        channel: `red`, `green`, `blue`; or `alpha`, whose mask is 1 where the picture is transparent.

    Raises:
        FileProblem: as `read_picture`.
    """
    frame = _upright_frames(path, name)[0]
    if channel == "alpha":
        mask = _transparency(frame)
        return (torch.zeros(frame.height, frame.width) if mask is None else mask)[None]
    return _colours(frame)[None, ..., ("red", "green", "blue").index(channel)].contiguous()


def to_bytes(image: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """[H, W, C] in 0..1 -> 8 bits; fractions are cut off, as in ComfyUI."""
    return (image.detach().float().cpu().numpy() * 255.0).clip(0, 255).astype(np.uint8)


def write_png(file: BinaryIO, image: Tensor, texts: Mapping[str, str], level: int = 4) -> None:
    """Writes [H, W, C] (C = 1, 3 or 4) as PNG with text chunks.

    Args:
        file: where to.
        image: 0..1.
        texts: text chunks by key.
        level: zlib level, 0..9.
    """
    array = to_bytes(image)
    chunks = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        chunks.add_text(key, text)
    picture = Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array)
    picture.save(file, format="PNG", pnginfo=chunks, compress_level=level)


def fill_prefix(prefix: str, image: Tensor, number: int) -> str:
    """A file name prefix with ComfyUI's `%width%`, `%height%`, `%batch_num%`, `%year%` ... `%second%` filled in."""
    if "%" not in prefix:
        return prefix
    now = time.localtime()
    values = {
        "width": str(image.shape[1]), "height": str(image.shape[0]), "batch_num": f"{number:05}",
        "year": f"{now.tm_year}", "month": f"{now.tm_mon:02}", "day": f"{now.tm_mday:02}",
        "hour": f"{now.tm_hour:02}", "minute": f"{now.tm_min:02}", "second": f"{now.tm_sec:02}",
    }  # fmt: skip
    for key, value in values.items():
        prefix = prefix.replace(f"%{key}%", value)
    return prefix


def _upright_frames(path: str, name: str) -> list[Picture]:
    try:
        with Image.open(path) as file:
            return [ImageOps.exif_transpose(frame) for frame in _frames(file)]
    except UnidentifiedImageError:
        raise FileProblem(f"{name} is not a picture; use PNG, JPEG, WEBP, GIF, BMP or TIFF") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FileProblem(f"{name} cannot be read as a picture: {error}") from error


def _frames(file: Picture) -> list[Picture]:
    if file.format == "MPO":  # a stereo pair: the second picture is another view, not another frame
        return [file.copy()]
    return [frame.copy() for frame in ImageSequence.Iterator(file)]


def _colours(frame: Picture) -> Tensor:
    if frame.mode in SIXTEEN_BITS:
        values = np.asarray(frame).astype(np.float32)
        grey = torch.from_numpy(np.floor(values / 255).clip(0, 255) / 255)
        return grey[..., None].expand(-1, -1, 3).clone()
    return torch.from_numpy(np.asarray(frame.convert("RGB")).astype(np.float32) / 255)


def _transparency(frame: Picture) -> Tensor | None:
    if frame.mode == "P" and "transparency" in frame.info:
        frame = frame.convert("RGBA")
    if "A" not in frame.getbands():
        return None
    return 1 - torch.from_numpy(np.asarray(frame.getchannel("A")).astype(np.float32) / 255)
