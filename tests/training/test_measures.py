"""The image analysis that the starter family is judged by, on renders whose truth is known."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from training import controlnet, styles
from training.edges import edges
from training.scenes import COLOURS, Scene, random_scene, render


def pictures(scenes: list[Scene]) -> Tensor:
    return torch.from_numpy(np.stack([render(scene) for scene in scenes])).permute(0, 3, 1, 2).float() / 255


def in_style(style: str | None, count: int = 24) -> Tensor:
    rng = random.Random(4)
    scenes = [random_scene(rng) for _ in range(4 * count)]
    light = [scene for scene in scenes if "black" not in (scene.background, *(thing.colour for thing in scene.things))]
    return pictures([replace(scene, style=style) for scene in light[:count]])


def test_each_measure_tells_its_style_from_the_others() -> None:
    plain = in_style(None)
    assert styles.darkness(in_style("outlined")).mean() > 3 * styles.darkness(plain).mean()
    assert styles.stripes(in_style("striped")).mean() > 3 * styles.stripes(plain).mean()
    assert styles.roundness(in_style("flat")).mean() < 0.8 * styles.roundness(plain).mean()


def test_edges_are_thin_and_lie_between_two_colours() -> None:
    picture = torch.zeros(1, 3, 32, 32)
    picture[:, 0], picture[:, 1, :, 16:] = 0.5, 0.7
    lines = edges(picture)
    assert lines[0, 0, :, 14:18].sum(1).tolist() == [1.0] * 32
    assert lines[0, 0, :, :13].sum() == 0 and lines[0, 0, :, 19:].sum() == 0


def test_a_weak_edge_counts_where_it_goes_on_from_a_strong_one() -> None:
    picture = torch.zeros(1, 3, 32, 32)
    picture[..., 16:] = torch.linspace(1.0, 0.2, 32).view(32, 1)  # fades downwards
    joined = edges(picture, 0.05, 0.4)
    alone = edges(picture[..., 24:, :], 0.05, 0.4)
    assert joined[0, 0, 24:].sum() > 5
    assert alone.sum() == 0


def test_the_same_outlines_in_other_colours_overlap_and_other_scenes_do_not() -> None:
    rng = random.Random(0)
    scenes = [random_scene(rng, two=0.4) for _ in range(12)]
    recoloured = [
        replace(scene, things=tuple(replace(thing, colour=rng.choice(list(COLOURS))) for thing in scene.things))
        for scene in scenes
    ]
    hint = controlnet.hints(pictures(scenes) * 2 - 1)
    same = controlnet.iou(pictures(recoloured) * 2 - 1, hint)
    others = controlnet.iou(pictures(recoloured[1:] + recoloured[:1]) * 2 - 1, hint)
    assert same > 0.7
    assert others < 0.35
