"""Edges and lines against the same steps written out pixel by pixel, or with SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from nodes.diffusion.preprocessors import lines
from tests.nodes.diffusion.preprocessors.hosts import bytes_of, picture

IMAGE = picture(2, 64, 64)


def blur(x, sigma):
    """[H, W, 3]; pictures of 64 pixels need no padding."""
    radius = (round(sigma * 8 + 1) | 1) // 2
    for axis in (0, 1):
        x = ndimage.gaussian_filter1d(x, sigma, axis, mode="mirror", radius=radius)
    return x


def planes(image):
    return bytes_of(image).movedim(1, -1).double().numpy()


def edges(plane, low, high):
    """Canny's edges [H, W] of [H, W, 3], as OpenCV's documentation and code describe them."""
    wide = np.pad(plane, ((1, 1), (1, 1), (0, 0)), "edge")
    dx = ndimage.correlate(wide, np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])[..., None])[1:-1, 1:-1]
    dy = ndimage.correlate(wide, np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]])[..., None])[1:-1, 1:-1]
    best = (abs(dx) + abs(dy)).argmax(-1)
    rows, columns = np.indices(best.shape)
    dx, dy = dx[rows, columns, best], dy[rows, columns, best]
    size = np.pad(abs(dx) + abs(dy), 1)
    ridge = np.zeros(best.shape, bool)
    for i, j in np.ndindex(*best.shape):
        here, angle = size[i + 1, j + 1], math.atan2(abs(dy[i, j]), abs(dx[i, j]))
        if angle < math.pi / 8:
            ridge[i, j] = here > size[i + 1, j] and here >= size[i + 1, j + 2]
        elif angle > 3 * math.pi / 8:
            ridge[i, j] = here > size[i, j + 1] and here >= size[i + 2, j + 1]
        else:
            step = -1 if (dx[i, j] < 0) != (dy[i, j] < 0) else 1
            ridge[i, j] = here > size[i, j + 1 - step] and here > size[i + 2, j + 1 + step]
    size = size[1:-1, 1:-1]
    labels, _ = ndimage.label(ridge & (size > low), np.ones((3, 3)))
    return np.isin(labels, np.unique(labels[ridge & (size > high)])) & (labels > 0)


@pytest.mark.parametrize("limits", [(100, 200), (200, 100)])
def test_canny_finds_the_edges_of_opencv(limits):
    found = lines.canny(IMAGE, *limits, 64)
    for item, plane in zip(found, planes(IMAGE), strict=True):
        wanted = edges(plane, 100, 200)
        assert 0.02 < wanted.mean() < 0.5
        assert np.array_equal(item[..., 0].numpy(), wanted.astype(np.float32))


def test_binary_parts_by_luma():
    luma = np.rint(planes(IMAGE) @ [0.299, 0.587, 0.114])
    assert np.array_equal(lines.binary(IMAGE, 100, 64)[..., 1].numpy(), (luma > 100).astype(np.float32))
    for item, plane in zip(lines.binary(IMAGE, 0, 64), luma, strict=True):
        spread = [_between(plane, limit) for limit in range(255)]
        assert np.array_equal(item[..., 0].numpy(), plane > int(np.argmax(spread)))


def _between(plane, limit):
    dark, bright = plane[plane <= limit], plane[plane > limit]
    return 0 if not dark.size or not bright.size else dark.size * bright.size * (dark.mean() - bright.mean()) ** 2


def test_otsu_parts_two_heaps_between_them():
    assert 20 <= lines.otsu(torch.tensor([18.0, 19.0, 20.0, 200.0, 201.0])) < 200
    assert lines.otsu(torch.full((4,), 7.0)) == 0


def test_scribbles_keep_what_is_dark_dark():
    wanted = (planes(IMAGE).min(-1) >= 127).astype(np.float32)
    assert np.array_equal(lines.scribble(IMAGE, 64)[..., 2].numpy(), wanted)


def test_xdog_draws_where_all_channels_are_darker_than_around():
    found = lines.xdog(IMAGE, 32, 64)
    for item, plane in zip(found, planes(IMAGE), strict=True):
        darker = (blur(plane, 5.0) - blur(plane, 0.5)).min(-1)
        sure = abs(darker - darker.round()) > 1e-3
        wanted = 2 * np.ceil(darker.clip(0)) > 32
        assert wanted.any() and np.array_equal(item[..., 0].numpy()[sure], wanted[sure].astype(np.float32))


def test_line_art_is_of_like_strength_in_every_picture():
    found = lines.lineart(IMAGE, 6.0, 8, 64)
    for item, plane in zip(found, planes(IMAGE), strict=True):
        darker = (blur(plane, 6.0) - plane).min(-1).clip(0)
        wanted = np.floor((darker / max(16, np.median(darker[darker > 8])) * 127).clip(0, 255))
        assert wanted.max() > 100 and np.abs(item[..., 0].numpy() * 255 - wanted).max() <= 1.01
    assert (lines.lineart(torch.full((1, 64, 64, 3), 0.5), 6.0, 8, 64) == 0).all()


def test_soft_edges_become_bold_strokes():
    x = torch.zeros(1, 1, 64, 64)
    x[..., 30:35] = 255
    found = lines.thinned(x)[0, 0]
    columns = (found == 255).all(0).nonzero().flatten().tolist()
    assert set(found.unique().tolist()) == {0.0, 255.0}
    assert columns == list(range(columns[0], columns[-1] + 1)) and columns[0] + columns[-1] == 64
    assert 9 <= len(columns) <= 17  # a ridge one pixel wide, blurred by 3 pixels and cut at 4 of 255
    assert (lines.thinned(torch.full((1, 1, 64, 64), 90.0)) == 0).all()


def test_a_hint_has_the_resolution_asked_for():
    found = lines.canny(picture(1, 100, 150), 100, 200, 128)
    assert found.shape == (1, 128, 192, 3)
