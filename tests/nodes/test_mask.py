"""Mask nodes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from nodegraph.events import Saved
from nodegraph.session import Session, Settings
from nodegraph.workflow import Workflow
from nodes.mask import (
    color_to_mask,
    composite_mask,
    crop_mask,
    feather_mask,
    grow_mask,
    image_to_mask,
    invert_mask,
    mask_to_image,
    solid_mask,
    threshold_mask,
)

CONTEXT = SimpleNamespace(device=torch.device("cpu"))
MASK = torch.arange(6.0).view(1, 2, 3) / 5


def test_a_mask_is_shown_in_grey():
    found = mask_to_image(mask=MASK)
    assert found.shape == (1, 2, 3, 3)
    assert all(torch.equal(found[..., channel], MASK) for channel in range(3))
    assert mask_to_image(mask=MASK[0]).shape == (1, 2, 3, 3)


def test_a_channel_becomes_a_mask():
    image = torch.rand(2, 3, 4, 4)
    for place, channel in enumerate(("red", "green", "blue", "alpha")):
        assert torch.equal(image_to_mask(image=image, channel=channel), image[..., place])
    with pytest.raises(ValueError, match="has 3 channels and no alpha"):
        image_to_mask(image=image[..., :3], channel="alpha")


def test_a_colour_is_found_in_8_bits():
    image = torch.tensor([[0x33, 0x66, 0x99], [0x33, 0x66, 0x98], [0, 0, 0]]).view(1, 1, 3, 3) / 255 + 0.001
    assert color_to_mask(image=image, color=0x336699).tolist() == [[[1, 0, 0]]]
    assert color_to_mask(image=image, color=0).tolist() == [[[0, 0, 1]]]


def test_a_solid_mask_has_one_value():
    assert torch.equal(solid_mask(ctx=CONTEXT, value=0.25, width=3, height=2), torch.full((1, 2, 3), 0.25))


def test_an_inverted_mask_is_1_where_it_was_0():
    assert torch.allclose(invert_mask(mask=MASK), MASK.flip(1, 2))


def test_a_rectangle_is_cut_at_the_borders():
    assert torch.equal(crop_mask(mask=MASK, x=1, y=1, width=9, height=9), MASK[:, 1:, 1:])
    assert torch.equal(crop_mask(mask=MASK, width=1, height=1), MASK[:, :1, :1])
    with pytest.raises(ValueError, match=r"\(3, 0\) is outside of the mask of 3 x 2"):
        crop_mask(mask=MASK, x=3)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("multiply", [0.0, 0.3, 0.15]),
        ("add", [0.5, 1.0, 0.8]),
        ("subtract", [0.0, 0.1, 0.0]),
        ("and", [0.0, 1.0, 0.0]),
        ("or", [1.0, 1.0, 1.0]),
        ("xor", [1.0, 0.0, 1.0]),
    ],
)
def test_masks_are_combined_within_0_and_1(operation, expected):
    destination, source = torch.tensor([[[0.0, 0.6, 0.3]]]), torch.tensor([[[0.51, 0.51, 0.51]]])
    if operation in ("multiply", "add", "subtract"):
        source = torch.full_like(source, 0.5)
    found = composite_mask(destination=destination, source=source, operation=operation)
    assert torch.allclose(found, torch.tensor([[expected]]))


def test_a_mask_outside_of_another_changes_nothing():
    assert torch.equal(composite_mask(destination=MASK, source=MASK, x=2, y=9, operation="add"), MASK)
    found = composite_mask(destination=torch.zeros(1, 2, 3), source=torch.ones(2, 2, 2), x=2, y=1, operation="or")
    assert found.tolist() == [[[0, 0, 0], [0, 0, 1]]] * 2


def test_feathering_falls_off_evenly_towards_the_side_named():
    ones = torch.ones(1, 4, 4)
    assert feather_mask(mask=ones, left=2)[0, 0].tolist() == [0.5, 1, 1, 1]
    assert feather_mask(mask=ones, right=4)[0, 0].tolist() == [0.25, 1, 0.75, 0.5]  # as ComfyUI, see there
    assert feather_mask(mask=ones, top=99)[0, :, 0].tolist() == [0.25, 0.5, 0.75, 1]
    assert feather_mask(mask=ones, bottom=2)[0, :, 0].tolist() == [0.5, 1, 1, 1]
    assert torch.equal(feather_mask(mask=ones), ones)


def test_a_mask_grows_and_shrinks():
    mask = torch.zeros(2, 5, 5)
    mask[:, 2, 2] = 1
    assert grow_mask(mask=mask, expand=1).sum() == 2 * 5
    assert grow_mask(mask=mask, expand=1, tapered_corners=False).sum() == 2 * 9
    assert not grow_mask(mask=mask, expand=-1).any()
    assert torch.equal(grow_mask(mask=mask), mask)


def test_a_threshold_is_not_above_itself():
    assert threshold_mask(mask=torch.tensor([0.2, 0.5, 0.6]), value=0.5).tolist() == [0, 0, 1]


def test_a_mask_is_previewed_in_the_temp_folder(tmp_path):
    graph = {
        "1": {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 4, "height": 3}},
        "2": {"class_type": "MaskPreview", "inputs": {"mask": ["1", 0]}},
    }
    with Session(Settings(home=tmp_path, device="cpu", cache_dir=None)) as session:
        files = [
            event.file for event in session.submit(session.prepare(Workflow.of(graph))) if isinstance(event, Saved)
        ]
    assert [file.type for file in files] == ["temp"]
    with Image.open(files[0].path) as picture:
        assert np.asarray(picture).tolist() == [[[255] * 3] * 4] * 3
