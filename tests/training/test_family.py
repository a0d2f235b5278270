"""What ships of the starter family does what it is for: a part of what `python -m training.report` measures."""

from __future__ import annotations

import re

import pytest

from training import controlnet, embedding, hypernetwork, lora, styles
from training.export import SHIPPED
from training.frozen import Frozen
from training.report import MEASURES


@pytest.fixture
def frozen() -> Frozen:
    return Frozen()


def test_the_autoencoder_gives_fresh_renders_back(frozen: Frozen) -> None:
    line, _ = MEASURES["autoencoder"](frozen)
    assert float(line.split()[0]) > 34


def test_the_preview_decoder_shows_fresh_renders(frozen: Frozen) -> None:
    line, _ = MEASURES["preview"](frozen)
    assert float(line.split()[0]) > 28


@pytest.mark.parametrize("style", ["outlined", "striped"])
def test_a_lora_draws_in_its_style_at_1_and_not_at_0(
    frozen: Frozen, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(styles, "PROMPTS", styles.PROMPTS[:4])
    figures, _ = lora.measure(frozen, lora.load(SHIPPED[style], frozen.unet), style)
    assert figures[0.0] < figures[0.5] < figures[1.0]
    assert figures[1.0] > 4 * figures[0.0]


@pytest.mark.parametrize("name", ["controlnet", "adapter"])
def test_outlines_follow_the_edges_given(frozen: Frozen, name: str) -> None:
    with_it, without, _ = controlnet.measure(frozen, controlnet.load(SHIPPED[name]), 8)
    assert with_it > 0.6
    assert without < 0.35


def test_the_embedding_is_nearer_to_its_colour_than_any_word(frozen: Frozen) -> None:
    figures, _ = embedding.measure(frozen, embedding.load(SHIPPED["embedding"]))
    assert figures[embedding.NAME] < 0.9 * min(figures["yellow"], figures["green"])


def test_the_hypernetwork_flattens(frozen: Frozen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(styles, "PROMPTS", styles.PROMPTS[:4])
    before, after, _ = hypernetwork.measure(frozen, hypernetwork.load(SHIPPED["hypernetwork"], frozen.unet))
    assert after < 0.8 * before


def test_the_upscaler_beats_bicubic(frozen: Frozen) -> None:
    pytest.importorskip("spandrel")
    line, _ = MEASURES["upscaler"](frozen)
    ours, bicubic = re.findall(r"rendered ([\d.]+) dB, bicubic ([\d.]+)", line)[0]
    assert float(ours) > float(bicubic) + 2


def test_what_ships_beside_the_base_model_is_below_twenty_megabytes() -> None:
    assert sum(path.stat().st_size for name, path in SHIPPED.items() if name != "judge") < 20e6
