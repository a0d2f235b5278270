"""Canny edges; equality with kornia's own result is in tests/parity."""

from __future__ import annotations

import pytest
import torch

from nodes.diffusion.canny import canny, connected


def step(height=12, width=16, at=8, value=1.0):
    image = torch.zeros(1, 1, height, width)
    image[..., at:] = value
    return image


def test_the_edge_of_a_step_is_a_line():
    edges = canny(step(value=0.9) + step(at=9, value=0.1), 0.2, 0.5)  # a step that is steepest at one column
    assert edges.shape == (1, 1, 12, 16)
    assert edges[0, 0].any(0).nonzero().flatten().tolist() == [8]
    assert edges[..., 8].all()


def test_a_flat_image_has_no_edges():
    assert not canny(torch.full((2, 3, 8, 8), 0.7), 0.01, 0.01).any()


def test_turning_the_image_turns_its_edges():
    image = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    edges = canny(image, 0.3, 0.6)
    assert edges.any() and set(edges.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(canny(image.flip(-1), 0.3, 0.6), edges.flip(-1))
    assert torch.equal(canny(image.transpose(-1, -2), 0.3, 0.6), edges.transpose(-1, -2))


def test_a_weak_edge_counts_where_it_joins_a_strong_one():
    image = torch.zeros(1, 1, 40, 24)
    image[..., 12] += 0.5
    image[..., 13:] += 0.6
    ramp = torch.linspace(0.2, 1, 40)[:, None]  # the edge is weaker the higher up
    edges = canny(image * ramp, 0.3, 1.0)[0, 0].any(1)
    strong_alone = canny(image * ramp, 1.0 - 1e-6, 1.0)[0, 0].any(1)
    assert strong_alone.any() and edges.sum() > strong_alone.sum()
    assert not canny(image * 0.2, 0.3, 1.0).any()


def test_an_edge_is_followed_however_far_it_winds():
    weak = torch.zeros(2, 1, 1000, 1000, dtype=torch.bool)
    weak[..., ::4, :] = True
    weak[..., 1::8, -1] = weak[..., 2::8, -1] = weak[..., 3::8, -1] = True
    weak[..., 5::8, 0] = weak[..., 6::8, 0] = weak[..., 7::8, 0] = True
    strong = torch.zeros_like(weak)
    strong[1, 0, 0, 0] = True
    expected = weak.float()
    expected[0] = 0
    assert torch.equal(connected(strong, weak), expected)


def test_thresholds_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match=r"low_threshold is 0\.5 and high_threshold is 0\.4; expected"):
        canny(step(), 0.5, 0.4)


def test_an_image_too_small_for_edges_is_refused():
    with pytest.raises(ValueError, match="2 x 12 pixels; edges need at least 3 x 3"):
        canny(step()[..., :2], 0.1, 0.2)
