"""The text encoder, warmed up by telling a scene's attributes from its caption: no pictures, and the labels are free.

python -m training.text

While training, the encoder has rows for the tokens of the captions alone; every other token of CLIP's vocabulary shares
row 0, which stays zero. `full_table` spreads them over CLIP's 49,408 rows.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nodes.diffusion.architecture import ClipConfig
from nodes.diffusion.clip import END, ClipTextModel
from nodes.diffusion.text import START, tokens_of
from training import captions, loop
from training.scenes import BACKGROUNDS, COLOURS, PLACES, SHAPES, SIZES, Scene, random_scene

CONFIG = ClipConfig(hidden=128, layers=3, heads=4, intermediate=512)
ATTRIBUTES = {
    "shape left": [*SHAPES, "none"], "shape right": [*SHAPES, "none"],
    "colour left": [*COLOURS, "none"], "colour right": [*COLOURS, "none"],
    "background": list(BACKGROUNDS), "size": list(SIZES), "place": list(PLACES),
}  # fmt: skip
_UNKNOWN = 0  # the row of all tokens never trained


@cache
def vocabulary() -> tuple[int, ...]:
    """CLIP's ids of all tokens the captions use; an id's row in the small table is its place here, plus 1."""
    words = {word for table in (captions.COLOUR_WORDS, captions.SHAPE_WORDS, captions.SIZE_WORDS)
             for group in table.values() for word in group}  # fmt: skip
    words |= {*captions.PRAISE}
    words |= {word for group in captions.MATERIAL_WORDS.values() for word in group}
    words |= {captions.foreign(scene, tongue) for tongue in captions.TONGUES for scene in _every_word()}
    rng = random.Random(0)
    words |= {captions.caption(random_scene(rng, held=None), rng) for _ in range(4000)}
    return tuple(sorted({START, END, *(token for word in words for token in tokens_of(word))}))


def _every_word() -> list[Scene]:
    """Scenes of one thing in which every colour, shape and background occurs."""
    rng = random.Random(1)
    return [random_scene(rng, two=0, held=None) for _ in range(500)]


@cache
def _rows() -> dict[int, int]:
    return {token: row for row, token in enumerate(vocabulary(), 1)}


def tokens(texts: Sequence[str], length: int, rng: random.Random | None = None) -> Tensor:
    """Rows of texts [B, length], padded as CLIP's; with `rng`, unknown words are strewn in at times."""
    rows = _rows()
    batch: list[list[int]] = []
    for text in texts:
        line = [rows.get(token, _UNKNOWN) for token in tokens_of(text)]
        if rng is not None and line and rng.random() < 0.1:
            at = rng.choice([0, len(line), rng.randrange(len(line))])
            line[at:at] = [_UNKNOWN] * rng.randint(1, 5)
        line = [rows[START], *line[: length - 2]]
        batch.append(line + [rows[END]] * (length - len(line)))
    return torch.tensor(batch)


def small_encoder() -> ClipTextModel:
    """An untrained encoder with rows for the captions' tokens."""
    model = ClipTextModel(replace(CONFIG, vocab=len(vocabulary()) + 1))
    embeddings = model.text_model.embeddings
    embeddings.token_embedding.padding_idx = _UNKNOWN  # no gradient reaches this row
    nn.init.normal_(embeddings.token_embedding.weight, std=0.02)
    nn.init.normal_(embeddings.position_embedding.weight, std=0.01)
    with torch.no_grad():
        embeddings.token_embedding.weight[_UNKNOWN] = 0
    return model


def full_table(rows: Tensor) -> Tensor:
    """The small table's rows at their places among CLIP's; all others are zero. [49408, D]."""
    table = rows.new_zeros(CONFIG.vocab, rows.shape[1])
    table[list(vocabulary())] = rows[1:]
    return table


def small_table(rows: Tensor) -> Tensor:
    """The inverse of `full_table`."""
    return torch.cat([rows.new_zeros(1, rows.shape[1]), rows[list(vocabulary())]])


def labels(scene: Scene) -> list[int]:
    """The number of each attribute's value; -100 where it has none."""
    first = scene.things[0]
    second = scene.things[1] if len(scene.things) == 2 else None
    values = (
        first.shape, second.shape if second else "none", first.colour, second.colour if second else "none",
        scene.background, None if second else first.size, None if second else first.place,
    )  # fmt: skip
    return [-100 if value is None else names.index(value)
            for value, names in zip(values, ATTRIBUTES.values(), strict=True)]  # fmt: skip


class TextJob:
    """The encoder and a linear reader of its last state."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.encoder = small_encoder()
        self.reader = nn.Linear(CONFIG.hidden, sum(map(len, ATTRIBUTES.values())))
        self.modules = nn.ModuleDict({"text": self.encoder, "reader": self.reader})

    def loss(self, progress: float, rng: random.Random) -> tuple[Tensor, Mapping[str, float]]:
        """Cross entropy of the attributes."""
        total, right = self._read(loop.share(self.chosen), rng)
        return total, {"loss": total.item(), "right": sum(right) / len(right)}

    def review(self) -> str:
        """How often each attribute is told; the rest is mostly what captions leave out."""
        _, right = self._read(2000, random.Random("review"))
        return "  ".join(f"{name} {100 * value:.0f} %" for name, value in zip(ATTRIBUTES, right, strict=True))

    def finish(self, folder: Path) -> None:
        """Writes the encoder."""
        save_file(self.encoder.state_dict(), folder / "text.safetensors")

    def _read(self, count: int, rng: random.Random) -> tuple[Tensor, list[float]]:
        scenes = [random_scene(rng) for _ in range(count)]
        rows = tokens([captions.caption(scene, rng) for scene in scenes], 48, rng).to(self.chosen.device)
        truth = torch.tensor([labels(scene) for scene in scenes], device=self.chosen.device)
        ends = (rows == _rows()[END]).int().argmax(1)
        ends = (ends + torch.randint(0, 6, ends.shape, device=ends.device)).clamp(max=rows.shape[1] - 1)
        with loop.autocast(self.chosen):
            states = self.encoder(rows).hidden.float()
        guesses = self.reader(states[torch.arange(count), ends]).split([len(names) for names in ATTRIBUTES.values()], 1)
        total = sum((F.cross_entropy(guess, truth[:, i]) for i, guess in enumerate(guesses)), states.new_zeros(()))
        right = [(guess.argmax(1) == truth[:, i])[truth[:, i] >= 0].float().mean().item()
                 for i, guess in enumerate(guesses)]  # fmt: skip
        return total, right


def load(path: Path) -> ClipTextModel:
    """A trained small encoder."""
    model = small_encoder()
    model.load_state_dict(load_file(path))
    return model


if __name__ == "__main__":
    loop.run(loop.options("text", steps=400, batch=256, lr=2e-3), TextJob)
