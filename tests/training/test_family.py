"""What ships of the starter family does what it is for: a part of what `python -m training.report` measures."""

from __future__ import annotations

import pytest

from training import lora, styles
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
