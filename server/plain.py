"""Pictures without what they tell besides: no workflow, no place and time, and every pixel as it is in the file.

The parts of the file that hold pixels, colours and movement are copied; nothing is encoded anew.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from server.files import TooLarge
from server.pictures import NotAPicture, opened

LARGEST = 256 << 20  # bytes of a file, which is whole in memory
ORIENTATION = 0x0112  # of EXIF: which way up it is shown, which stays
PNG_CHUNKS = (
    b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"mDCV", b"cLLI", b"sBIT",
    b"bKGD", b"pHYs", b"acTL", b"fcTL", b"fdAT",
)  # fmt: skip
WEBP_CHUNKS = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP")
WEBP_EXIF, WEBP_XMP = 0x08, 0x04  # flags of VP8X


def without_metadata(path: Path, max_pixels: int) -> bytes:
    """A PNG, WEBP or JPEG file with its pixels, colours and orientation alone.

    Raises:
        NotAPicture: it is none of these, or broken.
        TooLarge: it has too many pixels or bytes.
    """
    if path.stat().st_size > LARGEST:
        raise TooLarge(f"{path.name} has more than {LARGEST} bytes; it is only sent as it is")
    with opened(path, max_pixels, path.name) as picture:
        form, exif = picture.format, _orientation(picture.getexif().get(ORIENTATION))
    content = path.read_bytes()
    try:
        if form == "PNG":
            return b"".join(_png(content, exif))
        if form == "WEBP":
            body = b"".join(_webp(content, exif))
            return b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body
        if form in ("JPEG", "MPO"):
            return b"".join(_jpeg(content, exif))
    except IndexError:
        raise NotAPicture(f"{path.name} is cut off; it is only sent as it is") from None
    raise NotAPicture(f"{path.name} is {form}, whose metadata cannot be left out; expected PNG, WEBP or JPEG")


def _orientation(value: object) -> bytes:
    """EXIF that holds an orientation alone; nothing for the usual one."""
    if value not in range(2, 9):
        return b""
    entry = ORIENTATION.to_bytes(2, "big") + b"\0\3\0\0\0\1" + bytes([0, int(str(value)), 0, 0])  # one SHORT
    return b"MM\0*\0\0\0\x08\0\1" + entry + b"\0\0\0\0"


def _png(content: bytes, exif: bytes) -> Iterator[bytes]:
    yield content[:8]
    at, kind = 8, b""
    while kind != b"IEND":
        kind = content[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        if end > len(content):
            raise IndexError
        if kind in PNG_CHUNKS:
            yield content[at:end]
        if kind == b"IHDR" and exif:
            yield len(exif).to_bytes(4, "big") + b"eXIf" + exif + zlib.crc32(b"eXIf" + exif).to_bytes(4, "big")
        at = end


def _webp(content: bytes, exif: bytes) -> Iterator[bytes]:
    at, stop = 12, 8 + int.from_bytes(content[4:8], "little")
    if stop > len(content):
        raise IndexError
    while at + 8 <= stop:
        kind, length = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        end = at + 8 + length + length % 2
        if kind == b"VP8X":
            flags = content[at + 8] & ~(WEBP_EXIF | WEBP_XMP) | (WEBP_EXIF if exif else 0)
            yield content[at : at + 8] + bytes([flags]) + content[at + 9 : end]
        elif kind in WEBP_CHUNKS:
            yield content[at:end]
        at = end
    if exif:
        yield b"EXIF" + len(exif).to_bytes(4, "little") + exif + b"\0" * (len(exif) % 2)


def _jpeg(content: bytes, exif: bytes) -> Iterator[bytes]:
    yield content[:2]
    if exif:
        yield b"\xff\xe1" + (len(exif) + 8).to_bytes(2, "big") + b"Exif\0\0" + exif
    at = 2
    while (marker := content[at + 1]) != 0xDA:  # the first scan
        if content[at] != 0xFF:
            raise IndexError
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        is_colour = marker in (0xE0, 0xEE) or (marker == 0xE2 and content.startswith(b"ICC_PROFILE\0", at + 4))
        if marker == 0xFF:  # padding
            end = at + 1
        elif is_colour or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            yield content[at:end]
        at = end
    yield content[at : content.rfind(b"\xff\xd9", at) + 2 or None]
