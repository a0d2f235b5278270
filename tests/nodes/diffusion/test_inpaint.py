"""Images and masks made ready for inpainting."""

from __future__ import annotations

import torch

from nodes.diffusion.inpaint import grey_out, grown


def test_what_is_masked_is_grey_and_the_rest_untouched():
    images = torch.rand(2, 8, 16, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 8, 16)
    mask[:, :, 8:] = 0.6
    found, fitted = grey_out(images, mask, 8)
    torch.testing.assert_close(found[:, :, :8], images[:, :, :8, :3])
    assert bool((found[:, :, 8:] == 0.5).all())
    assert torch.equal(fitted, mask)


def test_images_and_masks_are_cropped_alike():
    images = torch.arange(12 * 18.0).reshape(1, 12, 18, 1).expand(-1, -1, -1, 3)
    mask = torch.zeros(1, 12, 18)
    mask[:, 5, 9] = 1
    found, fitted = grey_out(images, mask, 8)
    assert found.shape == (1, 8, 16, 3) and fitted.shape == (1, 8, 16)
    assert fitted.nonzero().tolist() == [[0, 3, 8]]
    assert float(found[0, 0, 0, 0]) == 2 * 18 + 1


def test_a_mask_for_each_image():
    masks = torch.stack([torch.zeros(8, 8), torch.ones(8, 8)])
    found, _ = grey_out(torch.ones(2, 8, 8, 3), masks, 8)
    assert found.mean(dim=(1, 2, 3)).tolist() == [1, 0.5]


def test_a_mask_grows_by_a_square():
    mask = torch.zeros(1, 7, 7)
    mask[0, 3, 3] = 1
    assert grown(mask, 0).sum() == 1
    assert grown(mask, 3)[0, 2:5, 2:5].sum() == grown(mask, 3).sum() == 9
    assert grown(mask, 4)[0, 2:6, 2:6].sum() == grown(mask, 4).sum() == 16


def test_a_grown_mask_is_zeros_and_ones():
    mask = torch.tensor([[[0.4, 0.6], [0.0, 1.0]]])
    assert grown(mask, 0).tolist() == [[[0, 1], [0, 1]]]
    assert set(grown(mask, 2).flatten().tolist()) <= {0.0, 1.0}
