"""A large picture drawn again tile by tile, and its seams once more: what Ultimate SD Upscale does.

Source: what `ultimate-upscale-for-automatic1111` (Coyote-A) and `ComfyUI_UltimateSDUpscale` (ssitu) make of their
settings. Pictures stay float here, where those round to 8 bits between tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv1d, grid_sample

from nodes.diffusion.resize import resize
from nodes.types import Cond, ControlUse

Shape = Literal["box", "rows", "columns", "round"]
_CELL = 8  # pixels of a latent cell
_SIGMAS = 3  # how far a blur reaches


class Region(NamedTuple):
    """A rectangle of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, x: Tensor) -> Tensor:
        """What [B, H, W, ...] has there, as a view."""
        return x[:, self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True, slots=True)
class Job:
    """A part of a picture to draw again.

    Attributes:
        region: the part; it may reach over the picture's edge.
        shape: how much of what is drawn counts where: `box` all of it; `rows` most in the middle row, less towards the
            upper and lower end; `columns` the same sideways; `round` most in the middle, none from the sides on.
        size: height and width it is drawn at where tiles are to be uniform.
        padding: pixels around it that are drawn with it.
        blur: standard deviation in pixels of its edge.
        is_fix: for a seam between others.
    """

    region: Region
    shape: Shape
    size: tuple[int, int]
    padding: int
    blur: int
    is_fix: bool = False


Redraw = Callable[[int, Job, Region, Tensor], Tensor]


def rounded(length: float) -> int:
    """The multiple of 8 that is nearest, at least 8."""
    return max(_CELL, round(length / _CELL) * _CELL)


def tile_jobs(height: int, width: int, tile: tuple[int, int], order: str, padding: int, blur: int) -> list[Job]:
    """The tiles of a picture, each pixel in one of them: row by row, or first the white fields of a chess board.

    Args:
        height: of the picture.
        width: of the picture.
        tile: height and width of a tile.
        order: `Linear`, `Chess`, or `None` for no tiles.
        padding: drawn around each.
        blur: of its edge.
    """
    if order == "None":
        return []
    places = list(product(range(ceil(height / tile[0])), range(ceil(width / tile[1]))))
    if order == "Chess":
        places.sort(key=lambda place: sum(place) % 2)
    size = rounded(tile[0] + padding), rounded(tile[1] + padding)
    return [Job(Region(y * tile[0], x * tile[1], *tile), "box", size, padding, blur) for y, x in places]


def seam_jobs(
    height: int, width: int, tile: tuple[int, int], fix: str, *, band: int, padding: int, blur: int
) -> list[Job]:
    """What is drawn again over the seams between tiles.

    Args:
        height: of the picture.
        width: of the picture.
        tile: height and width of a tile.
        fix: `Band Pass` for bands along the seams, `Half Tile` for tiles in the middle of them, `Half Tile +
            Intersections` for one over each corner as well, `None` for nothing.
        band: width of a band; bands have no blur.
        padding: drawn around each but those over corners.
        blur: of the edges.
    """
    rows, columns = ceil(height / tile[0]), ceil(width / tile[1])
    down, across = range(1, rows), range(1, columns)  # seams
    half = tile[0] // 2, tile[1] // 2
    if fix == "None" or (fix == "Band Pass" and not band):
        return []
    if fix == "Band Pass":
        size = rounded(height), rounded(band + 2 * padding)
        jobs = [Job(Region(0, x * tile[1] - band // 2, height, band), "columns", size, padding, 0, True)
                for x in across]  # fmt: skip
        size = rounded(band + 2 * padding), rounded(width)
        return jobs + [Job(Region(y * tile[0] - band // 2, 0, band, width), "rows", size, padding, 0, True)
                       for y in down]  # fmt: skip
    size = rounded(tile[0]), rounded(tile[1])
    jobs = [Job(Region(y * tile[0] - half[0], x * tile[1], *tile), "rows", size, padding, blur, True)
            for y, x in product(down, range(columns))]  # fmt: skip
    jobs += [Job(Region(y * tile[0], x * tile[1] - half[1], *tile), "columns", size, padding, blur, True)
             for y, x in product(range(rows), across)]  # fmt: skip
    if fix == "Half Tile + Intersections":
        jobs += [Job(Region(y * tile[0] - half[0], x * tile[1] - half[1], *tile), "round", size, 0, blur, True)
                 for y, x in product(down, across)]  # fmt: skip
    return jobs


def drawn_again(images: Tensor, jobs: Iterable[Job], redraw: Redraw, *, is_uniform: bool) -> Tensor:
    """A picture with its parts drawn again, each seeing what was drawn before it.

    Args:
        images: [B, H, W, 3].
        jobs: the parts, in order.
        redraw: called as redraw(number, job, what of the picture it is, its pixels [B, h, w, 3]) -> as many pixels;
            h and w are multiples of 8.
        is_uniform: each part is drawn at the size of its job; else at its own, made a multiple of 8.

    Returns:
        [B, H, W, 3], another tensor.
    """
    images = images.clone()
    height, width = images.shape[1:3]
    for number, job in enumerate(jobs):
        crop, size = _crop(job, height, width, is_uniform)
        found = _resized(redraw(number, job, crop, _resized(crop.of(images), size)), (crop.height, crop.width))
        mask = _mask(job, crop, height, width).to(images)[..., None]
        part = crop.of(images)
        part.copy_(part.lerp(found.to(images), mask))
    return images


def _crop(job: Job, height: int, width: int, is_uniform: bool) -> tuple[Region, tuple[int, int]]:
    """What of a picture is cut out for a job, and the height and width it is drawn at."""
    top, left = max(job.region.top, 0), max(job.region.left, 0)
    bottom, right = job.region.top + job.region.height, job.region.left + job.region.width
    top, bottom = max(top - job.padding, 0), min(min(bottom, height) + job.padding, height)
    left, right = max(left - job.padding, 0), min(min(right, width) + job.padding, width)
    h, w = bottom - top, right - left
    if is_uniform:
        aspect = job.size[1] / job.size[0]
        wanted = (round(w / aspect), w) if w / h > aspect else (h, round(h * aspect))
        size = job.size
    else:
        wanted = size = ceil(h / _CELL) * _CELL, ceil(w / _CELL) * _CELL
    top, bottom = _grown(top, bottom, wanted[0], height)
    left, right = _grown(left, right, wanted[1], width)
    return Region(top, left, bottom - top, right - left), size


def _grown(start: int, stop: int, wanted: int, limit: int) -> tuple[int, int]:
    """A range that is as long as wanted, as far as 0 and the limit allow: by half at its end, then at its start."""
    stop = min(stop + (wanted - (stop - start)) // 2, limit)
    start = max(stop - wanted, 0)
    return start, min(max(stop, start + wanted), limit)


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    if images.shape[1:3] == size:
        return images
    return resize(images.movedim(-1, 1), size[1], size[0], "lanczos").movedim(1, -1)


def _mask(job: Job, crop: Region, height: int, width: int) -> Tensor:
    """How much of what is drawn counts: [h, w] of a crop, 0..1. Beyond the picture its edge goes on."""
    reach = _SIGMAS * job.blur
    rows = torch.arange(crop.top - reach, crop.top + crop.height + reach).clamp(0, height - 1)
    columns = torch.arange(crop.left - reach, crop.left + crop.width + reach).clamp(0, width - 1)
    y = ((rows - job.region.top + 0.5) / job.region.height)[:, None]  # 0..1 within the region
    x = ((columns - job.region.left + 0.5) / job.region.width)[None]
    inside = ((y > 0) & (y < 1) & (x > 0) & (x < 1)).float()
    slope = {
        "box": torch.ones(1, 1), "rows": 1 - (2 * y - 1).abs(), "columns": 1 - (2 * x - 1).abs(),
        "round": 1 - ((2 * y - 1) ** 2 + (2 * x - 1) ** 2).sqrt().clamp(max=1),
    }[job.shape]  # fmt: skip
    mask = inside * slope
    if not job.blur:
        return mask
    kernel = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * job.blur**2))
    kernel = (kernel / kernel.sum())[None, None]
    mask = conv1d(mask[:, None], kernel)[:, 0]
    return conv1d(mask.t()[:, None], kernel)[:, 0].t()


def in_shares(conds: Sequence[Cond], size: tuple[int, int]) -> tuple[Cond, ...]:
    """Prompts whose areas are shares of the picture, so that they stand for the same where it is enlarged.

    Args:
        conds: areas are in cells of a latent, or shares already.
        size: height and width of the picture in pixels.
    """
    found: list[Cond] = []
    for cond in conds:
        area = cond.options.get("area")
        if area is not None and area[0] != "percentage":
            shares = (side * _CELL / whole for side, whole in zip(area, size * 2, strict=True))
            cond = replace(cond, options={**cond.options, "area": ("percentage", *shares)})
        found.append(cond)
    return tuple(found)


def cropped_prompts(
    conds: Sequence[Cond], crop: Region, tile: tuple[int, int], size: tuple[int, int]
) -> tuple[Cond, ...]:
    """Prompts as they are for a part of a picture: with areas, masks, hints and latents to paint in cut to it.

    A prompt whose area is elsewhere is left out; where all are, they speak for the whole part.

    Args:
        conds: for the whole picture.
        crop: the part.
        tile: height and width it is drawn at.
        size: height and width of the picture.
    """
    place = crop.top / size[0], crop.left / size[1], crop.height / size[0], crop.width / size[1]
    found: list[Cond] = []
    for cond in in_shares(conds, size):
        options = {**cond.options, **{name: _cut(value, place, tile) for name, value in _pictures(cond.options)}}
        if "control" in options:
            options["control"] = tuple(_cut_use(use, place, tile) for use in options["control"])
        if options.get("area") is not None:
            options["area"] = _cut_area(options["area"][1:], place, tile)
        found.append(replace(cond, options=options))
    within = tuple(cond for cond in found if cond.options.get("area") != ())
    return within or tuple(replace(cond, options={**cond.options, "area": None, "strength": 1.0}) for cond in found)


def _pictures(options: Mapping[str, Any]) -> list[tuple[str, Tensor]]:
    names = ("mask", "concat_mask", "concat_latent_image")
    return [(name, options[name]) for name in names if options.get(name) is not None]


def _cut_use(use: ControlUse, place: tuple[float, ...], tile: tuple[int, int]) -> ControlUse:
    hint = _cut(use.hint.movedim(-1, 1), place, tile, "nearest").movedim(1, -1)
    return replace(use, hint=hint, mask=None if use.mask is None else _cut(use.mask, place, tile))


def _cut(x: Tensor, place: tuple[float, ...], tile: tuple[int, int], mode: str = "bilinear") -> Tensor:
    """What [..., H, W] has at a place, in shares of the whole: [..., h, w] of a tile, of latents an eighth of that."""
    is_latent = x.ndim == 4 and mode == "bilinear"
    size = [side // _CELL for side in tile] if is_latent else list(tile)
    top, left, height, width = place
    planes = x.reshape(1, -1, *x.shape[-2:]).float()
    # the middle and the half width in coordinates that go from -1 to 1
    theta = torch.tensor([[[width, 0, 2 * left + width - 1], [0, height, 2 * top + height - 1]]]).to(planes)
    grid = affine_grid(theta, [1, 1, *size], align_corners=False)
    found = grid_sample(planes, grid, mode=mode, padding_mode="border", align_corners=False)
    return found.reshape(*x.shape[:-2], *size).to(x)


def _cut_area(area: Sequence[float], place: tuple[float, ...], tile: tuple[int, int]) -> tuple[int, ...]:
    """An area, in shares of the picture, as cells of a tile; () where they do not meet."""
    spans: list[tuple[int, int]] = []
    for axis in (0, 1):
        start, length = area[axis + 2] - place[axis], area[axis]
        cells = tile[axis] // _CELL / place[axis + 2]
        first, last = round(max(0.0, start) * cells), round(min(place[axis + 2], start + length) * cells)
        if last <= first:
            return ()
        spans.append((first, last - first))
    (top, height), (left, width) = spans
    return height, width, top, left
