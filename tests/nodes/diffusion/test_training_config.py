"""The YAML files that lie beside old checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodegraph.errors import FileProblem
from nodes.diffusion.training_config import TrainingConfig, read_config

V2 = """
model:
  base_learning_rate: 1.0e-4
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    parameterization: "v"
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
    cond_stage_config:
      target: ldm.modules.encoders.modules.FrozenOpenCLIPEmbedder
      params: {freeze: True, layer: "penultimate"}
"""
SKIP = """
model:
  params:
    cond_stage_config:
      target: ldm.modules.encoders.modules.FrozenCLIPEmbedder
      params: {layer: "hidden", layer_idx: -2}
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (V2, TrainingConfig(True, None)),
        (SKIP, TrainingConfig(False, -2)),
        ("model: {params: {cond_stage_config: {target: a}}}", TrainingConfig(False, None)),
        ("model: {params: {parameterization: eps}}", TrainingConfig(False, None)),
    ],
)
def test_it_says_what_the_unet_predicts_and_the_layer_of_prompts(
    tmp_path: Path, text: str, expected: TrainingConfig
) -> None:
    (tmp_path / "a.yaml").write_text(text, "utf-8")
    assert read_config(tmp_path / "a.yaml") == expected


@pytest.mark.parametrize("text", ["", "model: 3", "a: [", "{}", "- 1", "model: {params: {cond_stage_config: 3}}"])
def test_another_file_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text, "utf-8")
    with pytest.raises(FileProblem, match=r"^a.yaml: is no configuration of a model; expected YAML"):
        read_config(tmp_path / "a.yaml")


def test_nothing_in_it_is_executed_and_a_senseless_layer_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("model: !!python/object/apply:os.getcwd []", "utf-8")
    with pytest.raises(FileProblem, match="is no configuration"):
        read_config(path)
    path.write_text(SKIP.replace("-2", "seven"), "utf-8")
    with pytest.raises(FileProblem, match="its layer_idx is 'seven'; expected a number below 0"):
        read_config(path)
