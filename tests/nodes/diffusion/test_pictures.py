"""Pictures in files."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from nodegraph.errors import FileProblem
from nodes.diffusion.pictures import fill_prefix, read_channel, read_picture, to_bytes, write_png


def save(path, array, mode=None, **options):
    Image.fromarray(np.asarray(array, np.uint8), mode).save(path, **options)
    return str(path)


def test_what_is_written_reads_back(tmp_path):
    image = torch.rand(9, 7, 3, generator=torch.Generator().manual_seed(0))
    file = io.BytesIO()
    write_png(file, image, {"prompt": '{"a": "ü"}'})
    path = tmp_path / "a.png"
    path.write_bytes(file.getvalue())
    found, mask = read_picture(str(path), "a.png")
    assert torch.equal(found[0], torch.from_numpy(to_bytes(image)).float() / 255)
    assert torch.equal(mask, torch.zeros(1, 64, 64))
    with Image.open(path) as picture:
        assert picture.text == {"prompt": '{"a": "ü"}'}


def test_fractions_are_cut_off_and_the_range_is_kept():
    assert to_bytes(torch.tensor([[[-1.0, 0.999, 2.0]]])).tolist() == [[[0, 254, 255]]]


def test_transparency_becomes_a_mask(tmp_path):
    path = save(tmp_path / "a.png", [[[255, 0, 0, 255], [0, 255, 0, 0]]])
    image, mask = read_picture(path, "a.png")
    assert image.tolist() == [[[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]]
    assert mask.tolist() == [[[0.0, 1.0]]]
    assert read_channel(path, "a.png", "alpha").tolist() == [[[0.0, 1.0]]]
    assert read_channel(path, "a.png", "green").tolist() == [[[0.0, 1.0]]]


def test_a_palette_with_a_transparent_colour_has_a_mask(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "p.png", transparency=1)
    _, mask = read_picture(str(tmp_path / "p.png"), "p.png")
    assert mask.tolist() == [[[0.0, 1.0]]]


def test_exif_turns_a_picture_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((4, 8, 3), np.uint8)).save(tmp_path / "t.jpg", exif=exif)
    assert read_picture(str(tmp_path / "t.jpg"), "t.jpg")[0].shape == (1, 8, 4, 3)


def test_frames_of_an_animation_are_a_batch(tmp_path):
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    image, mask = read_picture(str(tmp_path / "a.gif"), "a.gif")
    assert image.shape == (3, 4, 5, 3) and mask.shape == (3, 64, 64)
    assert image[:, 0, 0].argmax(-1).tolist() == [0, 1, 2]


def test_sixteen_bits_of_grey_keep_their_scale(tmp_path):
    Image.fromarray(np.array([[0, 65535, 32768]], np.uint16)).save(tmp_path / "g.png")
    image, _ = read_picture(str(tmp_path / "g.png"), "g.png")
    assert image[0, 0, :, 0].tolist() == pytest.approx([0, 1, 0.5], abs=0.01)


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_what_is_no_picture_is_a_sentence(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(FileProblem, match=r"x\.png .*picture"):
        read_picture(str(tmp_path / "x.png"), "x.png")


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "big.png", np.zeros((40, 40, 3)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(FileProblem, match=r"big\.png cannot be read"):
        read_picture(path, "big.png")


def test_prefixes_are_filled_in():
    image = torch.zeros(16, 24, 3)
    assert fill_prefix("a_%width%x%height%_%batch_num%", image, 3) == "a_24x16_00003"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d%unknown%", fill_prefix("%year%-%month%-%day%_%hour%%unknown%", image, 0))
