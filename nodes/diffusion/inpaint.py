"""Images and masks made ready for inpainting.

Source: ComfyUI's `VAEEncodeForInpaint`, for the rounding and the shape of what grows.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from nodes.diffusion.denoiser import repeat_to
from nodes.diffusion.vae import cropped


def grey_out(images: Tensor, mask: Tensor, multiple: int) -> tuple[Tensor, Tensor]:
    """Images with middle grey where a mask is 0.5 or more, and the mask at their size.

    Args:
        images: [B, H, W, C], 0..1.
        mask: [M, H', W'] in 0..1, stretched over the images; repeated to B for what is grey.
        multiple: both are cropped around their centre to sides that are multiples of it.

    Returns:
        [B, h, w, 3] and [M, h, w], not rounded.

    Raises:
        ValueError: the images are smaller than that.
    """
    stretched = mask.to(images).reshape(-1, 1, *mask.shape[-2:])
    stretched = F.interpolate(stretched, size=images.shape[1:3], mode="bilinear").movedim(1, -1)
    colours, fitted = cropped(images[..., :3], multiple), cropped(stretched, multiple)
    kept = 1 - repeat_to(fitted, len(colours)).round()
    return (colours - 0.5) * kept + 0.5, fitted.squeeze(-1)


def grown(mask: Tensor, by: int) -> Tensor:
    """A mask [M, H, W] rounded to 0 and 1 and grown by a square of side `by`; 0 only rounds.

    An even square reaches one pixel further down and to the right.
    """
    if by == 0:
        return mask.round()
    square = mask.new_ones(1, 1, by, by)
    found = F.conv2d(mask.round().unsqueeze(1), square, padding=by // 2).squeeze(1)
    return found[..., : mask.shape[-2], : mask.shape[-1]].clamp(0, 1).round()
