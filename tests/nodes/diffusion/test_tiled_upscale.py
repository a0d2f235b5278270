"""Which parts of a picture are drawn again, how they are put back, and what their prompts say; without a model."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from nodes.diffusion.control_files import ControlPart
from nodes.diffusion.tiled_upscale import (
    Job,
    Region,
    _crop,
    _mask,
    cropped_prompts,
    drawn_again,
    in_shares,
    rounded,
    seam_jobs,
    tile_jobs,
)
from nodes.types import Cond, ControlNetValue, ControlUse


def whole_mask(job: Job, height: int, width: int) -> Tensor:
    """What a job counts at each pixel of a picture."""
    crop, _ = _crop(job, height, width, is_uniform=False)
    found = torch.zeros(1, height, width)
    crop.of(found).copy_(_mask(job, crop, height, width))
    return found[0]


@pytest.mark.parametrize("order", ["Linear", "Chess"])
def test_tiles_cover_every_pixel_once(order: str) -> None:
    jobs = tile_jobs(208, 328, (128, 96), order, padding=32, blur=0)
    assert len(jobs) == 2 * 4
    covered = sum(whole_mask(job, 208, 328) for job in jobs)
    assert isinstance(covered, Tensor) and torch.equal(covered, torch.ones(208, 328))


def test_tiles_go_row_by_row_or_every_other_one_first() -> None:
    rows = [(job.region.top, job.region.left) for job in tile_jobs(128, 192, (64, 64), "Linear", 0, 0)]
    assert rows == [(0, 0), (0, 64), (0, 128), (64, 0), (64, 64), (64, 128)]
    chess = [(job.region.top, job.region.left) for job in tile_jobs(128, 192, (64, 64), "Chess", 0, 0)]
    assert chess == [(0, 0), (0, 128), (64, 64), (0, 64), (64, 0), (64, 128)]
    assert tile_jobs(128, 192, (64, 64), "None", 0, 0) == []


def test_a_tile_is_drawn_with_its_padding_inside_the_picture() -> None:
    job = tile_jobs(1024, 1024, (512, 512), "Linear", 32, 8)[0]
    assert _crop(job, 1024, 1024, is_uniform=True) == (Region(0, 0, 544, 544), (544, 544))
    middle = tile_jobs(1536, 1536, (512, 512), "Linear", 32, 8)[4]
    assert _crop(middle, 1536, 1536, is_uniform=True) == (Region(480, 480, 576, 576), (544, 544))
    assert _crop(middle, 1536, 1536, is_uniform=False) == (Region(480, 480, 576, 576), (576, 576))
    last = tile_jobs(600, 512, (512, 512), "Linear", 32, 8)[1]
    assert _crop(last, 600, 512, is_uniform=True) == (Region(88, 0, 512, 512), (544, 544))
    assert _crop(last, 600, 512, is_uniform=False) == (Region(480, 0, 120, 512), (120, 512))


@pytest.mark.parametrize("place", [(0, 0), (64, 64), (64, 128)])
def test_the_edge_of_a_tile_is_as_soft_as_a_gaussian_blur_makes_it(place: tuple[int, int]) -> None:
    job = Job(Region(*place, 64, 64), "box", (64, 64), 32, 6)
    crop, _ = _crop(job, 192, 192, is_uniform=False)
    drawn = Image.new("L", (192, 192), "black")
    ImageDraw.Draw(drawn).rectangle((place[1], place[0], place[1] + 63, place[0] + 63), fill="white")
    blurred = torch.from_numpy(np.asarray(drawn.filter(ImageFilter.GaussianBlur(6))) / 255)
    difference = _mask(job, crop, 192, 192) - crop.of(blurred[None])[0]
    assert difference.abs().max() < 0.02  # Pillow's is three box blurs, in 8 bits


def test_parts_drawn_as_they_were_leave_the_picture_as_it_is() -> None:
    picture = torch.rand(2, 88, 136, 3, generator=torch.Generator().manual_seed(0))
    jobs = tile_jobs(88, 136, (64, 64), "Chess", 16, 4) + seam_jobs(
        88, 136, (64, 64), "Half Tile + Intersections", band=16, padding=8, blur=4
    )
    seen: list[tuple[int, tuple[int, ...]]] = []

    def same(number: int, job: Job, crop: Region, pixels: Tensor) -> Tensor:
        assert torch.equal(pixels, crop.of(found_before))
        seen.append((number, tuple(pixels.shape)))
        return pixels

    found_before = picture
    found = drawn_again(picture, jobs, same, is_uniform=False)
    torch.testing.assert_close(found, picture)
    assert found is not picture and [number for number, _ in seen] == list(range(len(jobs)))
    assert all(side % 8 == 0 for _, shape in seen for side in shape[1:3])


def test_uniform_parts_are_drawn_at_one_size_and_scaled_back() -> None:
    ramp = torch.linspace(0, 1, 136).expand(1, 88, 136)[..., None].expand(-1, -1, -1, 3)
    jobs = tile_jobs(88, 136, (64, 64), "Linear", 16, 4)
    shapes: list[tuple[int, ...]] = []

    def same(number: int, job: Job, crop: Region, pixels: Tensor) -> Tensor:
        shapes.append(tuple(pixels.shape[1:3]))
        return pixels

    found = drawn_again(ramp, jobs, same, is_uniform=True)
    assert set(shapes) == {(80, 80)} and len(shapes) == 6
    assert (found - ramp).abs().max() < 0.02  # of Lanczos' overshoot at the ends, in 8 bits


def test_each_part_sees_what_was_drawn_before() -> None:
    jobs = tile_jobs(64, 128, (64, 64), "Linear", 16, 0)
    left: list[float] = []

    def brighter(number: int, job: Job, crop: Region, pixels: Tensor) -> Tensor:
        left.append(float(pixels[0, 0, 0, 0]))
        return torch.ones_like(pixels)

    found = drawn_again(torch.zeros(1, 64, 128, 3), jobs, brighter, is_uniform=False)
    assert left == [0.0, 1.0] and torch.equal(found, torch.ones(1, 64, 128, 3))


def test_seams_are_drawn_again_where_they_are() -> None:
    def jobs(fix: str) -> list[Job]:
        return seam_jobs(192, 256, (64, 64), fix, band=32, padding=8, blur=0)

    assert [len(jobs(fix)) for fix in ("None", "Band Pass", "Half Tile", "Half Tile + Intersections")] == [
        0, 3 + 2, 2 * 4 + 3 * 3, 2 * 4 + 3 * 3 + 2 * 3,
    ]  # fmt: skip
    assert all(job.is_fix for job in jobs("Half Tile + Intersections"))
    first = whole_mask(jobs("Band Pass")[0], 192, 256)
    assert first[0, 63:65].min() > 0.95 and first[100, 47:81].count_nonzero() == first[100].count_nonzero()
    assert torch.equal(first[0], first[191])
    flat = whole_mask(jobs("Half Tile")[0], 192, 256)
    assert flat[63:65, :64].min() > 0.95 and flat[:32].sum() == 0 and flat[:, 64:].sum() == 0
    ends = [whole_mask(job, 192, 256) for job in jobs("Half Tile")[8:]]
    assert all(mask.max(0).values.argmax() in (63, 64, 127, 128, 191, 192) for mask in ends)
    corner = whole_mask(jobs("Half Tile + Intersections")[-1], 192, 256)
    assert corner[127:129, 191:193].min() > 0.95 and corner[96:160, 160:224].count_nonzero() == corner.count_nonzero()
    assert corner[128, 160] < 0.05 and corner[97, 161] == 0


def test_bands_are_drawn_as_long_as_the_picture() -> None:
    down = seam_jobs(192, 256, (64, 64), "Band Pass", band=32, padding=8, blur=5)[0]
    assert down.size == (192, 48) and down.blur == 0
    assert _crop(down, 192, 256, is_uniform=True) == (Region(0, 40, 192, 48), (192, 48))


def test_bands_without_a_width_are_none() -> None:
    assert seam_jobs(128, 128, (64, 64), "Band Pass", band=0, padding=16, blur=8) == []


def test_sizes_are_rounded_to_cells_of_the_latent() -> None:
    assert [rounded(size) for size in (1, 100.0, 124, 156.25)] == [8, 96, 128, 160]


def prompt(**options: object) -> Cond:
    return Cond(torch.zeros(1, 77, 4), None, dict(options))


def test_an_area_is_cut_to_the_part_and_scaled_to_its_size() -> None:
    upper = in_shares([prompt(area=(8, 16, 0, 0), strength=0.5)], (128, 128))  # in cells of 128 x 128: the upper half
    assert upper[0].options["area"] == ("percentage", 0.5, 1.0, 0.0, 0.0)
    (found,) = cropped_prompts(upper, Region(64, 64, 128, 128), (128, 128), (256, 256))
    assert found.options["area"] == (8, 16, 0, 0)  # the part's upper half
    (found,) = cropped_prompts(upper, Region(0, 0, 128, 128), (256, 256), (256, 256))
    assert found.options == {"area": (32, 32, 0, 0), "strength": 0.5}
    assert upper[0].options["area"][0] == "percentage"  # as it was


def test_a_prompt_whose_area_is_elsewhere_is_left_out_but_never_all() -> None:
    upper, plain = prompt(area=(8, 32, 0, 0), strength=0.5), prompt()
    below = Region(128, 0, 128, 256)
    assert [cond.options for cond in cropped_prompts([upper, plain], below, (128, 256), (256, 256))] == [{}]
    (found,) = cropped_prompts([upper], below, (128, 256), (256, 256))
    assert found.options == {"area": None, "strength": 1.0}


def test_masks_hints_and_latents_are_cut_to_the_part() -> None:
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(1, 64, 64, generator=generator)
    hint = torch.rand(2, 64, 64, 3, generator=generator)
    latent = torch.rand(1, 4, 32, 32, generator=generator)
    use = ControlUse(ControlNetValue(ControlPart.__new__(ControlPart)), hint, 0.7, mask=mask)
    cond = prompt(mask=mask, control=(use,), concat_latent_image=latent)
    (found,) = cropped_prompts([cond], Region(64, 128, 128, 128), (128, 128), (256, 256))
    cut = found.options["control"][0]
    assert cut.control is use.control and cut.strength == 0.7 and cut.hint.shape == (2, 128, 128, 3)
    assert torch.equal(cut.hint[:, ::4, ::4], hint[:, 16:48, 32:64])  # a fourth of the picture's size
    assert torch.equal(cut.hint[:, 3::4, 3::4], hint[:, 16:48, 32:64])
    torch.testing.assert_close(found.options["concat_latent_image"], latent[..., 8:24, 16:32])
    halves = found.options["mask"][:, 1::4, 1::4].lerp(found.options["mask"][:, 2::4, 2::4], 0.5)
    assert halves.shape == (1, 32, 32) and (halves - mask[:, 16:48, 32:64]).abs().mean() < 0.15
    torch.testing.assert_close(cut.mask, found.options["mask"])


def test_a_soft_edge_never_counts_more_than_whole() -> None:
    for job in tile_jobs(128, 128, (64, 64), "Linear", 16, 64):
        mask = whole_mask(job, 128, 128)
        assert mask.min() >= 0 and mask.max() <= 1 + 1e-5
    row = whole_mask(Job(Region(0, 0, 64, 128), "box", (64, 128), 64, 8), 128, 128)[:, 60]
    assert all(one >= other - 1e-6 for one, other in pairwise(row.tolist()))
    assert math.isclose(row[63:65].mean(), 0.5, abs_tol=0.01)
