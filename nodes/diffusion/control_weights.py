"""Loads ControlNets and T2I-Adapters, also those whose weights start from a UNet's."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from nodegraph.errors import FileProblem, some_of
from nodes.diffusion.adapter import Adapter
from nodes.diffusion.control_files import NEEDS_UNET, AdapterConfig, ControlNetConfig, ControlPart, Kind, our_names
from nodes.diffusion.controlnet import ControlNet
from nodes.diffusion.headers import read_header
from nodes.diffusion.keymap import squeezed
from nodes.diffusion.weights import Recipe, read_tensors, recipe


def load_control(part: ControlPart, device: torch.device | str, dtype: torch.dtype) -> nn.Module:
    """Builds a ControlNet or T2I-Adapter, in evaluation mode, with its weights on `device` in `dtype`.

    A control-LoRA's weight is the UNet's own, with what the model's overlays make of it, plus `up @ down`; what it
    holds whole is taken as it is. Source: https://huggingface.co/stabilityai/control-lora and ComfyUI's `ControlLora`.

    Raises:
        FileProblem: tensors are missing or of other shapes, or the UNet is not the one it was made for.
    """
    where = Path(part.path).name
    if part.unet is None and part.kind in NEEDS_UNET:
        raise FileProblem(f"{where}: {NEEDS_UNET[part.kind]}")
    names = our_names(read_header(part.path).tensors)
    stored = {names[name]: tensor for name, tensor in read_tensors(part.path) if name in names}
    with torch.device("meta"):
        module = build(part.config)
    wanted = {name: tensor.shape for name, tensor in module.state_dict().items()}
    weights: dict[str, Tensor] = {}
    place = torch.device(device)
    with nullcontext() if part.unet is None else recipe(part.unet, device) as unet:
        for name, shape in wanted.items():
            found = stored.get(name) if unet is None else _based(name, shape, part.kind, stored, unet, place)
            if found is not None and squeezed(tuple(found.shape)) == squeezed(tuple(shape)):
                weights[name] = found.reshape(shape).to(device).to(dtype)
    if odd := [name for name in wanted if name not in weights]:
        whose = "" if part.unet is None else f" over the UNet of {Path(part.unet.path).name}"
        raise FileProblem(
            f"{where}: lacks {some_of(odd)}{whose}, or has other shapes there; it is incomplete or "
            "made for another model"
        )
    module.load_state_dict(weights, assign=True)
    return module.requires_grad_(False).eval()


def build(config: ControlNetConfig | AdapterConfig) -> nn.Module:
    """Makes the module that a configuration describes, with whatever weights torch gives it."""
    if isinstance(config, AdapterConfig):
        return Adapter(config)
    assert config.unet is not None  # of a control-LoRA: `ControlPart.over` has been there
    return ControlNet(config.unet, config.hint_channels, config.hint_widths, config.union)


def _based(
    name: str, shape: torch.Size, kind: Kind, stored: Mapping[str, Tensor], unet: Recipe, device: torch.device
) -> Tensor | None:
    """A tensor made from what is stored and from the UNet's own; None where they do not go together."""
    own = stored.get(name)
    own = None if own is None else own.to(device, torch.float32)
    base = unet.tensor(name) if name in unet.names and (own is None or kind == "difference") else None
    if base is not None and name == "input_blocks.0.0.weight":
        base = base[:, : shape[1]]  # the noisy latents come first
    if kind == "difference":
        return own if own is None or base is None else own + base if own.shape == base.shape else None
    own = base if own is None else own
    module, _, end = name.rpartition(".")
    up, down = (stored.get(f"{module}.{part}") for part in ("up", "down"))
    if own is None or end != "weight" or up is None or down is None:
        return own
    up, down = (part.to(device, torch.float32).flatten(1) for part in (up, down))
    if up.shape[1] != len(down) or len(up) * down.shape[1] != own.numel():
        return None
    return own + (up @ down).reshape(own.shape)
