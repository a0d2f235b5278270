"""Poses of people as coloured sticks, as OpenPose draws them; found by networks of transformers.

OpenPose's own networks may only be used for research that is not commercial, so ViTPose (Xu et al. 2022, Apache-2.0)
takes their place: it finds bodies, and neither hands nor faces.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from nodegraph.context import Context
from nodes.diffusion.preprocessors import frames
from nodes.diffusion.preprocessors.pretrained import PretrainedPart

Point = tuple[float, float, float]
"""Place across and down, in pixels, and how sure it is, 0..1."""

_FROM_COCO = (
    0,
    None,
    6,
    8,
    10,
    5,
    7,
    9,
    12,
    14,
    16,
    11,
    13,
    15,
    2,
    1,
    4,
    3,
)  # OpenPose's 18 points; the second is the neck
_SHOULDERS = (5, 6)
_LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0),
    (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
_COLOURS = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0), (0, 255, 85),
    (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255),
    (255, 0, 170), (255, 0, 85),
)  # fmt: skip
_STICK = 4  # pixels from the middle of a stick to its side, and from a joint's to its edge
_IS_PERSON, _IS_POINT = 0.5, 0.3  # how sure a box and a point must be


@torch.no_grad()
def find(
    ctx: Context, detector: PretrainedPart, estimator: PretrainedPart, x: Tensor
) -> list[list[list[Point | None]]]:
    """The people in pictures [B, 3, h, w] of 0..255: for each picture, for each person, 18 points or None."""
    with ctx.use(detector) as model:
        boxes = [_people(model, item, ctx.device) for item in x]
    found: list[list[list[Point | None]]] = []
    with ctx.use(estimator) as model:
        for i, (item, people) in enumerate(zip(x, boxes, strict=True)):
            found.append(_bodies(model, item, people, ctx.device) if people else [])
            ctx.step(i + 1, len(x))
    return found


def _people(model: Any, x: Tensor, device: torch.device) -> list[list[float]]:
    """Boxes of people: left, top, width, height."""
    inputs = model.processor(x.byte().cpu(), return_tensors="pt").to(device)
    (seen,) = model.processor.post_process_object_detection(
        model(**inputs), threshold=_IS_PERSON, target_sizes=[tuple(x.shape[-2:])]
    )
    names = model.config.id2label
    boxes = [box for box, label in zip(seen["boxes"].tolist(), seen["labels"].tolist(), strict=True)
             if str(names[label]).lower() == "person"]  # fmt: skip
    return [[left, top, right - left, bottom - top] for left, top, right, bottom in boxes]


def _bodies(model: Any, x: Tensor, people: list[list[float]], device: torch.device) -> list[list[Point | None]]:
    inputs = model.processor(x.byte().cpu(), boxes=[people], return_tensors="pt").to(device)
    if getattr(model.config.backbone_config, "num_experts", 1) > 1:
        inputs["dataset_index"] = torch.zeros(len(people), dtype=torch.long, device=device)  # that of COCO
    (bodies,) = model.processor.post_process_pose_estimation(model(**inputs), boxes=[people])
    return [openpose(body["keypoints"].tolist(), body["scores"].tolist()) for body in bodies]


def openpose(places: Sequence[Sequence[float]], scores: Sequence[float]) -> list[Point | None]:
    """OpenPose's 18 points of COCO's 17; the neck is between the shoulders. None for what is not seen."""
    coco = [(x, y, sure) if sure > _IS_POINT else None for (x, y), sure in zip(places, scores, strict=True)]
    left, right = (coco[i] for i in _SHOULDERS)
    neck = None
    if left is not None and right is not None:
        neck = ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2, min(left[2], right[2]))
    return [neck if i is None else coco[i] for i in _FROM_COCO]


def drawn(people: list[list[Point | None]], height: int, width: int, *, is_bold: bool) -> Tensor:
    """Sticks and joints [3, height, width], 0..255, on black.

    Source: ControlNet (Apache-2.0), `annotator/openpose/util.py`.

    Args:
        people: 18 points of each.
        height: of the picture.
        width: of the picture.
        is_bold: sticks grow with large pictures, as the ControlNet of xinsir takes them.
    """
    picture = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(picture)
    longest = max(height, width)
    stick = _STICK * (min(2 + longest // 1000, 7) if is_bold and longest >= 500 else 1)
    for points in people:
        for (i, j), colour in zip(_LIMBS, _COLOURS, strict=False):
            start, end = points[i], points[j]
            if start is not None and end is not None:
                draw.polygon(_ellipse(start, end, stick), fill=tuple(int(part * 0.6) for part in colour))
        for point, colour in zip(points, _COLOURS, strict=True):
            if point is not None:
                x, y = int(point[0]), int(point[1])
                draw.ellipse((x - _STICK, y - _STICK, x + _STICK, y + _STICK), fill=colour)
    return torch.from_numpy(np.asarray(picture).astype(np.float32)).movedim(-1, 0)


def _ellipse(start: Point, end: Point, half: int) -> list[tuple[float, float]]:
    """The outline of a stick between two points, `half` as thick as it is in its middle."""
    across, down = (end[0] - start[0]) / 2, (end[1] - start[1]) / 2
    length = math.hypot(across, down) or 1.0
    turns = [math.radians(angle) for angle in range(0, 360, 4)]
    middle = start[0] + across, start[1] + down
    aside = -down / length * half, across / length * half
    return [(middle[0] + across * math.cos(t) + aside[0] * math.sin(t),
             middle[1] + down * math.cos(t) + aside[1] * math.sin(t)) for t in turns]  # fmt: skip


def document(people: list[list[Point | None]], height: int, width: int) -> dict[str, Any]:
    """The people of one picture in OpenPose's JSON: x, y and 0 or 1 for each point, in pixels."""
    rows = [[value for point in points for value in ((point[0], point[1], 1.0) if point else (0.0, 0.0, 0.0))]
            for points in people]  # fmt: skip
    parts = {f"{part}_keypoints_2d": None for part in ("face", "hand_left", "hand_right")}
    return {"people": [{"pose_keypoints_2d": row, **parts} for row in rows], "canvas_height": height,
            "canvas_width": width}  # fmt: skip


def posed(
    ctx: Context, detector: PretrainedPart, estimator: PretrainedPart, image: Tensor, resolution: int, *, is_bold: bool
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Poses in images [B, H, W, C] -> as sticks [B, h, w, 3], 0..1, and as OpenPose's JSON for each image."""
    x = frames.frame(image, resolution)
    height, width = x.shape[-2:]
    found = find(ctx, detector, estimator, x)
    sticks = torch.stack([drawn(people, height, width, is_bold=is_bold) for people in found])
    return frames.image(sticks), [document(people, height, width) for people in found]
