"""Cutting out and putting back, as nodes."""

from __future__ import annotations

import torch

from nodegraph.codec import decode, encode
from nodegraph.spec import NODE_ATTRIBUTE, NodeSpec
from nodes.inpaint import crop_for_inpaint, stitch_inpaint


def test_what_is_cut_out_painted_and_put_back_changes_only_there() -> None:
    image = torch.rand(2, 48, 64, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(48, 64)  # [H, W], as nodes of others may give it
    mask[20:24, 30:38] = 1
    stitch, cut, cut_mask = crop_for_inpaint(
        image=image, mask=mask, grow=2, blend=4, context=1.0, padding=0, width=64, height=64
    )
    assert cut.shape == (2, 64, 64, 3) and cut_mask.shape == (1, 64, 64)
    assert stitch.weight.shape == (1, 20, 20)  # 8 and 12 wide, 4 to fade on each side, as high as it is wide
    assert cut_mask.mean() < 96 / 400 + 0.01
    structure, tensors = encode(stitch)
    again = decode(structure, tensors, {"nodes"})
    found = stitch_inpaint(stitch=again, image=torch.ones(2, 64, 64, 3))
    torch.testing.assert_close(found[:, 18:26, 28:40], torch.ones(2, 8, 12, 3))
    changed = (found != image).any(-1).any(0).nonzero()
    assert changed.amin(0).tolist() == [14, 24] and changed.amax(0).tolist() == [29, 43]


def test_a_size_needs_both_sides() -> None:
    spec: NodeSpec = getattr(crop_for_inpaint, NODE_ATTRIBUTE)
    assert spec.check is not None
    assert list(spec.check(width=64, height=0)) == [
        "width is 64 and height 0; expected both, or 0 for both to keep the size"
    ]
    assert list(spec.check(width=0, height=0)) == list(spec.check(width=8, height=16)) == list(spec.check(grow=3)) == []
