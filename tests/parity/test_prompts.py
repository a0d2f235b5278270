"""Prompts and UNet calls against what ComfyUI computed with the same weights. `manifest.json` lists the cases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from nodes.diffusion.checkpoints import Checkpoint, Part, read_checkpoint
from nodes.diffusion.text import encode_prompt, tokenize

HERE = Path(__file__).parent
MANIFEST = json.loads((HERE / "manifest.json").read_text("utf-8"))
BOUND = 1e-5


def cases(kind: str) -> list[Any]:
    return [pytest.param(case, id=case["id"]) for case in MANIFEST["cases"] if case["kind"] == kind]


@cache
def tensor(file: str, key: str) -> Tensor:
    with safe_open(HERE / file, "pt") as fixtures:
        return fixtures.get_tensor(key)


@cache
def checkpoint(model: str) -> Checkpoint:
    path = HERE / "weights" / f"{model}.safetensors"
    if not path.exists():
        pytest.skip(f"the weights of {model} are not here")
    return read_checkpoint(path, model)


@cache
def module(part: Part[Any]) -> nn.Module:
    return part.load("cpu", torch.float32)


@contextmanager
def use(part: Part[Any]) -> Iterator[nn.Module]:
    yield module(part)


def assert_near(result: Tensor, place: dict[str, Any]) -> None:
    expected = tensor(place["file"], place["key"])
    assert result.shape == expected.shape
    error = (result - expected).norm() / expected.norm()
    assert error < BOUND, (
        f"{place['key']}: relative error {error:.1e}, largest difference {(result - expected).abs().max():.1e}"
    )


@pytest.mark.parametrize("case", cases("prompt"))
def test_a_prompt_means_what_it_means_in_comfyui(case: dict[str, Any]) -> None:
    encoders = checkpoint(case["model"]).clip
    if "embedding:" in case["text"]:
        with pytest.raises(ValueError, match="textual inversions are not supported yet"):
            encode_prompt(encoders, case["text"], use)
        return
    chunks = tokenize(case["text"], encoders[0].config.pad_token)
    assert [[token for token, _ in chunk] for chunk in chunks] == case["token_ids"]
    assert [[weight for _, weight in chunk] for chunk in chunks] == case["token_weights"]
    encoding = encode_prompt(encoders, case["text"], use)
    assert_near(encoding.tokens, case["tensors"]["cond.0"])
    assert_near(encoding.pooled, case["tensors"]["cond.0.pooled_output"])


@pytest.mark.parametrize("case", cases("apply_model"))
def test_the_unet_predicts_what_it_predicts_in_comfyui(case: dict[str, Any]) -> None:
    part = checkpoint(case.get("model", "tiny-sd15")).unet
    assert part is not None
    sigma = case["sigma"]
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = (1 - betas).cumprod(0)
    log_sigmas = ((1 - alphas) / alphas).sqrt().log()
    timestep = (log_sigmas - torch.tensor(sigma).log()).abs().argmin()
    x = tensor("inputs.safetensors", "latent_b2") * (1 + sigma)
    context = torch.cat([tensor("inputs.safetensors", name) for name in case["context"]])
    with torch.no_grad():
        eps = module(part)(x / (sigma**2 + 1) ** 0.5, timestep.float().expand(len(x)), context)
    assert_near(eps, case["tensors"]["eps"])
    assert_near(x - sigma * eps, case["tensors"]["denoised"])
