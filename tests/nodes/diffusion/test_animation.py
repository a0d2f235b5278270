"""Pictures that move."""

from __future__ import annotations

import io

import pytest
import torch
from PIL import Image

from nodes.diffusion.animation import write_animated_png, write_animated_webp

FRAMES = torch.rand(3, 6, 8, 3, generator=torch.Generator().manual_seed(0))
TEXTS = {"prompt": '{"1": {}}', "workflow": "{}", "note": "x"}


def frames(file):
    """Every frame as a tensor, with its milliseconds."""
    file.seek(0)
    with Image.open(file) as picture:
        for number in range(picture.n_frames):
            picture.seek(number)
            picture.load()
            pixels = torch.tensor(list(picture.convert("RGB").tobytes())).view(picture.height, picture.width, 3)
            yield pixels, picture.info["duration"]


@pytest.mark.parametrize("extension", ["png", "webp"])
def test_frames_are_kept_bit_for_bit(extension):
    file = io.BytesIO()
    if extension == "png":
        write_animated_png(file, FRAMES, TEXTS, fps=6.0, level=9)
    else:
        write_animated_webp(file, FRAMES, TEXTS, fps=6.0, lossless=True, quality=80, effort=0)
    found = list(frames(file))
    assert [duration for _, duration in found] == [166] * 3
    assert torch.equal(torch.stack([pixels for pixels, _ in found]), (FRAMES * 255).int())


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_alpha_can_be_written(channels):
    for write in (write_animated_png, write_animated_webp):
        file = io.BytesIO()
        options = {"level": 0} if write is write_animated_png else {"lossless": False, "quality": 50, "effort": 4}
        write(file, FRAMES[..., :1].repeat(1, 1, 1, channels), {}, fps=1.0, **options)
        assert len(list(frames(file))) == 3


def test_texts_are_found_where_comfyui_looks():
    file = io.BytesIO()
    write_animated_png(file, FRAMES, TEXTS, fps=6.0, level=1)
    with Image.open(file) as picture:
        picture.load()
        assert picture.text == TEXTS
    file = io.BytesIO()
    write_animated_webp(file, FRAMES, TEXTS, fps=6.0, lossless=True, quality=0, effort=0)
    with Image.open(file) as picture:
        tags = dict(picture.getexif())
    assert tags == {0x0110: 'prompt:{"1": {}}', 0x010F: "workflow:{}", 0x010E: "note:x"}
