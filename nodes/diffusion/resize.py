"""Resizing images and latents by every method ComfyUI names, [B, C, H, W]."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def resize(x: Tensor, width: int, height: int, method: str, crop: str = "disabled") -> Tensor:
    """Resizes a batch.

    Args:
        x: [B, C, H, W].
        width: of the result.
        height: of the result.
        method: `nearest-exact`, `bilinear`, `area`, `bicubic` as torch has them; `lanczos` by Pillow in 8 bits;
            `bislerp`, bilinear along great circles of the channel vector.
        crop: `center` first cuts to the new aspect ratio; `disabled` stretches.

    Returns:
        [B, C, height, width].
    """
    if crop == "center":
        x = crop_to_aspect(x, width / height)
    if method == "bislerp":
        return bislerp(x, width, height)
    if method == "lanczos":
        return lanczos(x, width, height)
    return F.interpolate(x, size=(height, width), mode=method)


def crop_to_aspect(x: Tensor, aspect: float) -> Tensor:
    """The middle of [B, C, H, W] with W/H = `aspect`, as near as equal margins allow; at least one row and column."""
    height, width = x.shape[-2:]
    old = width / height
    left = round((width - width * (aspect / old)) / 2) if old > aspect else 0
    top = round((height - height * (old / aspect)) / 2) if old < aspect else 0
    top, left = min(top, (height - 1) // 2), min(left, (width - 1) // 2)
    return x[..., top : height - top, left : width - left]


def lanczos(x: Tensor, width: int, height: int) -> Tensor:
    """Lanczos-3 by Pillow; values are 8 bits on the way, as in ComfyUI."""
    import numpy as np
    from PIL import Image

    rows: list[Tensor] = []
    for item in x:
        array = (item.movedim(0, -1).float().cpu().numpy() * 255).clip(0, 255).astype(np.uint8)
        picture = Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array)
        found = np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS)).astype(np.float32) / 255
        rows.append(torch.from_numpy(found.reshape(height, width, -1)).movedim(-1, 0))
    return torch.stack(rows).to(x)


def bislerp(x: Tensor, width: int, height: int) -> Tensor:
    """Bilinear interpolation on the sphere: channel vectors keep their length between neighbours (Shoemake 1985)."""
    found = _slerp_last_axis(x.float(), width)
    return _slerp_last_axis(found.transpose(-1, -2), height).transpose(-1, -2).to(x.dtype)


def _slerp_last_axis(x: Tensor, size: int) -> Tensor:
    """Interpolates [B, C, H, W] along W."""
    positions = torch.arange(x.shape[-1], dtype=torch.float32, device=x.device).view(1, 1, -1)
    following = torch.cat([positions[..., 1:], positions[..., -1:]], -1)
    place = F.interpolate(positions, size=size, mode="linear")[0, 0]
    left = place.long()
    right = F.interpolate(following, size=size, mode="linear")[0, 0].long()
    return slerp(x[..., left], x[..., right], (place - place.floor()).view(1, 1, 1, -1))


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Between the channel vectors of a and b [B, C, ...] at t in 0..1: direction on the great circle, length linear."""
    length_a, length_b = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    unit_a = torch.where(length_a == 0, 0, a / length_a)
    unit_b = torch.where(length_b == 0, 0, b / length_b)
    cosine = (unit_a * unit_b).sum(1, keepdim=True)
    omega = cosine.clamp(-1, 1).acos()
    sine = omega.sin()
    found = (((1 - t) * omega).sin() * unit_a + (t * omega).sin() * unit_b) / sine
    found = found * (length_a * (1 - t) + length_b * t)
    found = torch.where(cosine > 1 - 1e-5, a, found)
    return torch.where(cosine < 1e-5 - 1, a * (1 - t) + b * t, found)
