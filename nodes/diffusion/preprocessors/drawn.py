"""Pictures drawn by the small networks: soft edges, scribbles of them, line art.

Behaviour as in comfyui_controlnet_aux (Apache-2.0), `src/custom_controlnet_aux/{hed,lineart,lineart_anime}`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from nodegraph.context import Context
from nodegraph.types import FileRef
from nodes.diffusion.preprocessors import frames
from nodes.diffusion.preprocessors.line_networks import LinePart
from nodes.diffusion.preprocessors.lines import thinned

_ANIME_MULTIPLE = 256  # eight halvings


@torch.no_grad()
def soft_edges(
    ctx: Context, file: FileRef, image: Tensor, resolution: int, *, is_safe: bool, is_scribble: bool = False
) -> Tensor:
    """Soft edges, white on black.

    Args:
        ctx: of the node.
        file: of the network.
        image: [B, H, W, C], 0..1.
        resolution: of the shorter side.
        is_safe: in four steps, so that nothing of the picture can hide in the shades.
        is_scribble: only the strongest, as bold strokes.

    Returns:
        [B, h, w, 3], 0..1.
    """
    x = frames.frame(image, resolution)
    found: list[Tensor] = []
    with ctx.use(LinePart("hed", file)) as network:
        for i, item in enumerate(frames.padded(x).split(1)):
            size = item.shape[-2:]
            logits = [F.interpolate(each, size=size, mode="bilinear") for each in network(item.to(ctx.device))]
            found.append(torch.cat(logits, 1).mean(1, keepdim=True).sigmoid().to(x.device))
            ctx.step(i + 1, len(x))
    edges = torch.cat(found)
    if is_safe:
        edges = (edges * 3).floor() / 2
    edges = (edges * 255).clamp(0, 255).floor()
    return frames.image((thinned(edges) if is_scribble else edges)[..., : x.shape[-2], : x.shape[-1]])


@torch.no_grad()
def line_art(ctx: Context, file: FileRef, image: Tensor, resolution: int) -> Tensor:
    """Line art of a photograph, white on black: images [B, H, W, C] -> [B, h, w, 3], both 0..1."""
    x = frames.frame(image, resolution)
    found: list[Tensor] = []
    with ctx.use(LinePart("lineart", file)) as network:
        for i, item in enumerate(frames.padded(x).split(1)):
            found.append(network(item.to(ctx.device) / 255).to(x.device))
            ctx.step(i + 1, len(x))
    lines = 255 - (torch.cat(found) * 255).floor()
    return frames.image(lines[..., : x.shape[-2], : x.shape[-1]])


@torch.no_grad()
def anime_line_art(ctx: Context, file: FileRef, image: Tensor, resolution: int) -> Tensor:
    """Line art of a drawing, white on black: images [B, H, W, C] -> [B, h, w, 3], both 0..1."""
    x = frames.frame(image, resolution)
    wide = frames.padded(x)
    height, width = (-(-side // _ANIME_MULTIPLE) * _ANIME_MULTIPLE for side in wide.shape[-2:])
    large = frames.resized(wide, width, height, "bicubic")
    found: list[Tensor] = []
    with ctx.use(LinePart("lineart_anime", file)) as network:
        for i, item in enumerate(large.split(1)):
            found.append(network(item.to(ctx.device) / 127.5 - 1).to(x.device))
            ctx.step(i + 1, len(x))
    lines = (torch.cat(found) * 127.5 + 127.5).clamp(0, 255).floor()
    lines = 255 - frames.area(lines, wide.shape[-1], wide.shape[-2])
    return frames.image(lines[..., : x.shape[-2], : x.shape[-1]])
