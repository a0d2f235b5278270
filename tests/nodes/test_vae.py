"""VAE nodes, lent modules by a stand-in for the context."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from nodegraph.context import Context
from nodegraph.types import FileRef
from nodes.loaders import load_checkpoint
from nodes.types import LatentValue, VaeValue
from nodes.vae import _too_wide, decode, decode_tiled, encode, encode_for_inpaint, encode_tiled

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


def tiny() -> VaeValue:
    return load_checkpoint(ckpt_name=FileRef(TINY.name, str(TINY), "digest")).VAE


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_a_batch_is_encoded_and_decoded_image_by_image() -> None:
    vae = tiny()
    lender = Lender()
    ctx = cast(Context, lender)
    pictures = images(2, 16, 24, 3)
    latent = encode(ctx=ctx, pixels=pictures, vae=vae)
    assert latent.samples.shape == (2, 4, 2, 3) and latent.noise_mask is None
    decoded = decode(ctx=ctx, samples=latent, vae=vae)
    assert decoded.shape == pictures.shape and not decoded.requires_grad
    alone = decode(ctx=ctx, samples=LatentValue(latent.samples[1:]), vae=vae)
    assert torch.equal(decoded[1:], alone)
    assert lender.steps == [(1, 2), (2, 2), (1, 2), (2, 2), (1, 1)]


def test_small_images_are_the_same_tiled_and_whole() -> None:
    ctx, vae = cast(Context, Lender()), tiny()
    pictures = images(1, 27, 32, 4)
    latent = encode_tiled(ctx=ctx, pixels=pictures, vae=vae)
    torch.testing.assert_close(latent.samples, encode(ctx=ctx, pixels=pictures, vae=vae).samples)
    decoded = decode_tiled(ctx=ctx, samples=latent, vae=vae)
    assert decoded.shape == (1, 24, 32, 3) and not decoded.requires_grad
    torch.testing.assert_close(decoded, decode(ctx=ctx, samples=latent, vae=vae), rtol=1e-5, atol=1e-5)


def test_tiles_are_steps_over_the_whole_batch() -> None:
    lender = Lender()
    latent = LatentValue(images(2, 4, 8, 12))
    decoded = decode_tiled(ctx=cast(Context, lender), samples=latent, vae=tiny(), tile_size=64, overlap=64)
    assert decoded.shape == (2, 64, 96, 3)
    # the overlap is cut to 16 pixels; tiles of 8x8, 4x16 and 16x4 cells make 2, 3 and 5 of 8x12
    assert lender.steps == [(i + 1, 20) for i in range(20)]


def test_temporal_inputs_are_without_effect_on_images() -> None:
    ctx, vae = cast(Context, Lender()), tiny()
    latent = LatentValue(images(1, 4, 4, 4))
    first = decode_tiled(ctx=ctx, samples=latent, vae=vae)
    assert torch.equal(first, decode_tiled(ctx=ctx, samples=latent, vae=vae, temporal_size=8, temporal_overlap=4096))


def test_an_overlap_of_half_a_tile_is_told_before_running() -> None:
    assert list(_too_wide(tile_size=512, overlap=256)) == [
        "overlap is 256 and tile_size 512; expected an overlap below half the tile size"
    ]
    assert not list(_too_wide(tile_size=512, overlap=224)) and not list(_too_wide(tile_size=64))
    with pytest.raises(ValueError, match="expected an overlap below half the tile size"):
        encode_tiled(ctx=cast(Context, Lender()), pixels=images(1, 64, 64, 3), vae=tiny(), tile_size=64, overlap=32)


def test_encoding_for_inpaint_greys_what_is_masked_and_grows_the_mask() -> None:
    ctx, vae = cast(Context, Lender()), tiny()
    pictures = images(2, 16, 24, 3)
    mask = torch.zeros(1, 16, 24)
    mask[:, :, 16:] = 1
    found = encode_for_inpaint(ctx=ctx, pixels=pictures, vae=vae, mask=mask, grow_mask_by=4)
    greyed = pictures.clone()
    greyed[:, :, 16:] = 0.5
    torch.testing.assert_close(found.samples, encode(ctx=ctx, pixels=greyed, vae=vae).samples)
    assert found.noise_mask is not None and found.noise_mask.shape == mask.shape
    assert found.noise_mask.sum() == 16 * 9  # one column more to the left
