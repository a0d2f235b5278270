"""Depth and normals of pictures, estimated by networks; near is bright, as ControlNets take it."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from nodegraph.context import Context
from nodegraph.models import Weights
from nodes.diffusion.canny import SOBEL
from nodes.diffusion.preprocessors import frames


@torch.no_grad()
def estimate(ctx: Context, part: Weights, x: Tensor) -> Tensor:
    """What a network says of pictures [B, 3, h, w] in 0..255: inverse depth [B, 1, h, w], in no known unit.

    Networks that tell distances in metres (ZoeDepth, Depth Pro and metric versions of Depth Anything) are turned round.
    """
    found: list[Tensor] = []
    with ctx.use(part) as model:
        for i, item in enumerate(x):
            inputs = model.processor(item.byte().cpu(), return_tensors="pt").to(ctx.device)
            depth = model(**inputs).predicted_depth[:, None].float()
            depth = F.interpolate(depth, size=x.shape[-2:], mode="bicubic")
            found.append((-depth if _is_distance(model.config) else depth).to(x.device))
            ctx.step(i + 1, len(x))
    return torch.cat(found)


def _is_distance(config: object) -> bool:
    is_metric = getattr(config, "depth_estimation_type", "relative") == "metric"
    return is_metric or getattr(config, "model_type", "") in ("zoedepth", "depth_pro", "glpn")


def unit(depth: Tensor) -> Tensor:
    """[B, 1, h, w] with each picture stretched to 0..1; one of a single depth becomes 0."""
    low, high = depth.amin((1, 2, 3), keepdim=True), depth.amax((1, 2, 3), keepdim=True)
    return (depth - low) / (high - low).clamp(min=1e-12)


def whole(ctx: Context, part: Weights, image: Tensor, resolution: int) -> Tensor:
    """Depth of images [B, H, W, C] looked at in their own size -> [B, h, w, 3], shorter side `resolution`, 0..1."""
    x = frames.frame(image, min(image.shape[1:3]))
    found = unit(estimate(ctx, part, x)).movedim(1, -1)
    return frames.image(frames.frame(found, resolution))


def framed(ctx: Context, part: Weights, image: Tensor, resolution: int) -> Tensor:
    """Depth of images [B, H, W, C] looked at in the resolution wanted -> [B, h, w, 3], 0..1."""
    x = frames.frame(image, resolution)
    found = unit(estimate(ctx, part, frames.padded(x)))
    return frames.image(found[..., : x.shape[-2], : x.shape[-1]] * 255)


def normals(ctx: Context, part: Weights, image: Tensor, resolution: int, *, flatness: float, cut: float) -> Tensor:
    """Normals of surfaces: blue across, green down, red towards the eye, as ControlNet's first normal model takes them.

    Source: ControlNet (Apache-2.0), `annotator/midas/__init__.py`.

    Args:
        ctx: of the node.
        part: the network.
        image: [B, H, W, C], 0..1.
        resolution: of the shorter side.
        flatness: how large the part towards the eye is, beside the slopes of depth.
        cut: depth, of 0..1, below which all is background and faces the eye.

    Returns:
        [B, h, w, 3], 0..1.
    """
    x = frames.frame(image, resolution)
    depth = estimate(ctx, part, frames.padded(x))
    across = torch.tensor(SOBEL).to(depth)
    kernels = torch.stack([across, across.T])[:, None]
    slopes = F.conv2d(F.pad(depth, (1, 1, 1, 1), "reflect"), kernels) * (unit(depth) >= cut)
    towards = torch.full_like(depth, flatness)
    normal = F.normalize(torch.cat([towards, slopes[:, 1:], slopes[:, :1]], 1), dim=1)
    return frames.image((normal * 127.5 + 127.5)[..., : x.shape[-2], : x.shape[-1]])
