"""What LoRA files call the layers they change, and the pieces they hold of each. No torch.

Behaviour as of ComfyUI's `comfy/lora.py`: for every layer of a model all names are made by which it may be known, so a
file may mix conventions. The names are those of kohya's trainers, of diffusers in several ages, of PEFT, of LyCORIS and
of the original files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from nodes.diffusion.keymap import UNET_ENDS, unet_modules

if TYPE_CHECKING:
    from nodes.diffusion.architecture import UNetConfig
    from nodes.diffusion.checkpoints import Part

Pieces = Mapping[str, str]  # what a tensor is to its layer (`up`, `alpha`) -> its name in the file

_UP_DOWN = ("lora_{}.weight", "lora.{}.weight", "lora_linear_layer.{}.weight")
_PLAIN = (
    "alpha", "dora_scale", "reshape_weight", "diff", "diff_b", "set_weight", "oft_blocks", "rescale",
    "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
    "lokr_w1", "lokr_w2", "lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b", "lokr_t2",
)  # fmt: skip
_PIECES: Mapping[str, str] = {  # how the name of a tensor ends, after its layer's
    **{"." + form.format(side): side for form in _UP_DOWN for side in ("up", "down")},
    "_lora.up.weight": "up", "_lora.down.weight": "down", ".lora_mid.weight": "mid",
    ".w_norm": "diff", ".b_norm": "diff_b",
    **{f".{side}.weight": side for side in ("a1", "a2", "b1", "b2")},
    **{f".{name}": name for name in _PLAIN},
}  # fmt: skip
# PEFT may put the name of the adapter (`default`) in between.
_PEFT = re.compile(r"\.lora_([AB])(?:\.(?!weight$)[^.]+)?(?:\.weight)?$")
_ENDING = re.compile("(?:" + "|".join(map(re.escape, sorted(_PIECES, key=len, reverse=True))) + ")$")
_TEXT = ("lora_te_", "lora_te1_", "lora_te2_", "text_encoder", "text_model.", "transformer.text_model.")
_FIRST = ("text_encoder.", "text_encoder.transformer.", "text_encoder.base_model.model.", "", "transformer.",
          "cond_stage_model.transformer.")  # fmt: skip
_SECOND = ("text_encoder_2.", "text_encoder_2.transformer.", "text_encoder_2.base_model.model.")
_OLD_ATTENTION = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


def pieces_of(names: Iterable[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Sorts the tensors of a file by layer, as the file names it: its pieces, and the tensors that are none."""
    layers: dict[str, dict[str, str]] = {}
    others: list[str] = []
    for name in names:
        if found := _ENDING.search(name):
            piece = _PIECES[found[0]]
        elif found := _PEFT.search(name):
            piece = {"A": "down", "B": "up"}[found[1]]
        else:
            others.append(name)
            continue
        layers.setdefault(name[: found.start()], {})[piece] = name
    return layers, others


def is_of_text_encoder(layer: str) -> bool:
    """Whether a file's name of a layer is that of one in a text encoder."""
    return layer.startswith(_TEXT)


def layer_names(part: Part[Any], tensors: Iterable[str]) -> dict[str, str]:
    """Every name by which LoRA files may know a layer of a part, with our tensor that holds its weight.

    Args:
        part: a UNet or a text encoder.
        tensors: its tensors, by our names.
    """
    tensors = list(tensors)
    return _unet_names(part.config, tensors) if part.role == "unet" else _clip_names(part, tensors)


def _unet_names(config: UNetConfig, tensors: list[str]) -> dict[str, str]:
    found = {f"diffusion_model.{name}": name for name in tensors if not name.endswith(".weight")}
    modules = [name.removesuffix(".weight") for name in tensors if name.endswith(".weight")]
    theirs: dict[str, list[str]] = {ours: [name] for ours, name in unet_modules(config, modules).items()}
    for name, ours in UNET_ENDS.items():  # some have two names in diffusers; blocks were dealt with
        if ours in modules:
            theirs.setdefault(ours, []).append(name)
    for module in modules:
        tensor = f"{module}.weight"
        for name in (f"diffusion_model.{module}", f"model.diffusion_model.{module}", _flat("lora_unet_", module)):
            found[name] = tensor
        for name in theirs.get(module, ()):
            found[_flat("lora_unet_", name)] = found[_flat("lycoris_", name)] = tensor
            old = name.replace(".to_", ".processor.to_")
            for start in ("", "unet.", "base_model.model.", "unet.base_model.model."):
                found[start + name] = found[start + old] = found[start + old.removesuffix(".0")] = tensor
    return found


def _clip_names(part: Part[Any], tensors: list[str]) -> dict[str, str]:
    is_second = part.role == "clip_g" and part.family == "sdxl"
    flat, dotted = (("lora_te2_",), _SECOND) if is_second else (("lora_te_", "lora_te1_"), _FIRST)
    found: dict[str, str] = {}
    for tensor in tensors:
        module = tensor.removesuffix(".weight")
        if module == tensor:
            continue
        head, _, last = module.rpartition(".")
        old = f"{head}.{_OLD_ATTENTION[last]}" if last in _OLD_ATTENTION else module
        found[f"text_encoders.{part.role}.transformer.{module}"] = tensor
        for start in flat:
            found[_flat(start, module)] = tensor
        for start in dotted:
            found[start + module] = found[start + old] = tensor
    return found


def _flat(start: str, module: str) -> str:
    return start + module.replace(".", "_")
