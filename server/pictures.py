"""Pictures on the server: is it whole and of a bearable size, as a smaller one, with another's transparency."""

from __future__ import annotations

import contextlib
import hashlib
import io
import mmap
import os
import secrets
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple

from nodegraph.errors import FileProblem, NodegraphError
from server.files import TooLarge

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
DECODED_PIXELS = 16_000_000  # up to so many, formats without an end mark are tried out
LONGEST = {"webp": 16383, "jpeg": 65500, "png": 1 << 24}  # sides that the formats can hold
SHARDS = "0123456789abcdef"
THUMBNAIL_BYTES = 256 << 20
KEPT_BYTES = 4 << 20  # one rendering; larger ones are made anew each time
SIXTEEN_BITS = ("I", "I;16", "I;16L", "I;16B", "I;16N")


class NotAPicture(FileProblem):
    """A file that cannot be read as a picture, or not as a whole one."""


class Measures(NamedTuple):
    """What a picture's header tells."""

    format: str
    width: int
    height: int


@dataclass(frozen=True)
class Rendering:
    """How a picture shall be sent.

    Attributes:
        format: the file format; JPEG has no transparency.
        quality: of webp and jpeg, 1..100.
        side: pixels of the longer side at most; None keeps the size.
        channel: `rgba` as it is, `rgb` without transparency, `a` black with the transparency alone.
    """

    format: Literal["webp", "jpeg", "png"] = "webp"
    quality: int = 90
    side: int | None = None
    channel: Literal["rgba", "rgb", "a"] = "rgba"

    @property
    def content_type(self) -> str:
        """The media type of what is made."""
        return f"image/{self.format}"


def check_picture(path: Path, max_pixels: int, name: str = "the file") -> Measures:
    """Looks whether a file is a whole picture, mostly without decoding it.

    Args:
        path: the file.
        max_pixels: pixels that are taken at most, all frames together where the header counts them.
        name: what to call it in errors.

    Raises:
        NotAPicture: it is empty, cut off, or no picture of a format we read.
        TooLarge: it has too many pixels.
    """
    if path.stat().st_size == 0:
        raise NotAPicture(f"{name} is empty (0 bytes); send the picture itself")
    with opened(path, max_pixels, name) as picture:
        measures = Measures(str(picture.format), *picture.size)
        if not _is_whole(path, picture):
            raise NotAPicture(f"{name} is cut off: its end is missing; send the whole file")
    return measures


@contextlib.contextmanager
def opened(source: Path | BinaryIO, max_pixels: int, name: str = "the file") -> Generator[Image.Image, None, None]:
    """Opens a picture whose header tells a bearable size; what decoding raises is told in words, too.

    Raises:
        NotAPicture: it cannot be read.
        TooLarge: it has too many pixels.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        picture: Any = Image.open(source, formats=FORMATS)
        with picture:
            width, height = picture.size
            frames = 1
            if picture.format in ("PNG", "WEBP"):  # the header counts them; others would have to be walked through
                frames = getattr(picture, "n_frames", 1)
            if width * height * frames > max_pixels:
                count = f"{width} x {height}" + (f", {frames} times" if frames > 1 else "")
                raise TooLarge(f"{name} has {count} pixels, more than {max_pixels}; send a smaller picture")
            yield picture
    except UnidentifiedImageError:
        raise NotAPicture(f"{name} is not a picture; send PNG, JPEG, WEBP, GIF, BMP or TIFF") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLarge(f"{name}: {error}; send a smaller picture") from None
    except (NodegraphError, FileNotFoundError):
        raise
    except Exception as error:  # at bytes they do not expect, Pillow's plugins raise whatever there is
        reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
        raise NotAPicture(f"{name} cannot be read as a picture: {reason}; save it anew and send that") from error


def _is_whole(path: Path, picture: Image.Image) -> bool:
    """Whether the end of a picture is there; raises what decoding raises."""
    if picture.format in ("PNG", "JPEG", "MPO", "WEBP"):
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if picture.format == "PNG":
                return _has_png_end(content)
            if picture.format == "WEBP":
                return len(content) >= 8 + int.from_bytes(content[4:8], "little")
            # within a scan 0xFF is followed by 0x00, so the last scan's start is found from behind
            return content.rfind(b"\xff\xd9") > content.rfind(b"\xff\xda")
    if picture.size[0] * picture.size[1] <= DECODED_PIXELS:
        picture.load()
    return True


def _has_png_end(content: mmap.mmap) -> bool:
    """Whether the chunks of a PNG go on to the last one."""
    position = 8
    while position + 12 <= len(content):
        following = position + 12 + int.from_bytes(content[position : position + 4], "big")
        if content[position + 4 : position + 8] == b"IEND":
            return following <= len(content)
        position = following
    return False


def paste_alpha(original: Path, mask: Path, target: Any, max_pixels: int) -> None:
    """Writes the colours of one picture with the transparency of another as PNG, with the first one's text chunks.

    Args:
        original: the colours; its text chunks are kept.
        mask: its transparency, of the same size; opaque where it has none.
        target: a binary file; needs `write` only.
        max_pixels: pixels that each may have.

    Raises:
        NotAPicture: one cannot be read, or they differ in size.
        TooLarge: one has too many pixels.
    """
    from PIL import ImageOps, PngImagePlugin

    with opened(original, max_pixels, "the original") as first, opened(mask, max_pixels, "the mask") as second:
        colours = ImageOps.exif_transpose(_true_colours(first)).convert("RGBA")  # as it is seen when a mask is painted
        if colours.size != second.size:
            sizes = f"{second.size[0]} x {second.size[1]}, the original {colours.size[0]} x {colours.size[1]}"
            raise NotAPicture(f"the mask has {sizes}; send one of the same size")
        texts = PngImagePlugin.PngInfo()
        for key, text in getattr(first, "text", {}).items():
            texts.add_text(key, text)
        colours.putalpha(_true_colours(second).convert("RGBA").getchannel("A"))
        colours.save(target, format="PNG", compress_level=4, pnginfo=texts)


def render_tag(path: Path, rendering: Rendering) -> str:
    """What names a rendering of a file as it is now, for caches here and at clients."""
    status = path.stat()
    text = f"{path}\0{status.st_mtime_ns}\0{status.st_size}\0{rendering}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def render(source: Path | BinaryIO, rendering: Rendering, max_pixels: int, name: str = "the file") -> bytes:
    """A picture in another format, size or choice of channels, without metadata; of several frames the first.

    Raises:
        NotAPicture: it cannot be read.
        TooLarge: it has too many pixels.
    """
    from PIL import Image, ImageOps

    with opened(source, max_pixels, name) as picture:
        side = min(rendering.side or 1 << 30, LONGEST[rendering.format])
        frame = _true_colours(picture)
        if max(frame.size) > side:
            frame.thumbnail((side, side))  # a JPEG is decoded at about this size
        frame = ImageOps.exif_transpose(frame)
        if frame.mode == "CMYK":
            frame.info.pop("icc_profile", None)  # it would not fit the colours below
        if rendering.channel == "a":
            alpha = frame.convert("RGBA").getchannel("A")
            frame = Image.new("RGBA", frame.size)
            frame.putalpha(alpha)
        else:
            keeps_alpha = rendering.channel == "rgba" and rendering.format != "jpeg" and frame.has_transparency_data
            frame = frame.convert("RGBA" if keeps_alpha else "RGB")
        # Pillow writes some of what it read, such as comments; only colours go with the pixels
        frame.info = {name: value for name, value in frame.info.items() if name == "icc_profile"}
        file = io.BytesIO()
        options: dict[str, Any] = {} if rendering.format == "png" else {"quality": rendering.quality}
        frame.save(file, format=rendering.format, **options)
        return file.getvalue()


def _true_colours(picture: Image.Image) -> Image.Image:
    """Palettes as colours, which can be made smaller, and 16 bits of grey as 8, which Pillow would cut off at 255."""
    if picture.mode in SIXTEEN_BITS:
        return picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if picture.mode in ("P", "PA", "1"):
        return picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    return picture


def thumbnail(
    folder: Path, path: Path, rendering: Rendering, max_pixels: int, *, limit: int = THUMBNAIL_BYTES
) -> bytes:
    """A rendering that is made once and kept as long as there is room; what was not asked for longest goes first.

    Args:
        folder: where renderings are kept, in one folder for each first digit of their tags.
        path: the picture.
        rendering: how it shall be.
        max_pixels: pixels it may have.
        limit: bytes to keep at most.

    Raises:
        NotAPicture, TooLarge: as `render`.
    """
    tag = render_tag(path, rendering)
    kept = folder / tag[0] / f"{tag}.{rendering.format}"
    with contextlib.suppress(OSError):
        found = kept.read_bytes()
        os.utime(kept)
        return found
    made = render(path, rendering, max_pixels, path.name)
    if len(made) <= min(KEPT_BYTES, limit // len(SHARDS)):
        with contextlib.suppress(OSError):  # a full disk takes the speed, not the picture
            _keep(kept, made, limit // len(SHARDS))
    return made


def _keep(kept: Path, content: bytes, limit: int) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    draft = kept.parent / f".{secrets.token_hex(6)}.part"
    try:
        draft.write_bytes(content)
        os.replace(draft, kept)
    finally:
        draft.unlink(missing_ok=True)
    entries = [(entry.stat(), entry.path) for entry in os.scandir(kept.parent)]
    total = sum(status.st_size for status, _ in entries)
    for status, path in sorted(entries, key=lambda entry: entry[0].st_mtime_ns):
        if total <= limit:
            break
        Path(path).unlink(missing_ok=True)
        total -= status.st_size
