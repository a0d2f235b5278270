"""The autoencoder against that of diffusers, with the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from nodes.diffusion.architecture import VaeConfig
from nodes.diffusion.checkpoints import read_vae
from nodes.diffusion.vae import AutoencoderKL

diffusers = pytest.importorskip("diffusers")

SMALL = VaeConfig(32, (1, 2), 1)
OLD_NAMES = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}


def peer(blocks: tuple[int, ...]) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=blocks, layers_per_block=1, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * len(blocks), up_block_types=("UpDecoderBlock2D",) * len(blocks),
    ).eval()  # fmt: skip


@pytest.mark.parametrize("is_old", [False, True], ids=["new names", "old names"])
@pytest.mark.parametrize("blocks", [(32, 64), (32, 32, 64, 64)])
def test_it_computes_what_diffusers_computes(tmp_path: Path, blocks: tuple[int, ...], is_old: bool) -> None:
    torch.manual_seed(0)
    theirs = peer(blocks)
    state = dict(theirs.state_dict())
    for new, old in OLD_NAMES.items() if is_old else ():  # old files hold 1x1 convolutions or linear layers
        state = {name.replace(new, old): tensor for name, tensor in state.items()}
    save_file(state, tmp_path / "vae.safetensors")
    ours = read_vae(tmp_path / "vae.safetensors", "digest").load("cpu", torch.float32)
    images = torch.rand(2, 32, 48, 3)
    with torch.no_grad():
        latents = theirs.encode(images.movedim(-1, 1) * 2 - 1).latent_dist.mode()
        decoded = (theirs.decode(latents).sample / 2 + 0.5).clamp(0, 1).movedim(1, -1)
        torch.testing.assert_close(ours.encode(images), latents, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.decode(latents), decoded, rtol=1e-5, atol=1e-5)


def small_vae() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(SMALL).eval().requires_grad_(False)


def test_alpha_is_dropped_and_images_are_cropped_around_their_centre() -> None:
    vae, image = small_vae(), torch.rand(1, 19, 17, 4)
    assert torch.equal(vae.encode(image), vae.encode(image[:, :18, :16, :3]))
    assert vae.encode(image).shape == (1, 4, 9, 8)


def test_cropping_takes_the_middle() -> None:
    vae = AutoencoderKL(VaeConfig(32, (1, 1, 1, 1), 1)).eval().requires_grad_(False)
    image = torch.rand(1, 21, 15, 3)
    assert torch.equal(vae.encode(image), vae.encode(image[:, 2:18, 3:11]))


def test_an_image_smaller_than_a_latent_is_named() -> None:
    with pytest.raises(ValueError, match="1 x 40 pixels is too small"):
        small_vae().encode(torch.rand(1, 40, 1, 3))


def test_decoded_images_are_float32_between_0_and_1() -> None:
    images = small_vae().to(torch.bfloat16).decode(100 * torch.randn(2, 4, 5, 6))
    assert images.dtype == torch.float32 and images.shape == (2, 10, 12, 3)
    assert images.min() >= 0 and images.max() <= 1
