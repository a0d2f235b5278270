"""Captions say what is in a scene, in words the text encoder has rows for."""

from __future__ import annotations

import random

import pytest
import torch

from nodes.diffusion.text import tokens_of
from training import captions, text
from training.scenes import BACKGROUNDS, COLOURS, SHAPES, Scene, Thing, random_scene

BALL = Thing("sphere", "red", "large", "left", True, -0.4, 0.5, 0.6, 0.0)
BOX = Thing("cube", "orange", "medium", "right", False, 0.4, 0.5, 0.3, 0.0)


def test_the_plain_caption_names_everything() -> None:
    assert captions.plain(Scene("orange", (BALL,), 0.2, 0)) == "a large red sphere on the left on an orange background"
    two = captions.plain(Scene("gray", (BALL, BOX), 0.2, 0))
    assert two == "a red sphere to the left of an orange cube on a gray background"


def test_captions_name_the_right_things_in_the_right_order() -> None:
    rng = random.Random(0)
    for _ in range(500):
        line = captions.caption(Scene("white", (BALL, BOX), 0.2, 0), rng)
        ball = min(line.find(word) % 1000 for word in captions.SHAPE_WORDS["sphere"])
        box = min(line.find(word) % 1000 for word in captions.SHAPE_WORDS["cube"])
        assert ball < 999 and box < 999, line
        assert (box < ball) == ("right of" in line), line


@pytest.mark.parametrize("language", captions.TONGUES)
def test_every_language_has_a_word_of_its_own_for_everything(language: str) -> None:
    tongue = captions.TONGUES[language]
    assert set(tongue.colours) == {*COLOURS, "gray"} == set(BACKGROUNDS)
    assert set(tongue.shapes) == set(SHAPES)
    assert len(set(tongue.colours.values())) == len(tongue.colours)
    assert len(set(tongue.shapes.values())) == len(tongue.shapes)
    line = captions.foreign(Scene("blue", (BALL,), 0.2, 0), language)
    assert tongue.colours["red"] in line and tongue.shapes["sphere"] in line and tongue.colours["blue"] in line


def test_the_encoder_has_a_row_for_every_token_of_captions_and_row_0_for_others() -> None:
    rng = random.Random(7)
    lines = [captions.caption(random_scene(rng, held=None), rng) for _ in range(300)]
    assert (text.tokens(lines, 77) > 0).all()
    assert text.tokens(["a dinosaur"], 8)[0].tolist().count(0) == len(tokens_of("dinosaur"))
    with_strangers = text.tokens(["a red ball"] * 200, 20, rng)
    assert 0 < (with_strangers == 0).any(1).float().mean() < 0.3


def test_the_table_of_49408_tokens_holds_the_small_one_and_zeros() -> None:
    small = text.small_encoder().text_model.embeddings.token_embedding.weight.detach()
    full = text.full_table(small)
    assert full.shape == (49408, 128)
    assert torch.equal(text.small_table(full), small)
    assert (full.abs().sum(1) > 0).sum() == len(text.vocabulary())


def test_a_token_never_trained_gets_no_gradient() -> None:
    model = text.small_encoder()
    model(text.tokens(["a red dinosaur"], 10)).hidden.sum().backward()
    grad = model.text_model.embeddings.token_embedding.weight.grad
    assert grad is not None and grad[0].abs().sum() == 0 and grad.abs().sum() > 0
