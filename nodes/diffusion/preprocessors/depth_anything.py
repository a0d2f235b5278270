"""Depth Anything (Yang et al. 2024) from its original files, read into the model of transformers.

Names as in https://github.com/DepthAnything/Depth-Anything-V2, `depth_anything_v2/dpt.py` (Apache-2.0), and
transformers' `convert_depth_anything_to_hf.py` (Apache-2.0).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from nodegraph.errors import FileProblem
from nodes.diffusion.file_weights import FileWeights
from nodes.diffusion.weights import read_tensors

if TYPE_CHECKING:
    from nodegraph.types import FileRef

_RENAMES = tuple(
    (re.compile(old), new)
    for old, new in (
        (r"^pretrained\.(cls|mask)_token$", r"backbone.embeddings.\1_token"),
        (r"^pretrained\.pos_embed$", r"backbone.embeddings.position_embeddings"),
        (r"^pretrained\.patch_embed\.proj\.", r"backbone.embeddings.patch_embeddings.projection."),
        (r"^pretrained\.norm\.", r"backbone.layernorm."),
        (r"^pretrained\.blocks\.(\d+)\.ls([12])\.gamma$", r"backbone.encoder.layer.\1.layer_scale\2.lambda1"),
        (r"^pretrained\.blocks\.(\d+)\.attn\.proj\.", r"backbone.encoder.layer.\1.attention.output.dense."),
        (r"^pretrained\.blocks\.(\d+)\.(norm[12]|mlp\.fc[12])\.", r"backbone.encoder.layer.\1.\2."),
        (r"^depth_head\.projects\.(\d)\.", r"neck.reassemble_stage.layers.\1.projection."),
        (r"^depth_head\.resize_layers\.(\d)\.", r"neck.reassemble_stage.layers.\1.resize."),
        (r"\.resConfUnit([12])\.conv([12])\.", r".residual_layer\1.convolution\2."),
        (r"^depth_head\.scratch\.output_conv1\.", r"head.conv1."),
        (r"^depth_head\.scratch\.output_conv2\.0\.", r"head.conv2."),
        (r"^depth_head\.scratch\.output_conv2\.2\.", r"head.conv3."),
        (r"\.out_conv\.", r".projection."),
    )
)
_QKV = re.compile(r"^pretrained\.blocks\.(\d+)\.attn\.qkv\.(weight|bias)$")
_LEVEL = re.compile(r"^depth_head\.scratch\.(?:layer(\d)_rn|refinenet(\d))\.")
_TAPS = {24: (5, 12, 18, 24)}  # of version 2, where they are not spread evenly
_PIXELS = 14  # of a patch


@dataclass(frozen=True, slots=True)
class DepthAnythingPart(FileWeights):
    """The weights of an original file, as the engine loads models.

    Attributes:
        version: 1 looks at the last four layers, 2 at layers all the way up; the files do not tell.
    """

    file: FileRef
    version: Literal[1, 2]

    @property
    def fingerprint(self) -> str:
        """Equal for equal weights."""
        return f"depth-anything-{self.version}-{self.file.digest}"

    def load(self, device: torch.device, dtype: torch.dtype, variants: Sequence[Any] = ()) -> Any:
        """The model, with its preprocessing as `processor`. Raises FileProblem when the file holds another."""
        from transformers import DepthAnythingForDepthEstimation, DPTImageProcessor
        from transformers.utils import logging

        tensors = dict(read_tensors(self.file.path))
        wrong = f"{self.file.name} is no Depth Anything; expected a file such as depth_anything_v2_vitl.pth"
        try:
            config = _config(tensors, self.version)
            state = _renamed(tensors)
            logging.disable_progress_bar()
            make: Any = DepthAnythingForDepthEstimation.from_pretrained
            model, told = make(None, config=config, state_dict=state, output_loading_info=True)
        except (KeyError, RuntimeError, ValueError) as error:
            raise FileProblem(wrong) from error
        if told["missing_keys"]:
            raise FileProblem(f"{wrong}; it lacks {min(told['missing_keys'])}")
        side = config.backbone_config.image_size
        model.processor = DPTImageProcessor(
            size={"height": side, "width": side}, keep_aspect_ratio=True, ensure_multiple_of=_PIXELS, resample=3,
            image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225],
        )  # fmt: skip
        return model.to(device, dtype).requires_grad_(False).eval()


def _config(tensors: Mapping[str, Tensor], version: int) -> Any:
    from transformers import DepthAnythingConfig, Dinov2Config

    hidden = tensors["pretrained.cls_token"].shape[-1]
    layers = len({name.split(".")[2] for name in tensors if name.startswith("pretrained.blocks.")})
    even = tuple(layers * i // 4 for i in (1, 2, 3, 4))
    taps = _TAPS.get(layers, even) if version == 2 else tuple(range(layers - 3, layers + 1))
    side = _PIXELS * round((tensors["pretrained.pos_embed"].shape[1] - 1) ** 0.5)
    make: Any = Dinov2Config
    backbone = make(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=hidden // 64, image_size=side,
        patch_size=_PIXELS, out_indices=list(taps), apply_layernorm=True, reshape_hidden_states=False,
    )  # fmt: skip
    return DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=hidden, patch_size=_PIXELS,
        neck_hidden_sizes=[len(tensors[f"depth_head.projects.{i}.weight"]) for i in range(4)],
        fusion_hidden_size=len(tensors["depth_head.scratch.layer1_rn.weight"]),
        head_hidden_size=len(tensors["depth_head.scratch.output_conv2.0.weight"]),
    )  # fmt: skip


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        joined = _QKV.match(name)
        if joined is None:
            found[_name(name)] = tensor
            continue
        for role, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
            found[f"backbone.encoder.layer.{joined[1]}.attention.attention.{role}.{joined[2]}"] = part.clone()
    return found


def _name(name: str) -> str:
    name = _LEVEL.sub(
        lambda m: f"neck.convs.{int(m[1]) - 1}." if m[1] else f"neck.fusion_stage.layers.{4 - int(m[2])}.", name
    )
    for pattern, new in _RENAMES:
        name = pattern.sub(new, name)
    return name
