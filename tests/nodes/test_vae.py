"""VAE nodes, lent modules by a stand-in for the context."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch

from nodegraph.context import Context
from nodegraph.types import FileRef
from nodes.loaders import load_checkpoint
from nodes.types import LatentValue
from nodes.vae import decode, encode

TINY = Path(__file__).parents[1] / "parity" / "weights" / "tiny-sd15.safetensors"


class Lender:
    """The part of a context that these nodes use; notes the steps."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []

    @contextmanager
    def use(self, part: Any) -> Iterator[Any]:
        yield part.load("cpu", torch.float32)

    def step(self, i: int, n: int) -> None:
        self.steps.append((i, n))


def test_a_batch_is_encoded_and_decoded_image_by_image() -> None:
    vae = load_checkpoint(ckpt_name=FileRef(TINY.name, str(TINY), "digest")).VAE
    lender = Lender()
    ctx = cast(Context, lender)
    images = torch.rand(2, 16, 24, 3, generator=torch.Generator().manual_seed(0))
    latent = encode(ctx=ctx, pixels=images, vae=vae)
    assert latent.samples.shape == (2, 4, 2, 3) and latent.noise_mask is None
    decoded = decode(ctx=ctx, samples=latent, vae=vae)
    assert decoded.shape == images.shape and not decoded.requires_grad
    alone = decode(ctx=ctx, samples=LatentValue(latent.samples[1:]), vae=vae)
    assert torch.equal(decoded[1:], alone)
    assert lender.steps == [(1, 2), (2, 2), (1, 2), (2, 2), (1, 1)]
