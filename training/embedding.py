"""Trains a textual inversion: two vectors that stand for something the model can draw and has no word for.

python -m training.embedding

Source: Gal et al. 2022 (arXiv:2208.01618). What it learns is lime, a colour between the model's yellow and green.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from training import base, captions, loop, scenes, starter, styles, text
from training.frozen import Frozen

LIME = (0.62, 0.84, 0.10)
_WORD = "lime"
_BACKGROUNDS = ("white", "black", "gray", "blue", "purple", "pink")


class EmbeddingJob:
    """The vectors."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.frozen = Frozen(chosen)
        table = self.frozen.encoder.text_model.embeddings.token_embedding.weight
        start = [text.tokens([word], 3)[0, 1].item() for word in ("yellow", "green")]
        self.vectors = nn.Parameter(table[start].mean(0, keepdim=True).repeat(chosen.vectors, 1))
        self.modules = nn.ModuleDict({"vectors": nn.ParameterList([self.vectors])})
        rng = random.Random("embedding")
        self.scenes = [_lime_scene(rng) for _ in range(1500)]
        scenes.COLOURS[_WORD] = LIME  # known to renderer and captions from here on, not to the vocabulary
        captions.COLOUR_WORDS[_WORD] = (_WORD,)
        parts = [self.frozen.encode(self.frozen.pictures(self.scenes[i : i + 50])) for i in range(0, 1500, 50)]
        self.values = torch.cat(parts)

    def loss(self, progress: float, rng: random.Random) -> tuple[Tensor, Mapping[str, float]]:
        """The denoising error on lime things."""
        numbers = [rng.randrange(len(self.scenes)) for _ in range(loop.share(self.chosen))]
        with loop.autocast(self.chosen):
            context = self.context([captions.caption(self.scenes[number], rng) for number in numbers])
            total = self.frozen.error(self.values[numbers], context)
        return total, {"loss": total.item()}

    def context(self, texts: list[str], length: int = 48) -> Tensor:
        """Encodes texts in which the word stands for the vectors."""
        model = self.frozen.encoder.text_model
        states: list[Tensor] = []
        for line in texts:
            before, _, after = line.partition(_WORD)
            head = text.tokens([before], length)[0]
            count = int((head == head[-1]).int().argmax())  # up to its first end
            tail = text.tokens([after], length)[0][1 : length - count - self.chosen.vectors + 1]
            table = model.embeddings.token_embedding
            states.append(torch.cat([table(head[:count]), self.vectors, table(tail)]))
        x = torch.stack(states) + model.embeddings.position_embedding.weight[:length]
        for layer in model.encoder.layers:
            x = layer(x)
        return model.final_layer_norm(x)

    def review(self) -> str:
        """How far from lime things are drawn: with the vectors, with "yellow" and with "green"."""
        shown = {}
        names = [f"a large {{}} {shape} on a white background" for shape in ("sphere", "cube", "heart", "cylinder")]
        for word in (_WORD, "yellow", "green"):
            texts = [name.format(word) for name in names]
            context = torch.cat([self.context([""] * len(texts), 77), self.context(texts, 77)])
            shown[word] = _sample(self.frozen, context)
        self.frozen.show("review", *shown.values())
        middle = torch.zeros(len(names), 128, 128, dtype=torch.bool)
        middle[:, 56:80, 56:72] = True
        target = torch.tensor(LIME)
        return "distance from lime: " + ", ".join(
            f"{word} {(_tint(styles.hue(row / 2 + 0.5, middle)) - _tint(target)).norm(dim=1).mean():.3f}"
            for word, row in shown.items())  # fmt: skip

    def finish(self, folder: Path) -> None:
        """Writes the vectors as other tools keep them."""
        save_file({"emb_params": self.vectors.detach().half().cpu().contiguous()},
                  folder / f"{self.chosen.name}.safetensors", {"modelspec.license": "Apache-2.0"})  # fmt: skip


def _lime_scene(rng: random.Random) -> scenes.Scene:
    """A scene whose first thing is lime."""
    while True:
        scene = scenes.random_scene(rng, two=0.2)
        if scene.background in _BACKGROUNDS:
            first = replace(scene.things[0], colour=_WORD)
            return replace(scene, things=(first, *scene.things[1:]))


def _tint(colour: Tensor) -> Tensor:
    """A colour without its brightness."""
    return colour / colour.norm(dim=-1, keepdim=True)


def _sample(frozen: Frozen, context: Tensor) -> Tensor:
    """Samples from encoded prompts: the first half without, the second with them."""

    class Given(nn.Module):
        def forward(self, rows: Tensor) -> object:
            hidden = torch.cat([context[:1], context[len(context) // 2 :]])
            return type("Encoded", (), {"hidden": hidden})

    return base.sample(frozen.unet, Given(), frozen.vae, [""] * (len(context) // 2), seed=0)


if __name__ == "__main__":
    loop.run(loop.options("embedding", steps=300, batch=32, lr=5e-3, vectors=2, starter=str(starter.STARTER)),
             EmbeddingJob)  # fmt: skip
