"""Hypernetworks compute what the web UI's modules do, wherever the UNet makes keys and values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nodegraph.errors import FileProblem
from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.hypernetwork import Hypernetwork, read_hypernetwork
from nodes.diffusion.parametrisation import Parametrisation
from nodes.diffusion.patches import Start, started
from nodes.diffusion.schedules import model_sigmas
from nodes.diffusion.tweaks import Tweaks
from nodes.diffusion.unet import Attention, UNet

CONFIG = UNetConfig(
    in_channels=4, out_channels=4, model_channels=16, channel_mult=(1, 2), num_res_blocks=(1, 1),
    transformer_depth=(1, 1), middle_depth=1, context_dim=12, num_heads=4, head_channels=None, use_linear=False,
    norm_groups=8,
)  # fmt: skip
X = torch.randn((2, 4, 6, 8), generator=torch.Generator().manual_seed(1))
CONTEXT = torch.randn((2, 7, 12), generator=torch.Generator().manual_seed(2))
RUN = Start(CONFIG, Parametrisation(model_sigmas()), torch.tensor([1.0, 0.0]), lambda conds: [], torch.Generator)


def trained(width: int, structure: tuple[float, ...] = (1, 2, 1), seed: int = 0, **fields: Any) -> nn.Sequential:
    """A network as the web UI builds one, from what it stores."""
    torch.manual_seed(seed)
    activation = {None: None, "linear": None, "relu": nn.ReLU, "leakyrelu": nn.LeakyReLU, "elu": nn.ELU,
                  "swish": nn.Hardswish, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid,
                  "softsign": nn.Softsign}[fields.get("activation_func")]  # fmt: skip
    layers: list[nn.Module] = []
    for i in range(len(structure) - 1):
        layers.append(nn.Linear(int(width * structure[i]), int(width * structure[i + 1])))
        if activation and (i < len(structure) - 2 or fields.get("activate_output", True)):
            layers.append(activation())
        if fields.get("is_layer_norm"):
            norm = nn.LayerNorm(int(width * structure[i + 1]))
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
            layers.append(norm)
        if fields.get("use_dropout") and i < len(structure) - 3 + bool(fields.get("last_layer_dropout")):
            layers.append(nn.Dropout(0.3))
    return nn.Sequential(*layers).eval()


def saved(path: Path, pairs: dict[int, tuple[nn.Module, nn.Module]], **fields: Any) -> Path:
    def state(network: nn.Module) -> dict[str, Tensor]:
        return {f"linear.{name}": tensor.half() for name, tensor in network.state_dict().items()}

    content = {width: (state(key), state(value)) for width, (key, value) in pairs.items()}
    torch.save({**content, "step": 10, "name": "x", "sd_checkpoint": None, **fields}, path)
    return path


@pytest.mark.parametrize(
    "activation", [None, "linear", "relu", "leakyrelu", "elu", "swish", "tanh", "sigmoid", "softsign"]
)
def test_every_activation_is_the_one_of_the_web_ui(tmp_path: Path, activation: str | None) -> None:
    fields: dict[str, Any] = {"activation_func": activation, "activate_output": False}
    key, value = trained(12, seed=1, **fields), trained(12, seed=2, **fields)
    found = read_hypernetwork(saved(tmp_path / "h.pt", {12: (key, value)}, **fields))
    for own, network in zip(found[12], (key, value), strict=True):
        torch.testing.assert_close(own(CONTEXT), network(CONTEXT), rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize(
    "fields",
    [
        {"layer_structure": [1, 2, 2, 1], "is_layer_norm": True, "activate_output": False},
        {"layer_structure": [1, 2, 2, 1], "is_layer_norm": True, "activate_output": True},
        {"layer_structure": [1, 1.5, 3, 1], "use_dropout": True, "activate_output": False},
        {"layer_structure": [1, 2, 2, 1], "use_dropout": True, "last_layer_dropout": True, "is_layer_norm": True},
    ],
)
def test_norms_dropout_and_the_last_activation_are_where_they_were(tmp_path: Path, fields: dict[str, Any]) -> None:
    fields = {"activation_func": "relu", **fields}
    network = trained(12, tuple(fields["layer_structure"]), **{k: v for k, v in fields.items() if k[:5] != "layer"})
    (own, _) = read_hypernetwork(saved(tmp_path / "h.pt", {12: (network, network)}, **fields))[12]
    torch.testing.assert_close(own(CONTEXT), network(CONTEXT), rtol=1e-2, atol=5e-3)


def test_the_oldest_files_have_two_layers_by_other_names(tmp_path: Path) -> None:
    network = trained(12)
    names = {"0": "linear1", "1": "linear2"}
    state = {f"{names[name[0]]}{name[1:]}": tensor for name, tensor in network.state_dict().items()}
    torch.save({12: [state, state], "step": 1}, tmp_path / "h.pt")
    torch.testing.assert_close(read_hypernetwork(tmp_path / "h.pt")[12][1](CONTEXT), network(CONTEXT))


def hooked(unet: UNet, layers: list[tuple[dict[int, tuple[nn.Module, nn.Module]], float]]) -> Tensor:
    """The UNet with what keys and values are made of changed by hand, one file after the other."""

    def changed(side: int) -> Any:
        def hook(module: nn.Module, given: tuple[Tensor]) -> Tensor:
            (x,) = given
            for pairs, strength in layers:
                if x.shape[-1] in pairs:
                    x = x + strength * pairs[x.shape[-1]][side](x)
            return x

        return hook

    attentions = [module for module in unet.modules() if isinstance(module, Attention)]
    hooks = [
        part.register_forward_pre_hook(changed(i)) for at in attentions for i, part in enumerate((at.to_k, at.to_v))
    ]
    found = unet(X, torch.tensor([500.0, 20.0]), CONTEXT)
    for hook in hooks:
        hook.remove()
    return found


@torch.no_grad()
def test_all_attentions_are_changed_by_width_and_files_follow_one_another(tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet = UNet(CONFIG).eval()
    first: Any = {width: (trained(width, seed=width), trained(width, seed=width + 1)) for width in (12, 16, 320)}
    second: Any = {width: (trained(width, seed=width + 2), trained(width, seed=width + 3)) for width in (12, 32)}
    paths = [saved(tmp_path / f"{i}.pt", pairs) for i, pairs in enumerate((first, second))]
    patches = [
        Hypernetwork(path.name, str(path), "d", strength) for path, strength in zip(paths, (0.7, -1.5), strict=True)
    ]
    tweaks = started(patches, RUN).tweaks
    found = unet(X, torch.tensor([500.0, 20.0]), CONTEXT, tweaks=tweaks)
    torch.testing.assert_close(found, hooked(unet, [(first, 0.7), (second, -1.5)]), rtol=1e-2, atol=2e-3)
    assert not torch.allclose(found, unet(X, torch.tensor([500.0, 20.0]), CONTEXT), atol=0.05)
    assert tweaks != Tweaks() and started([Hypernetwork("a", "nowhere", "d", 0.0)], RUN).tweaks == Tweaks()


def test_one_of_another_model_names_both_widths(tmp_path: Path) -> None:
    path = saved(tmp_path / "h.pt", {width: (trained(width), trained(width)) for width in (24, 40)})
    message = "h.pt changes contexts of 24, 40 features and this model has those of 12, 16, 32"
    with pytest.raises(ValueError, match=message):
        Hypernetwork("h.pt", str(path), "d", 1.0).start(RUN)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"state_dict": {"a": torch.ones(1)}}, "is not a hypernetwork"),
        ([torch.ones(1)], "is not a hypernetwork"),
        ({12: ({}, {})}, "its network for 12 features maps others"),
        ({12: ({"conv.weight": torch.ones(1, 1)},) * 2}, "the tensor conv.weight is of no hypernetwork"),
        ({12: ({"linear.0.weight": torch.ones(12, 12)},) * 2}, "a layer lacks its weight or its bias"),
        ({12: ({"linear.0.weight": torch.ones(12, 12), "linear.0.bias": torch.ones(5)},) * 2}, "do not fit together"),
        ({12: ({"linear.0.weight": torch.ones(8, 8), "linear.0.bias": torch.ones(8)},) * 2}, "maps others"),
        ({12: ({}, {}), "activation_func": "snake"}, "its activation 'snake' is unknown; one of linear, relu"),
    ],
)
def test_other_files_are_refused_in_a_sentence(tmp_path: Path, content: Any, words: str) -> None:
    torch.save(content, tmp_path / "h.pt")
    with pytest.raises(FileProblem, match=f"^h.pt: .*{words}"):
        read_hypernetwork(tmp_path / "h.pt")
