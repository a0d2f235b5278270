"""What is around a mask is cut out, and comes back where it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nodes.diffusion.cropping import Cut, crop_around, faded, stitched


def picture(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def box(height: int, width: int, rows: slice, columns: slice) -> Tensor:
    mask = torch.zeros(1, height, width)
    mask[:, rows, columns] = 1
    return mask


def test_the_cut_is_around_the_mask_with_its_context() -> None:
    image = picture(1, 60, 80, 3)
    found = crop_around(image, box(60, 80, slice(20, 28), slice(30, 46)), Cut(context=2.0, padding=4))
    # twice 8 x 16 about its middle
    assert (found.stitch.top, found.stitch.left) == (16, 22)
    assert torch.equal(found.image, image[:, 16:32, 22:54])
    assert torch.equal(found.mask, box(16, 32, slice(4, 12), slice(8, 24)))


def test_padding_is_the_least_there_is_around_the_mask() -> None:
    found = crop_around(picture(1, 60, 80, 3), box(60, 80, slice(20, 28), slice(30, 46)), Cut(context=1.5, padding=8))
    assert (found.stitch.top, found.stitch.left, *found.image.shape[1:3]) == (12, 22, 24, 32)


def test_sides_are_of_the_multiple_asked_for() -> None:
    found = crop_around(picture(1, 60, 80, 3), box(60, 80, slice(20, 25), slice(30, 47)), Cut(multiple=16))
    assert found.image.shape == (1, 16, 32, 3) and found.mask.sum() == 5 * 17


def test_a_mask_at_the_border_is_cut_inside_of_the_picture() -> None:
    image = picture(1, 60, 80, 3)
    found = crop_around(image, box(60, 80, slice(50, 60), slice(0, 10)), Cut(padding=11))
    assert (found.stitch.top, found.stitch.left) == (28, 0)
    assert torch.equal(found.image, image[:, 28:, :32])


def test_an_empty_mask_cuts_out_everything_and_changes_nothing() -> None:
    image = picture(2, 16, 24, 3)
    found = crop_around(image, torch.zeros(1, 16, 24), Cut(grow=2, blend=4, context=3.0, padding=9))
    assert torch.equal(found.image, image) and not found.mask.any()
    assert torch.equal(stitched(found.stitch, torch.ones_like(image)), image)


def test_a_picture_too_small_for_the_cut_has_its_edges_repeated() -> None:
    image = picture(1, 10, 24, 3)
    found = crop_around(image, torch.ones(1, 10, 24), Cut())
    assert (found.stitch.top, found.stitch.left, *found.image.shape[1:3]) == (-3, 0, 16, 24)
    assert torch.equal(found.image[:, 3:13], image)
    assert torch.equal(found.image[:, :3], image[:, :1].expand(-1, 3, -1, -1))
    assert bool((found.mask == 1).all())
    new = picture(1, 16, 24, 3).flip(1)
    torch.testing.assert_close(stitched(found.stitch, new), new[:, 3:13])


def test_a_cut_is_scaled_to_the_size_asked_for_in_its_aspect() -> None:
    image = picture(1, 60, 80, 3)
    mask = box(60, 80, slice(20, 28), slice(30, 46))
    found = crop_around(image, mask, Cut(width=64, height=96))
    assert found.image.shape == (1, 96, 64, 3) and found.mask.shape == (1, 96, 64)
    assert (found.stitch.top, found.stitch.left) == (12, 30) and found.stitch.weight.shape == (1, 24, 16)
    red = Image.fromarray(image[0, 12:36, 30:46, 0].numpy()).resize((64, 96), Image.Resampling.BICUBIC)
    torch.testing.assert_close(found.image[0, ..., 0], torch.from_numpy(np.array(red)).clamp(0, 1))
    back = stitched(found.stitch, torch.full((1, 96, 64, 3), 0.25))
    torch.testing.assert_close(back[0, 20:28, 30:46], torch.full((8, 16, 3), 0.25))
    assert torch.equal(back[0, :20], image[0, :20])


def test_outside_of_the_faded_mask_the_picture_is_the_same_bit_for_bit() -> None:
    image = picture(1, 64, 64, 3) * 3 - 1  # also what is outside of 0..1
    found = crop_around(image, box(64, 64, slice(24, 40), slice(24, 40)), Cut(grow=1, blend=6, context=2.0))
    back = stitched(found.stitch, torch.ones_like(found.image))
    inside = torch.zeros(64, 64, dtype=torch.bool)
    inside[17:47, 17:47] = True  # 16 grown by 1 and faded over 6 on each side
    assert torch.equal(back[:, ~inside], image[:, ~inside])
    assert bool((back[0, 23:41, 23:41] == 1).all())
    row = found.stitch.weight[0, found.stitch.weight.shape[1] // 2]
    edge = row[row > 0][:7]
    torch.testing.assert_close(edge, torch.tensor([1 / 7, 2 / 7, 3 / 7, 4 / 7, 5 / 7, 6 / 7, 1.0]))


def test_a_mask_does_not_fade_at_the_border_of_the_picture() -> None:
    found = faded(box(12, 12, slice(0, 4), slice(0, 12)), 4)
    torch.testing.assert_close(found[0, :, 0], torch.tensor([1.0] * 4 + [0.8, 0.6, 0.4, 0.2] + [0.0] * 4))
    assert torch.equal(found[0, 0], torch.ones(12))
    assert faded(found, 0) is found


@pytest.mark.parametrize(("images", "masks", "back"), [(3, 1, 3), (2, 2, 2), (1, 1, 4)])
def test_batches_share_a_rectangle(images: int, masks: int, back: int) -> None:
    image = picture(images, 32, 32, 3)
    mask = torch.zeros(masks, 32, 32)
    mask[0, 8:12, 8:12] = mask[-1, 16:24, 12:20] = 1
    found = crop_around(image, mask, Cut())
    assert found.image.shape == (images, 16, 16, 3) and (found.stitch.top, found.stitch.left) == (8, 6)
    new = picture(back, *found.image.shape[1:])
    result = stitched(found.stitch, new)
    assert result.shape == (max(images, back), 32, 32, 3)
    assert torch.equal(result[-1, 16:24, 12:20], new[-1, 8:16, 6:14])
    assert torch.equal(result[-1, :8], image[-1, :8])


def test_another_mask_is_inside_too_and_alpha_stays() -> None:
    image = picture(1, 32, 32, 4)
    also = box(16, 16, slice(14, 15), slice(14, 15))  # stretched to twice its size
    found = crop_around(image, box(32, 32, slice(8, 16), slice(8, 16)), Cut(), also)
    assert (found.stitch.top, found.stitch.left, *found.image.shape[1:]) == (7, 7, 24, 24, 3)
    back = stitched(found.stitch, torch.zeros_like(found.image))
    assert torch.equal(back[..., 3], image[..., 3]) and not back[0, 8:16, 8:16, :3].any()
