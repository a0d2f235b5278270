"""Pictures in one colour for each kind of thing, found by networks of transformers."""

from __future__ import annotations

import colorsys

import torch
from torch import Tensor

from nodegraph.context import Context
from nodes.diffusion.preprocessors import frames
from nodes.diffusion.preprocessors.pretrained import PretrainedPart

_ADE20K = bytes.fromhex(
    "787878b4787806e6e650323204c8037878508c8c8ccc05ffe6e6e604fa07e005ffebff0796053d78784608ff33ff06528fff8cccff04"
    "ff3307cc46030066c83de6faff06330b66ffff0747ff09e00907e6dcdcdcff095c7009ff08ffd607ffe0ffb8060aff47ff290a07ffff"
    "e0ff086608ffff3d06ffc207ff7a0800ff14ff0829ff05990633ffeb0cffa0961400a3ff8c8c8cfa0a0f14ff001fff00ff1f00ffe000"
    "99ff000000ffff470000ebff00adff1f00ff0bc8c8ff520000fff5003dff00ff7000ff85ff0000ffa300ff6600c2ff00008fff33ff00"
    "0052ff00ff2900ffad0a00ffadff0000ff99ff5c00ff00ffff00f5ff0066ffad00ff0014ffb8b8001fff00ff3d0047ffff00cc00ffc2"
    "00ff52000aff0070ff3300ff00c2ff007aff00ffa3ff990000ff0aff70008fff005200ffa3ff00ffeb0008b8aa8500ff00ff5cb800ff"
    "ff001f00b8ff00d6ffff00705cff0000e0ff70e0ff46b8a0a300ff9900ff47ff00ff00a3ffcc00ff008f00ffeb85ff00ff00ebf500ff"
    "ff007afff5000abed4d6ff0000ccff1400ffffff000099ff0029ff00ffcc2900ff29ff00ad00ff00f5ff4700ff7a00ff00ffb8005cff"
    "b8ff000085ffffd60019c2c266ff005c00ff"
)
"""Red, green and blue of ADE20K's 150 kinds, as ControlNets know them; source: mmsegmentation (Apache-2.0)."""


@torch.no_grad()
def segments(ctx: Context, part: PretrainedPart, image: Tensor, resolution: int) -> Tensor:
    """Each kind of thing in its colour.

    Args:
        ctx: of the node.
        part: a network for semantic or universal segmentation.
        image: [B, H, W, C], 0..1.
        resolution: of the shorter side.

    Returns:
        [B, h, w, 3], 0..1.
    """
    x = frames.frame(image, resolution)
    found: list[Tensor] = []
    with ctx.use(part) as model:
        task = {"task_inputs": ["semantic"]} if model.config.model_type == "oneformer" else {}
        colours = palette(model.config.num_labels).to(x)
        for i, item in enumerate(frames.padded(x)):
            inputs = model.processor(item.byte().cpu(), return_tensors="pt", **task).to(ctx.device)
            output = model(**inputs)
            kinds = model.processor.post_process_semantic_segmentation(output, target_sizes=[tuple(item.shape[-2:])])
            found.append(colours[kinds[0].long().to(x.device)].movedim(-1, 0))
            ctx.step(i + 1, len(x))
    return frames.image(torch.stack(found)[..., : x.shape[-2], : x.shape[-1]])


def palette(kinds: int) -> Tensor:
    """Colours [kinds, 3], 0..255: ADE20K's where there are 150, else hues a golden angle apart, the first one black."""
    if kinds == len(_ADE20K) // 3:
        return torch.tensor(list(_ADE20K)).view(-1, 3)
    rows = [
        colorsys.hsv_to_rgb(i * 137.508 % 360 / 360, 0.6 + 0.2 * (i % 3), 0.7 + 0.3 * (i % 2)) for i in range(kinds)
    ]
    colours = (torch.tensor(rows) * 255).round().long()
    colours[0] = 0
    return colours
