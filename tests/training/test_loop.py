"""A run that was stopped and taken up again ends as one that was not."""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from training import loop


class Line:
    """Learns y = 3 x + 1."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.net = nn.Linear(1, 1)
        self.modules = nn.ModuleDict({"net": self.net})
        self.stop_at = getattr(chosen, "stop_at", None)
        self.steps = 0

    def loss(self, progress: float, rng: random.Random) -> tuple[Tensor, Mapping[str, float]]:
        if self.steps == self.stop_at:
            raise KeyboardInterrupt
        self.steps += 1
        x = torch.randn(16, 1) + rng.random()
        loss = (self.net(x) - (3 * x + 1)).pow(2).mean()
        return loss, {"loss": loss.item()}

    def review(self) -> str:
        return f"weight {self.net.weight.item():.3f}"

    def finish(self, folder: Path) -> None:
        torch.save(self.net.state_dict(), folder / "line.pt")


def chosen(out: Path, **more: object) -> argparse.Namespace:
    settings = {"steps": 300, "batch": 16, "lr": 0.05, "seed": 0, "workers": 1, "device": "cpu", "out": out,
                "name": "line", "fresh": False, **more}  # fmt: skip
    return argparse.Namespace(**settings)


def result(out: Path) -> dict[str, Tensor]:
    return torch.load(out / "line" / "line.pt", weights_only=True)


def test_a_run_learns(tmp_path: Path) -> None:
    loop.run(chosen(tmp_path), Line)
    assert abs(result(tmp_path)["weight"].item() - 3) < 0.1
    assert "300/300" in (tmp_path / "line" / "log.txt").read_text("utf-8")


def test_a_stopped_run_goes_on_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop.run(chosen(tmp_path / "a"), Line)
    monkeypatch.setattr(loop, "_SAVE", -1)  # after every step
    with pytest.raises(KeyboardInterrupt):
        loop.run(chosen(tmp_path / "b", stop_at=120), Line)
    loop.run(chosen(tmp_path / "b"), Line)
    assert "goes on from step 120" in (tmp_path / "b" / "line" / "log.txt").read_text("utf-8")
    for name, value in result(tmp_path / "a").items():
        assert torch.equal(value, result(tmp_path / "b")[name])


def test_fresh_starts_anew_and_a_seed_changes_the_run(tmp_path: Path) -> None:
    loop.run(chosen(tmp_path, steps=20), Line)
    first = result(tmp_path)["weight"]
    loop.run(chosen(tmp_path, steps=20, fresh=True), Line)
    assert torch.equal(first, result(tmp_path)["weight"])
    loop.run(chosen(tmp_path, steps=20, fresh=True, seed=1), Line)
    assert not torch.equal(first, result(tmp_path)["weight"])


def test_two_workers_learn_one_model(tmp_path: Path) -> None:
    loop.run(chosen(tmp_path, workers=2), Line)
    assert abs(result(tmp_path)["weight"].item() - 3) < 0.1
    assert (tmp_path / "line" / "log.txt").read_text("utf-8").count("300/300") == 1
