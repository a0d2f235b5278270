"""The renderer draws what a scene says."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from training.scenes import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    STYLES,
    Scene,
    Thing,
    is_held,
    random_scene,
    render,
    silhouette,
)


def thing(shape: str = "sphere", colour: str = "red", x: float = 0.0, radius: float = 0.46) -> Thing:
    return Thing(shape, colour, "medium", "center", False, x, 0.56, radius, 0.3)


def test_a_scene_is_drawn_the_same_each_time_and_at_any_size() -> None:
    scene = random_scene(random.Random(1))
    assert np.array_equal(render(scene), render(scene))
    assert render(scene, 192, 128).shape == (128, 192, 3)
    small, large = render(scene).astype(float), render(scene, 512).astype(float)
    shrunk = large.reshape(128, 4, 128, 4, 3).mean((1, 3))
    assert np.abs(small - shrunk).mean() < 2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("style", [None, *STYLES])
def test_a_shape_has_its_colour_where_it_is_and_the_background_elsewhere(shape: str, style: str | None) -> None:
    scene = Scene("white", (thing(shape, "red"),), 0.25, 0.0, style)
    picture = render(scene).astype(float)
    covered = silhouette(scene.things[0])
    redness = picture[..., 0] - picture[..., 1:].max(-1)
    assert redness[covered].mean() > (15 if style == "outlined" else 40)
    assert abs(redness[~covered]).mean() < 10


def test_a_cube_shows_three_faces_however_it_is_turned() -> None:
    for turn in (-1, -0.5, 0, 0.5, 1):
        scene = Scene("white", (replace(thing("cube"), turn=turn),), 0.25, 0.0)
        reds = render(scene)[silhouette(scene.things[0])][:, 0]
        shares = [((reds > low) & (reds <= high)).mean() for low, high in ((0, 130), (130, 185), (185, 255))]
        assert min(shares) > 0.1, (turn, shares)


def test_chosen_scenes_obey_what_was_asked() -> None:
    rng = random.Random(2)
    for _ in range(300):
        assert not any(is_held(item, scene.background) for scene in [random_scene(rng)] for item in scene.things)
        scene = random_scene(rng, held=True)
        assert any(is_held(item, scene.background) for item in scene.things)
        left, right = random_scene(rng, two=1, held=None).things
        assert left.x < right.x
        assert not silhouette(left)[silhouette(right)].any()
    assert len(random_scene(rng, two=0).things) == 1


def test_things_stay_inside_wide_and_tall_pictures() -> None:
    rng = random.Random(3)
    for width, height in ((128, 128), (192, 128), (128, 192)):
        for _ in range(100):
            for item in random_scene(rng, held=None, aspect=width / height).things:
                covered = silhouette(item, width, height)
                assert covered.any()
                edge = np.concatenate([covered[0], covered[-1], covered[:, 0], covered[:, -1]])
                assert not edge.any(), item


def test_every_colour_differs_from_every_background_it_stands_on() -> None:
    for name, colour in COLOURS.items():
        for ground, shade in BACKGROUNDS.items():
            if name != ground:
                assert np.abs(np.subtract(colour, shade)).max() > 0.2, (name, ground)
