"""Pictures are checked by their header, refused in words, and rendered small; renderings have bounded room."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from nodegraph.errors import FileProblem
from server import pictures
from server.files import TooLarge
from server.pictures import NotAPicture, Rendering, check_picture, paste_alpha, render, thumbnail

LIMIT = 1_000_000


def encoded(format: str, size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    picture = Image.linear_gradient("L").resize(size).convert(mode)
    picture.save(file, format=format, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int) -> bytes:
    """A PNG that says to be so large, with next to nothing in it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def opened(content: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(content))
    picture.load()
    return picture


def written(folder: Path, content: bytes, name: str = "a.png") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_whole_picture_passes_and_a_cut_one_does_not(tmp_path: Path, format: str) -> None:
    content = encoded(format, (300, 200))
    assert check_picture(written(tmp_path, content), LIMIT) == (format, 300, 200)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(NotAPicture):
            check_picture(written(tmp_path, content[: int(len(content) * share)]), LIMIT)


@pytest.mark.parametrize(
    "options", [{"progressive": True}, {"quality": 100}, {"exif": b"Exif\0\0" + b"\xff\xd8\xff\xd9"}]
)
def test_a_jpeg_cut_off_just_before_its_end_is_noticed(tmp_path: Path, options: dict[str, Any]) -> None:
    content = encoded("JPEG", (300, 200), **options)
    check_picture(written(tmp_path, content + b"trailing bytes of a camera"), LIMIT)
    with pytest.raises(NotAPicture, match="cut off"):
        check_picture(written(tmp_path, content[:-2]), LIMIT)


def test_an_empty_file_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(NotAPicture, match=r"a\.png is empty \(0 bytes\)"):
        check_picture(written(tmp_path, b""), LIMIT, "a.png")


@pytest.mark.parametrize(
    "content", [b"<svg/>", b"<html>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"x" * 999]
)
def test_what_is_no_picture_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(NotAPicture, match="is not a picture"):
        check_picture(written(tmp_path, content), LIMIT)


@pytest.mark.parametrize("size", [(60000, 60000), (12000, 12000), (1001, 1000)])
def test_a_bomb_is_refused_by_its_header(
    tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(TooLarge, match="smaller picture"):
        check_picture(written(tmp_path, png_of(*size)), LIMIT)


def test_a_bomb_of_frames_is_refused(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (100, 100), (number * 20, 0, 0)) for number in range(11)]
    for format in ("PNG", "WEBP"):
        file = io.BytesIO()
        frames[0].save(file, format=format, save_all=True, append_images=frames[1:])
        path = written(tmp_path, file.getvalue())
        with pytest.raises(TooLarge, match="100 x 100, 11 times pixels"):
            check_picture(path, 100_000)
        assert check_picture(path, 110_000).width == 100


def test_a_bomb_is_never_rendered(tmp_path: Path) -> None:
    with pytest.raises(TooLarge):
        render(written(tmp_path, png_of(60000, 60000)), Rendering(side=64), LIMIT)


@given(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]), st.data())
def test_broken_pictures_are_refused_or_rendered_but_never_crash(
    tmp_path_factory: pytest.TempPathFactory, format: str, data: st.DataObject
) -> None:
    content = bytearray(encoded(format, mode="L" if format == "TIFF" else "RGB"))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = written(tmp_path_factory.getbasetemp(), bytes(content), "broken")
    try:
        check_picture(path, LIMIT)
        render(path, Rendering(side=16), LIMIT)
    except FileProblem as problem:
        assert "\n" not in str(problem)


@pytest.mark.parametrize("format", ["webp", "jpeg", "png"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16", "CMYK"])
def test_every_mode_is_rendered_in_every_format(tmp_path: Path, format: Any, mode: str) -> None:
    content = encoded("TIFF" if mode == "CMYK" else "PNG", mode=mode)
    made = opened(render(written(tmp_path, content), Rendering(format), LIMIT))
    assert (made.format, made.size) == (format.upper(), (40, 30))
    assert made.mode == ("RGBA" if mode in ("RGBA", "LA") and format == "png" else "RGB")  # webp drops what is opaque


def test_sixteen_bits_keep_their_brightness(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("I;16", (4, 4), 128 * 256).save(file, format="PNG")
    made = opened(render(written(tmp_path, file.getvalue()), Rendering("png"), LIMIT))
    assert made.getpixel((1, 1)) == (128, 128, 128)


def test_the_longer_side_is_kept_in_bounds(tmp_path: Path) -> None:
    path = written(tmp_path, encoded("JPEG", (400, 300)))
    assert opened(render(path, Rendering(side=64), LIMIT)).size == (64, 48)
    assert opened(render(path, Rendering(side=4000), LIMIT)).size == (400, 300)
    wide = written(tmp_path, encoded("PNG", (20000, 4)))
    assert opened(render(wide, Rendering(), LIMIT)).width == 16383  # webp holds no more


def test_a_turned_photo_is_shown_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = written(tmp_path, encoded("JPEG", (400, 300), exif=exif))
    assert opened(render(path, Rendering(side=64), LIMIT)).size == (48, 64)


def half_seen() -> Image.Image:
    picture = Image.new("RGBA", (2, 1), (10, 200, 30, 255))
    picture.putpixel((1, 0), (10, 200, 30, 0))
    return picture


def test_channels_are_chosen_as_comfyui_does(tmp_path: Path) -> None:
    file = io.BytesIO()
    half_seen().save(file, format="PNG")
    path = written(tmp_path, file.getvalue())
    pixels = {
        channel: [opened(render(path, Rendering("png", channel=channel), LIMIT)).getpixel((x, 0)) for x in (0, 1)]
        for channel in ("rgba", "rgb", "a")
    }
    assert pixels == {
        "rgba": [(10, 200, 30, 255), (10, 200, 30, 0)],
        "rgb": [(10, 200, 30), (10, 200, 30)],
        "a": [(0, 0, 0, 255), (0, 0, 0, 0)],
    }
    opaque = render(written(tmp_path, encoded("JPEG")), Rendering("png", channel="a"), LIMIT)
    assert opened(opaque).getpixel((0, 0)) == (0, 0, 0, 255)


def test_a_mask_gives_its_transparency_and_the_original_its_colours_and_texts(tmp_path: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("prompt", '{"1": "ü"}')
    original, mask = tmp_path / "original.png", tmp_path / "mask.png"
    Image.new("RGB", (2, 1), (1, 2, 3)).save(original, pnginfo=texts)
    half_seen().save(mask)
    file = io.BytesIO()
    paste_alpha(original, mask, file, LIMIT)
    made: Any = opened(file.getvalue())
    assert [made.getpixel((x, 0)) for x in (0, 1)] == [(1, 2, 3, 255), (1, 2, 3, 0)]
    assert made.text == {"prompt": '{"1": "ü"}'}


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    original, mask = written(tmp_path, encoded("PNG")), written(tmp_path, encoded("PNG", (9, 9)), "mask.png")
    with pytest.raises(NotAPicture, match="9 x 9, the original 40 x 30"):
        paste_alpha(original, mask, io.BytesIO(), LIMIT)


def test_a_mask_painted_over_a_turned_photo_fits_it_as_it_is_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    original = written(tmp_path, encoded("JPEG", (40, 30), exif=exif), "photo.jpg")
    file = io.BytesIO()
    paste_alpha(original, written(tmp_path, encoded("PNG", (30, 40), "RGBA"), "mask.png"), file, LIMIT)
    made = opened(file.getvalue())
    assert made.size == (30, 40) and 0x0112 not in made.getexif()


def test_a_thumbnail_is_made_once_until_the_picture_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    before = pictures.render

    def counted(source: Any, *args: Any) -> bytes:
        made.append(source)
        return before(source, *args)

    monkeypatch.setattr(pictures, "render", counted)
    path, folder = written(tmp_path, encoded("PNG")), tmp_path / "cache"
    first = thumbnail(folder, path, Rendering(side=8), LIMIT)
    assert thumbnail(folder, path, Rendering(side=8), LIMIT) == first and len(made) == 1
    thumbnail(folder, path, Rendering(side=9), LIMIT)
    assert len(made) == 2
    os.utime(path, (1, 1))
    thumbnail(folder, path, Rendering(side=8), LIMIT)
    assert len(made) == 3


def test_kept_thumbnails_stay_within_their_bytes_and_the_newest_stay(tmp_path: Path) -> None:
    path, folder, limit = written(tmp_path, encoded("PNG", (64, 64))), tmp_path / "cache", 16 * 1500
    for quality in range(1, 100):
        thumbnail(folder, path, Rendering("jpeg", quality), LIMIT, limit=limit)
        kept = [file.stat().st_size for file in folder.rglob("*.jpeg")]
        assert sum(kept) <= limit
    assert len(kept) > 3
    tag = pictures.render_tag(path, Rendering("jpeg", 99))
    assert (folder / tag[0] / f"{tag}.jpeg").exists() or len(render(path, Rendering("jpeg", 99), LIMIT)) > 1500


def test_a_disk_that_cannot_be_written_takes_no_picture_away(tmp_path: Path) -> None:
    folder = written(tmp_path, b"a file in the way", "cache")
    assert opened(thumbnail(folder, written(tmp_path, encoded("PNG")), Rendering(), LIMIT)).size == (40, 30)
