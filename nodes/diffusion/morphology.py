"""Growing and shrinking what is bright; outside of the picture is nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def dilate(x: Tensor, size: int) -> Tensor:
    """The largest value in a window of size x size; an even window reaches one further up and left.

    Source: Serra 1982, flat structuring element; windows lie as in kornia's `dilation`. The maximum is separable.

    Args:
        x: [B, C, H, W].
        size: 1 or more.

    Returns:
        [B, C, H, W].
    """
    before, after = size // 2, size - 1 - size // 2
    x = F.max_pool2d(F.pad(x, (before, after, 0, 0), value=-torch.inf), (1, size), stride=1)
    return F.max_pool2d(F.pad(x, (0, 0, before, after), value=-torch.inf), (size, 1), stride=1)


def erode(x: Tensor, size: int) -> Tensor:
    """The smallest value in a window, as `dilate`."""
    return -dilate(-x, size)


def _open(x: Tensor, size: int) -> Tensor:
    return dilate(erode(x, size), size)


def _close(x: Tensor, size: int) -> Tensor:
    return erode(dilate(x, size), size)


OPERATIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "erode": erode,
    "dilate": dilate,
    "open": _open,
    "close": _close,
    "gradient": lambda x, size: dilate(x, size) - erode(x, size),
    "bottom_hat": lambda x, size: _close(x, size) - x,
    "top_hat": lambda x, size: x - _open(x, size),
}
"""By name, [B, C, H, W] and a window's size -> [B, C, H, W]."""


def grow(mask: Tensor, steps: int, *, tapered: bool) -> Tensor:
    """Grows what is bright by a pixel a step, or shrinks it.

    Args:
        mask: [B, H, W].
        steps: how far; below 0 shrinks.
        tapered: each step takes the four nearest neighbours, so that corners become diagonal; else all eight.

    Returns:
        [B, H, W].
    """
    if steps < 0:
        return -grow(-mask, -steps, tapered=tapered)
    x = mask[:, None]
    for _ in range(min(steps, sum(mask.shape[-2:]))):  # by then every pixel has reached every other
        if tapered:
            x = torch.maximum(
                F.max_pool2d(x, (1, 3), stride=1, padding=(0, 1)), F.max_pool2d(x, (3, 1), stride=1, padding=(1, 0))
            )
        else:
            x = F.max_pool2d(x, 3, stride=1, padding=1)
    return x[:, 0]
