"""The classifier that measures is right itself."""

from __future__ import annotations

import random

import numpy as np
import torch

from training import judge
from training.scenes import random_scene, render
from training.text import ATTRIBUTES, labels


def test_it_tells_what_is_on_renders_it_never_saw() -> None:
    rng = random.Random("fresh")
    scenes = [random_scene(rng, held=None) for _ in range(300)]
    pictures = torch.from_numpy(np.stack([render(scene) for scene in scenes])).float() / 255
    told = judge.load().tell(pictures)
    for i, (name, values) in enumerate(ATTRIBUTES.items()):
        asked = [(labels(scene)[i], seen[name]) for scene, seen in zip(scenes, told, strict=True)]
        right = [values[wanted] == seen for wanted, seen in asked if wanted >= 0]
        assert sum(right) / len(right) > 0.97, name
