"""What is trained over the frozen model: changes nothing at strength 0, and comes back from its file as it was."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nodes.diffusion.unet import UNet
from nodes.diffusion.vae import AutoencoderKL
from training import base, controlnet, embedding, hypernetwork, lora, starter, text, vae
from training.frozen import Frozen


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A starter checkpoint of random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("random") / "random.safetensors"
    networks = UNet(base.CONFIG), text.small_encoder(), AutoencoderKL(vae.CONFIG)
    starter.write(*(network.state_dict() for network in networks), path)
    return path


@pytest.fixture
def frozen(checkpoint: Path) -> Frozen:
    return Frozen(checkpoint)


def options(**more: object) -> argparse.Namespace:
    return argparse.Namespace(**{"name": "it", "device": "cpu", "rank": 4, "steps": 3, "style": "striped", **more})


@torch.no_grad()
def guess(frozen: Frozen, guide: controlnet.Guide | None = None) -> Tensor:
    torch.manual_seed(1)
    x, t, context = torch.randn(2, 4, 16, 16), torch.tensor([100, 900]), frozen.context(["a red ball", ""])
    return frozen.unet(x, t, context, control=guide(x, t, context) if guide else None)


def shaken(module: torch.nn.Module) -> None:
    """As if it had been trained."""
    torch.manual_seed(2)
    with torch.no_grad():
        for value in module.parameters():
            value += 0.05 * torch.randn_like(value)


def test_nothing_of_the_frozen_model_learns(frozen: Frozen) -> None:
    assert not any(
        value.requires_grad for part in (frozen.unet, frozen.encoder, frozen.vae) for value in part.parameters()
    )


def test_a_lora_is_nothing_at_0_and_itself_again_from_its_file(
    frozen: Frozen, checkpoint: Path, tmp_path: Path
) -> None:
    before = guess(frozen)
    made = lora.Lora(frozen.unet, 4)
    assert torch.equal(guess(frozen), before)  # untrained
    shaken(made)
    after = guess(frozen)
    made.scaled(0)
    assert torch.equal(guess(frozen), before)
    assert not torch.allclose(after, before, atol=1e-3)
    job = lora.LoraJob.__new__(lora.LoraJob)
    job.chosen, job.lora = options(), made
    job.finish(tmp_path)
    other = Frozen(checkpoint)
    lora.load(tmp_path / "it.safetensors", other.unet)
    torch.testing.assert_close(guess(other), after, rtol=1e-2, atol=1e-2)


def test_a_lora_goes_by_kohyas_names(frozen: Frozen) -> None:
    tensors = lora.Lora(frozen.unet, 4).tensors()
    key = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    assert tensors[f"{key}.lora_down.weight"].shape == (4, 128)
    assert tensors[f"{key}.lora_up.weight"].shape == (128, 4)
    assert tensors[f"{key}.alpha"] == 4
    conv = "lora_unet_down_blocks_0_resnets_0_conv1"
    assert tensors[f"{conv}.lora_down.weight"].shape == (4, 128, 3, 3)
    assert tensors[f"{conv}.lora_up.weight"].shape == (128, 4, 1, 1)


def test_a_hypernetwork_is_nothing_at_0_and_itself_again_from_its_file(
    frozen: Frozen, checkpoint: Path, tmp_path: Path
) -> None:
    before = guess(frozen)
    made = hypernetwork.Hypernetwork(frozen.unet)
    shaken(made)
    after = guess(frozen)
    made.scaled(0)
    assert torch.equal(guess(frozen), before)
    assert not torch.allclose(after, before, atol=1e-3)
    job = hypernetwork.HypernetworkJob.__new__(hypernetwork.HypernetworkJob)
    job.chosen, job.net = options(), made
    job.finish(tmp_path)
    other = Frozen(checkpoint)
    hypernetwork.load(tmp_path / "it.pt", other.unet)
    torch.testing.assert_close(guess(other), after, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("kind", ["controlnet", "adapter"])
def test_a_control_comes_back_from_its_file(frozen: Frozen, tmp_path: Path, kind: str) -> None:
    torch.manual_seed(3)
    net = controlnet.Adapter(controlnet.ADAPTER) if kind == "adapter" else controlnet._controlnet(frozen.unet)
    shaken(net)
    job = controlnet.ControlJob.__new__(controlnet.ControlJob)
    job.chosen, job.net = options(), net
    job.finish(tmp_path)
    hint = torch.rand(1, 3, 128, 128).round()
    expected = guess(frozen, controlnet.guide(net, hint))
    again = controlnet.load(tmp_path / "it.safetensors")
    assert type(again) is type(net)
    torch.testing.assert_close(guess(frozen, controlnet.guide(again, hint)), expected, rtol=1e-2, atol=1e-2)
    assert not torch.allclose(expected, guess(frozen), atol=1e-3)


@torch.no_grad()
def test_an_embedding_stands_where_its_name_does(frozen: Frozen) -> None:
    table = frozen.encoder.text_model.embeddings.token_embedding.weight
    vectors = table[text.tokens(["shiny red"], 5)[0, 1:3]]
    for length in (10, 77):
        expected = frozen.context(["a shiny red ball on a white wall", "a ball"], length=length)
        found = embedding.encode(frozen, ["a lime ball on a white wall", "a ball"], vectors, length)
        torch.testing.assert_close(found, expected)
