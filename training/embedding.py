"""Trains a textual inversion: two vectors that stand for something the model can draw and has no word for.

python -m training.embedding

Source: Gal et al. 2022 (arXiv:2208.01618). What it learns is lime, a colour between the model's yellow and green.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training import base, captions, loop, scenes, starter, styles, text, vae
from training.frozen import Frozen, grid

NAME, COLOUR = "lime", (0.62, 0.84, 0.10)
_BACKGROUNDS = ("white", "black", "gray", "blue", "purple", "pink")
_COUNT = 800  # pictures
_SHAPES = ("sphere", "cube", "heart", "cylinder", "cone", "diamond")  # measured on these: their middle is covered


class EmbeddingJob:
    """The vectors."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.frozen = Frozen(chosen.starter, chosen.device)
        table = self.frozen.encoder.text_model.embeddings.token_embedding.weight
        start = [int(text.tokens([word], 3)[0, 1]) for word in ("yellow", "green")]
        self.vectors = nn.Parameter(table[start].mean(0, keepdim=True).repeat(chosen.vectors, 1))
        self.modules = nn.ModuleDict({"vectors": nn.ParameterList([self.vectors])})
        rng = random.Random("embedding")
        self.scenes = [_scene(rng) for _ in range(_COUNT)]
        scenes.COLOURS[NAME] = COLOUR  # known to renderer and captions from here on, not to the vocabulary
        captions.COLOUR_WORDS[NAME] = (NAME,)
        parts = [self.frozen.pictures(self.scenes[i : i + 50]) for i in range(0, _COUNT, 50)]
        self.latents = torch.cat([self.frozen.encode(part) for part in parts])

    def loss(self, progress: float, rng: random.Random) -> tuple[Tensor, Mapping[str, float]]:
        """The denoising error on lime things."""
        numbers = [rng.randrange(_COUNT) for _ in range(loop.share(self.chosen))]
        texts = [captions.caption(self.scenes[number], rng) for number in numbers]
        with loop.autocast(self.chosen):
            total = self.frozen.error(self.latents[numbers], encode(self.frozen, texts, self.vectors, 48))
        return total, {"loss": total.item()}

    def review(self) -> str:
        """How far from lime things are drawn with the vectors and with other words, and a picture."""
        figures, picture = measure(self.frozen, self.vectors)
        vae.save_picture(picture, self.chosen.out / self.chosen.name / "review.png")
        return "distance from lime: " + ", ".join(f"{word} {value:.3f}" for word, value in figures.items())

    def finish(self, folder: Path) -> None:
        """Writes the vectors as other tools keep them."""
        tensors = {"emb_params": self.vectors.detach().half().cpu().contiguous()}
        save_file(tensors, folder / f"{self.chosen.name}.safetensors", {"modelspec.license": "Apache-2.0"})


def load(path: Path) -> Tensor:
    """The vectors of a file, [n, D]."""
    return load_file(path)["emb_params"].float()


def encode(frozen: Frozen, texts: Sequence[str], vectors: Tensor, length: int) -> Tensor:
    """Encodes texts [B, length, D] in which the name stands for the vectors."""
    model = frozen.encoder.text_model
    table = model.embeddings.token_embedding
    lines: list[Tensor] = []
    for line in texts:
        before, _, after = line.partition(NAME)
        head, tail = (text.tokens([part], length)[0].to(frozen.device) for part in (before, after))
        if NAME not in line:
            lines.append(table(head))
            continue
        count = int((head == head[-1]).int().argmax())  # up to its first end
        lines.append(torch.cat([table(head[:count]), vectors, table(tail[1 : length - count - len(vectors) + 1])]))
    x = torch.stack(lines) + model.embeddings.position_embedding.weight[:length]
    return model.final_layer_norm(model.encoder(x)[-1])


@torch.no_grad()
def measure(frozen: Frozen, vectors: Tensor) -> tuple[dict[str, float], Tensor]:
    """How far the tint of things is from lime, by the word in the prompt; a picture with a row for each word."""
    rows: dict[str, Tensor] = {}
    for word in (NAME, "yellow", "green"):
        texts = [f"a large {word} {shape} on a white background" for shape in _SHAPES]
        context = encode(frozen, [""] * len(texts) + texts, vectors, 77)
        rows[word] = frozen.decode(base.ddim(frozen.unet, context, seed=0))
    target = _tint(torch.tensor(COLOUR))
    distances = {word: (_tint(styles.middle(row / 2 + 0.5)) - target).norm(dim=1).mean().item()
                 for word, row in rows.items()}  # fmt: skip
    return distances, grid(*rows.values())


def _scene(rng: random.Random) -> scenes.Scene:
    """A scene whose first thing is lime."""
    while True:
        scene = scenes.random_scene(rng, two=0.2)
        if scene.background in _BACKGROUNDS:
            return replace(scene, things=(replace(scene.things[0], colour=NAME), *scene.things[1:]))


def _tint(colour: Tensor) -> Tensor:
    """A colour without its brightness."""
    return colour / colour.norm(dim=-1, keepdim=True)


if __name__ == "__main__":
    loop.run(
        loop.options("embedding", steps=250, batch=32, lr=5e-3, vectors=2, starter=str(starter.STARTER)), EmbeddingJob
    )
