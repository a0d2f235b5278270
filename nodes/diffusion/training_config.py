"""The YAML file that a checkpoint was trained with: what of it changes how the checkpoint is read. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from nodegraph.errors import FileProblem


class TrainingConfig(NamedTuple):
    """What a configuration says.

    Attributes:
        predicts_v: the UNet returns v.
        clip_layer: the layer of the text encoder that prompts are taken from, -1 the last; None where it says nothing.
    """

    predicts_v: bool
    clip_layer: int | None


def read_config(path: str | Path) -> TrainingConfig:
    """Reads `parameterization` and the text encoder's `layer_idx`, as ComfyUI's CheckpointLoader does.

    Raises:
        FileProblem: it cannot be read, or is no configuration of a model.
    """
    import yaml

    path = Path(path)
    try:
        params: Any = yaml.safe_load(path.read_text("utf-8"))["model"]["params"]
        layer = (params.get("cond_stage_config") or {}).get("params", {}).get("layer_idx")
        predicts_v = params.get("parameterization") == "v"
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise FileProblem(
            f"{path.name}: is no configuration of a model; expected YAML with `model:` and under it `params:`, such as "
            "v1-inference.yaml"
        ) from error
    if layer is not None and not (isinstance(layer, int) and layer < 0):
        raise FileProblem(f"{path.name}: its layer_idx is {layer!r}; expected a number below 0")
    return TrainingConfig(predicts_v, layer)
