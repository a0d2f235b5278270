"""Resizing; equality with ComfyUI's own results is in tests/parity."""

from __future__ import annotations

import pytest
import torch

from nodes.diffusion.resize import bislerp, crop_to_aspect, resize, slerp

METHODS = ["nearest-exact", "bilinear", "area", "bicubic", "lanczos", "bislerp"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(31, 17), (8, 8), (1, 5)])
def test_the_result_has_the_size_asked_for_and_the_input_stays(method, size):
    x = torch.rand(2, 3, 12, 20, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    width, height = size
    assert resize(x, width, height, method).shape == (2, 3, height, width)
    assert torch.equal(x, before)


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_stays_constant(method):
    x = torch.full((1, 3, 6, 9), 0.4)
    assert torch.allclose(resize(x, 14, 4, method), torch.full((1, 3, 4, 14), 0.4), atol=1 / 255)


def test_the_middle_is_kept_when_cropping():
    x = torch.arange(40.0).view(1, 1, 4, 10)
    assert torch.equal(crop_to_aspect(x, 1.0), x[..., 3:7])
    assert torch.equal(crop_to_aspect(x, 5.0), x[..., 1:3, :])
    assert torch.equal(crop_to_aspect(x, 100.0), x[..., 1:3, :])


def test_the_same_size_by_bislerp_changes_nothing():
    x = torch.randn(1, 4, 5, 7, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(bislerp(x, 7, 5), x, atol=1e-5)


def test_half_way_on_the_sphere_keeps_the_length():
    a, b = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1), torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)
    half = slerp(a, b, torch.tensor(0.5))
    assert torch.allclose(half.flatten(), torch.full((2,), 0.5**0.5), atol=1e-6)
    assert torch.equal(slerp(a, a, torch.tensor(0.3)), a)
    assert torch.allclose(slerp(a, -a, torch.tensor(0.25)), a * 0.5)
    assert torch.equal(slerp(0 * a, 0 * b, torch.tensor(0.5)), 0 * a)
