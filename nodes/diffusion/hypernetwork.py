"""Hypernetworks: small networks that change what the keys and values of every attention are made of.

Source: AUTOMATIC1111's web UI, `modules/hypernetworks/hypernetwork.py`, whose files these are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from nodegraph.errors import FileProblem
from nodes.diffusion.patches import Hooks, Patch, Start
from nodes.diffusion.tweaks import Tweaks
from nodes.diffusion.weights import unpickled

if TYPE_CHECKING:
    from nodes.diffusion.architecture import UNetConfig

Networks = Mapping[int, tuple[nn.Module, nn.Module]]
"""For keys and for values, by the width of what they change."""

_MORE = ("Hardshrink", "Hardsigmoid", "Hardtanh", "ReLU6", "CELU", "GELU", "LogSigmoid", "Mish", "RReLU", "SELU",
         "SiLU", "Softplus", "Softshrink", "Softsign", "Tanhshrink")  # fmt: skip
_ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity, "relu": nn.ReLU, "leakyrelu": nn.LeakyReLU, "elu": nn.ELU, "swish": nn.Hardswish,
    "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, **{name.lower(): getattr(nn, name) for name in _MORE},
}  # fmt: skip
_NAME = re.compile(r"linear\.?(\d+)\.(weight|bias)")  # the oldest files have linear1, linear2
_NOT_ONE = "is not a hypernetwork; expected a .pt file as AUTOMATIC1111's web UI saves them"


@dataclass(frozen=True, slots=True)
class Hypernetwork(Patch):
    """Adds to what keys and values are made of what its networks for that width make of it.

    Attributes:
        name: of its file.
        path: of its file.
        digest: of its content.
        strength: how much is added.
    """

    name: str
    path: str
    digest: str
    strength: float

    @override
    def start(self, run: Start) -> Hooks:
        if not self.strength:
            return Hooks()
        networks = read_hypernetwork(Path(self.path))
        widths = _widths(run.config)
        if not widths & networks.keys():
            raise ValueError(
                f"the hypernetwork {self.name} changes contexts of {_listed(networks)} features and this model has "
                f"those of {_listed(widths)}; use one made for this model"
            )

        @cache
        def at(width: int, device: torch.device, dtype: torch.dtype) -> tuple[nn.Module, ...]:
            return tuple(network.to(device, dtype) for network in networks[width])

        def change(for_keys: Tensor, for_values: Tensor) -> tuple[Tensor, Tensor]:
            width = for_keys.shape[-1]
            if width not in networks:
                return for_keys, for_values
            key, value = at(width, for_keys.device, for_keys.dtype)
            return for_keys + key(for_keys) * self.strength, for_values + value(for_values) * self.strength

        return Hooks(tweaks=Tweaks(contexts=(change,)))


def read_hypernetwork(path: Path) -> Networks:
    """The networks of a file, by torch's `weights_only`: nothing in it is executed.

    Raises:
        FileProblem: it is damaged, or none.
    """
    found = unpickled(path, _NOT_ONE)
    pairs = {width: pair for width, pair in found.items() if type(width) is int} if isinstance(found, dict) else {}
    if not pairs or not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs.values()):
        raise FileProblem(f"{path.name}: {_NOT_ONE}")
    activation = found.get("activation_func") or "linear"
    if activation not in _ACTIVATIONS:
        raise FileProblem(f"{path.name}: its activation {activation!r} is unknown; one of {', '.join(_ACTIVATIONS)} is")
    ends_active = bool(found.get("activate_output", True))  # as files from before this choice were trained

    def network(width: int, state: Any) -> nn.Sequential:
        layers = _layers(path, state, _ACTIVATIONS[activation], ends_active=ends_active)
        widths = [layer.weight.shape for layer in layers if isinstance(layer, nn.Linear)]
        if not widths or (widths[0][1], widths[-1][0]) != (width, width):
            raise FileProblem(f"{path.name}: its network for {width} features maps others; download it again")
        return nn.Sequential(*layers).requires_grad_(False).eval()

    return {width: (network(width, first), network(width, second)) for width, (first, second) in pairs.items()}


def _layers(path: Path, state: Any, activation: Callable[[], nn.Module], *, ends_active: bool) -> list[nn.Module]:
    """Linear layers, each with its activation, and the norm after it where there is one; dropout is of training."""
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items() if isinstance(state, dict) else ():
        match = _NAME.fullmatch(str(name))
        if match is None or not isinstance(tensor, Tensor) or tensor.ndim > 2:
            raise FileProblem(f"{path.name}: the tensor {name} is of no hypernetwork; {_NOT_ONE}")
        found.setdefault(int(match[1]), {})[match[2]] = tensor.float()
    if any(tensors.keys() != {"weight", "bias"} for tensors in found.values()):
        raise FileProblem(f"{path.name}: a layer lacks its weight or its bias; download it again")
    last = max((i for i, tensors in found.items() if tensors["weight"].ndim == 2), default=-1)
    layers: list[nn.Module] = []
    for i, tensors in sorted(found.items()):
        weight = tensors["weight"]
        with torch.device("meta"):
            layer = nn.Linear(weight.shape[1], weight.shape[0]) if weight.ndim == 2 else nn.LayerNorm(weight.shape)
        try:
            layer.load_state_dict(tensors, assign=True)
        except RuntimeError as error:
            raise FileProblem(f"{path.name}: its layers do not fit together; download it again") from error
        layers.append(layer)
        if weight.ndim == 2 and (ends_active or i != last):
            layers.append(activation())
    return layers


def _widths(config: UNetConfig) -> set[int]:
    """Of what the attentions of a UNet make keys and values of."""
    attended = zip(config.channel_mult, config.transformer_depth, strict=True)
    own = {config.model_channels * mult for mult, depth in attended if depth}
    return own | {config.model_channels * config.channel_mult[-1], config.context_dim}


def _listed(widths: Any) -> str:
    return ", ".join(map(str, sorted(widths)))
