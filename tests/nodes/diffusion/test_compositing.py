"""Pasting, blending and composing."""

from __future__ import annotations

import pytest
import torch

from nodes.diffusion.compositing import OPERATORS, blend, combine_masks, paste, porter_duff, to_channels
from nodes.diffusion.denoiser import repeat_to


def one(value):
    return torch.full((1, 1, 1, 1), value)


def test_a_batch_is_cut_or_goes_round():
    x = torch.arange(3.0)
    assert repeat_to(x, 2).tolist() == [0, 1]
    assert repeat_to(x, 7).tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_channels_are_cut_or_made_opaque():
    assert to_channels(torch.full((1, 1, 1, 4), 0.5), 3).flatten().tolist() == [0.5] * 3
    assert to_channels(torch.full((1, 1, 1, 3), 0.5), 4).flatten().tolist() == [0.5, 0.5, 0.5, 1]
    assert to_channels(torch.full((1, 1, 1, 1), 0.5), 4).flatten().tolist() == [0.5, 0.5, 0.5, 1]


@pytest.mark.parametrize(("x", "y", "inside"), [(0, 0, 6), (3, 1, 6), (3, 2, 4), (4, 3, 1), (5, 0, 0), (0, 99, 0)])
def test_what_is_pasted_outside_is_left_out(x, y, inside):
    found = paste(torch.zeros(1, 2, 4, 5), torch.ones(1, 2, 3, 2), x, y)
    assert found[0].sum(dim=(1, 2)).tolist() == [inside, inside]
    assert torch.equal(found[..., y : y + 3, x : x + 2], torch.ones_like(found[..., y : y + 3, x : x + 2]))


def test_a_mask_is_scaled_to_the_whole_source_before_it_is_cut():
    mask = torch.tensor([[[0.0, 1.0]]])  # over a source of 4: 0, 0.25, 0.75, 1
    found = paste(torch.zeros(1, 1, 1, 3), torch.ones(1, 1, 1, 4), 1, 0, mask)
    assert found.flatten().tolist() == [0, 0, 0.25]


def test_masks_of_two_batches_are_combined_item_by_item():
    found = combine_masks(torch.ones(1, 1, 2), torch.tensor([0.25, 0.5]).view(2, 1, 1), 1, 0, "subtract")
    assert found.tolist() == [[[1, 0.75]], [[1, 0.5]]]


@pytest.mark.parametrize(
    ("mode", "a", "b", "expected"),
    [
        ("normal", 0.3, 0.6, 0.6),
        ("multiply", 0.3, 0.6, 0.18),
        ("screen", 0.3, 0.6, 0.72),
        ("overlay", 0.3, 0.6, 0.36),
        ("overlay", 0.8, 0.6, 0.84),
        ("soft_light", 0.16, 0.3, 0.16 - 0.4 * 0.16 * 0.84),
        ("soft_light", 0.16, 0.75, 0.16 + 0.5 * (((16 * 0.16 - 12) * 0.16 + 4) * 0.16 - 0.16)),
        ("soft_light", 0.64, 0.75, 0.64 + 0.5 * (0.8 - 0.64)),
        ("difference", 0.8, 0.3, 0.5),
        ("difference", 0.3, 0.8, 0.0),
    ],
)
def test_a_blend_mode_gives_its_formula(mode, a, b, expected):
    assert blend(one(a), one(b), 1.0, mode).item() == pytest.approx(expected, abs=1e-6)


def test_a_batch_is_blended_with_one_image():
    found = blend(torch.zeros(1, 2, 2, 3), torch.ones(3, 2, 2, 4), 0.25, "normal")
    assert torch.equal(found, torch.full((3, 2, 2, 3), 0.25))


@pytest.mark.parametrize("mode", OPERATORS)
def test_an_operator_on_what_is_opaque_and_clear_is_its_table(mode):
    """Porter & Duff 1984, 4.3: which of source S and destination D remains where only one or both are."""
    table = {"CLEAR": "---", "SRC": "S-S", "DST": "-DD", "SRC_OVER": "SDS", "DST_OVER": "SDD", "SRC_IN": "--S",
             "DST_IN": "--D", "SRC_OUT": "S--", "DST_OUT": "-D-", "SRC_ATOP": "-DS", "DST_ATOP": "S-D",
             "XOR": "SD-"}  # fmt: skip
    source, destination = 0.25, 0.75
    both = {"ADD": 1.0, "DARKEN": 0.25, "LIGHTEN": 0.75, "MULTIPLY": 0.1875, "OVERLAY": 1 - 2 * 0.75 * 0.25,
            "SCREEN": 0.8125}  # fmt: skip
    for column, (above, below) in enumerate(((1.0, 0.0), (0.0, 1.0), (1.0, 1.0))):
        colour, alpha = porter_duff(one(source), one(above), one(destination), one(below), mode)
        if mode in table:
            kept = table[mode][column]
            assert alpha.item() == (kept != "-")
            assert colour.item() == {"S": source, "D": destination, "-": 0.0}[kept]
        elif above == below:
            assert (colour.item(), alpha.item()) == (pytest.approx(both[mode]), 1)


def test_colours_are_weighed_by_alpha():
    colour, alpha = porter_duff(one(1.0), one(0.5), one(0.0), one(0.5), "SRC_OVER")
    assert alpha.item() == 0.75
    assert colour.item() == pytest.approx(0.5 / 0.75)
