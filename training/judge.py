"""A small classifier that tells what a picture shows: shapes, colours, background, size and place. Never sees a model.

python -m training.judge

Trained on renders alone, blurred, tinted, shifted and made noisy, so that it reads imperfect pictures too.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training import loop
from training.pool import VALIDATION, Pool
from training.text import ATTRIBUTES, labels

WEIGHTS = Path(__file__).parent / "judge.safetensors"
_SIDE = 64
_WIDTHS = (3, 24, 48, 72, 96)


class Judge(nn.Module):
    """Pictures [B, 3, 64, 64] in -1..1 to the scores of every attribute."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width, out, stride in zip(_WIDTHS, _WIDTHS[1:], (2, 2, 1, 2), strict=False):
            layers += [nn.Conv2d(width, out, 5 if width == 3 else 3, stride, 2 if width == 3 else 1),
                       nn.BatchNorm2d(out), nn.ReLU()]  # fmt: skip
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Dropout(0.2), nn.Linear(16 * _WIDTHS[-1], 160), nn.ReLU(),
            nn.Linear(160, sum(map(len, ATTRIBUTES.values()))),
        )  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The scores of each attribute, [B, values] each."""
        return self.head(self.features(x)).split([len(names) for names in ATTRIBUTES.values()], 1)

    @torch.no_grad()
    def tell(self, pictures: Tensor) -> list[dict[str, str]]:
        """What pictures [B, H, W, 3] in 0..1 show: a value for each attribute of `text.ATTRIBUTES`."""
        x = F.interpolate(pictures.movedim(-1, 1).float() * 2 - 1, (_SIDE, _SIDE), mode="area")
        guesses = [scores.argmax(1).tolist() for scores in self(x)]
        return [
            {name: values[guess] for (name, values), guess in zip(ATTRIBUTES.items(), row, strict=True)}
            for row in zip(*guesses, strict=True)
        ]


class JudgeJob:
    """The classifier."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.pool = Pool("judge", chosen.out)
        self.labels = torch.tensor([labels(scene) for scene in self.pool.scenes])
        self.judge = Judge()
        self.modules = nn.ModuleDict({"judge": self.judge})

    def loss(self, progress: float, rng: random.Random) -> tuple[Tensor, Mapping[str, float]]:
        """Cross entropy of the attributes of spoilt renders."""
        self.judge.train()
        numbers = [rng.randrange(16 * VALIDATION, len(self.pool)) for _ in range(loop.share(self.chosen))]
        x = _spoilt(_inputs(self.pool.pictures[numbers]), rng).to(self.chosen.device)
        truth = self.labels[numbers].to(self.chosen.device)
        total = sum((F.cross_entropy(scores, truth[:, i]) for i, scores in enumerate(self.judge(x))), x.new_zeros(()))
        return total, {"loss": total.item()}

    def review(self) -> str:
        """How often it is right on fresh renders."""
        self.judge.eval()
        truth = self.labels[: 16 * VALIDATION]
        scores = self.judge(_inputs(self.pool.pictures[: 16 * VALIDATION]).to(self.chosen.device))
        right = [(guess.argmax(1).cpu() == truth[:, i])[truth[:, i] >= 0].float().mean().item()
                 for i, guess in enumerate(scores)]  # fmt: skip
        return "  ".join(f"{name} {100 * value:.1f} %" for name, value in zip(ATTRIBUTES, right, strict=True))

    def finish(self, folder: Path) -> None:
        """Writes the classifier in half precision."""
        state = self.judge.state_dict()
        save_file({name: value.half().cpu() if value.is_floating_point() else value.cpu()
                   for name, value in state.items()}, folder / "judge.safetensors")  # fmt: skip


def _inputs(pictures: np.ndarray) -> Tensor:
    x = torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return F.interpolate(x, (_SIDE, _SIDE), mode="area")


def _spoilt(x: Tensor, rng: random.Random) -> Tensor:
    if rng.random() < 0.4:
        x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    dx, dy = rng.randint(-2, 2), rng.randint(-2, 2)
    x = torch.roll(F.pad(x, (2, 2, 2, 2), mode="replicate"), (dy, dx), (2, 3))[:, :, 2:-2, 2:-2]
    x = x * (1 + 0.08 * torch.randn(len(x), 1, 1, 1)) + 0.04 * torch.randn(len(x), 3, 1, 1)
    return x + torch.randn_like(x) * rng.choice([0, 0.03, 0.08])


def load(path: Path = WEIGHTS) -> Judge:
    """The trained classifier."""
    judge = Judge()
    judge.load_state_dict(load_file(path))
    return judge.float().eval()


if __name__ == "__main__":
    loop.run(loop.options("judge", steps=2000, batch=96, lr=2e-3), JudgeJob)
