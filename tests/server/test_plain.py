"""Pictures without what they tell besides: not a pixel differs, and nothing of the rest is left."""

from __future__ import annotations

import io

import numpy
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from server import plain
from server.files import TooLarge
from server.pictures import NotAPicture, Rendering, render
from server.plain import without_metadata

SECRET = "the secret prompt"
PIXELS = 1_000_000


def picture():
    values = numpy.random.default_rng(0).integers(0, 255, (24, 40, 3), dtype=numpy.uint8)
    return Image.fromarray(values)


def write(path, form, orientation=1, **options):
    exif, texts = Image.Exif(), PngImagePlugin.PngInfo()
    exif[0x010E], exif[0x0112] = SECRET, orientation
    texts.add_text("prompt", SECRET)
    texts.add_itxt("workflow", SECRET)
    texts.add_itxt("XML:com.adobe.xmp", SECRET)
    more = {
        "PNG": {"pnginfo": texts}, "JPEG": {"comment": SECRET.encode(), "xmp": SECRET.encode()},
        "WEBP": {"xmp": SECRET.encode()},
    }[form]  # fmt: skip
    picture().save(path, form, exif=exif, icc_profile=b"colours", **more, **options)
    assert SECRET.encode() in path.read_bytes()
    return path


def shown(content):
    with Image.open(io.BytesIO(content)) as found:
        found.load()
        return numpy.asarray(ImageOps.exif_transpose(found)), found.info


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    ("form", "options"),
    [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {"lossless": True}), ("WEBP", {})],
)
def test_pixels_colours_and_orientation_stay_and_nothing_else(tmp_path, form, options, orientation):
    path = write(tmp_path / "a", form, orientation, **options)
    found = without_metadata(path, PIXELS)
    assert SECRET.encode() not in found
    before, _ = shown(path.read_bytes())
    after, info = shown(found)
    assert (before == after).all() and info["icc_profile"] == b"colours"
    assert after.shape[:2] == ((24, 40) if orientation == 1 else (40, 24))
    assert {"prompt", "workflow", "comment", "xmp"}.isdisjoint(info)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_movement_stays(tmp_path, form):
    path = write(tmp_path / "a", form, save_all=True, append_images=[picture().rotate(90), picture()], duration=50)
    with Image.open(io.BytesIO(without_metadata(path, PIXELS))) as found:
        assert found.n_frames == 3


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_rendering_has_no_metadata(tmp_path, form):
    path = write(tmp_path / "a", form, 6)
    for wanted in ("png", "webp", "jpeg"):
        made = render(path, Rendering(wanted), PIXELS)
        assert SECRET.encode() not in made and {"prompt", "exif", "comment"}.isdisjoint(shown(made)[1])


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_file_that_is_cut_off_is_refused_in_words(tmp_path, form):
    whole = write(tmp_path / "a", form).read_bytes()
    for length in range(0, len(whole) - 2, 7):
        (tmp_path / "b").write_bytes(whole[:length])
        try:
            assert SECRET.encode() not in without_metadata(tmp_path / "b", PIXELS)
        except NotAPicture as problem:
            assert str(problem).startswith("b ")


def test_what_cannot_be_done_is_told(tmp_path, monkeypatch):
    picture().save(tmp_path / "a.gif")
    with pytest.raises(NotAPicture, match=r"a\.gif is GIF"):
        without_metadata(tmp_path / "a.gif", PIXELS)
    monkeypatch.setattr(plain, "LARGEST", 10)
    with pytest.raises(TooLarge, match="more than 10 bytes"):
        without_metadata(tmp_path / "a.gif", PIXELS)
