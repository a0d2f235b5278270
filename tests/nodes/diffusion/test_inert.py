"""Checkpoints as pytorch-lightning wrote them are read without it; what would run is refused as ever."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nodegraph.errors import FileProblem
from nodes.diffusion.inert import Inert
from nodes.diffusion.weights import pickle_tensors, unpickled

LIGHTNING = "pytorch_lightning.callbacks.model_checkpoint"


class ModelCheckpoint:
    """What a file names by itself, as a key of its callbacks."""


class Harm:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("executed",)


def save(path: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Path:
    """Writes a checkpoint where pytorch-lightning is, which is then gone."""
    monkeypatch.setattr(ModelCheckpoint, "__module__", LIGHTNING)
    module = types.ModuleType(LIGHTNING)
    module.ModelCheckpoint = ModelCheckpoint  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        for name in ("pytorch_lightning", "pytorch_lightning.callbacks", LIGHTNING):
            patch.setitem(sys.modules, name, module)
        content = {
            "epoch": 3,
            "state_dict": {"a": torch.arange(4.0)},
            "callbacks": {ModelCheckpoint: {"best_model_score": torch.tensor(0.5), "dirpath": "logs"}},
            "optimizer_states": [
                {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": np.float64(1e-4)}]}
            ],
            "lr_schedulers": [{"base_lrs": [np.float64(1e-4)], "last_epoch": np.int64(7), "loss": np.float32(0.1)}],
        }
        torch.save(content | more, path, _use_new_zipfile_serialization=path.stem != "old")
    return path


@pytest.mark.parametrize("name", ["new.ckpt", "old.ckpt"])
def test_what_lightning_left_beside_the_tensors_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = save(tmp_path / name, monkeypatch)
    (tensor,) = pickle_tensors(path).values()
    assert torch.equal(tensor, torch.arange(4.0))
    found = unpickled(path, "is none")
    (callback,) = found["callbacks"]
    assert issubclass(callback, Inert) and callback is not ModelCheckpoint
    rate = found["lr_schedulers"][0]["base_lrs"][0]
    assert isinstance(rate, Inert) and vars(rate) == {}
    assert "pytorch_lightning" not in sys.modules


@pytest.mark.parametrize("place", ["callbacks", "optimizer_states"])
def test_what_would_run_is_refused_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    path = save(tmp_path / "bad.ckpt", monkeypatch, **{place: Harm()})
    with pytest.raises(FileProblem, match=r"^bad.ckpt: .*run code, which is refused"):
        pickle_tensors(path)
    assert capsys.readouterr().out == ""


def test_other_names_of_these_packages_are_refused(tmp_path: Path) -> None:
    for number, line in enumerate((b"cnumpy\nfromfile\n.", b"c_codecs\ndecode\n.", b"cpytorch_lightning\nTrainer\n.")):
        path = tmp_path / f"{number}.pt"
        path.write_bytes(b"\x80\x02" + line)
        with pytest.raises(FileProblem, match="run code, which is refused"):
            pickle_tensors(path)
