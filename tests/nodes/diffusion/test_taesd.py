"""TAESD in place of a VAE: the numbers of diffusers' AutoencoderTiny, unscaled as latents between nodes are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file
from torch import Tensor

from nodegraph.codec import decode, encode
from nodegraph.errors import FileProblem
from nodes.diffusion.taesd import read_encoder
from nodes.diffusion.tiling import decode_tiled, encode_tiled
from nodes.diffusion.tiny_vae import LATENT_SCALES, TinyVae
from nodes.types import VaeValue

WIDTH = (8, 8, 8, 8)


@pytest.fixture(scope="module")
def reference() -> Any:
    torch.manual_seed(0)
    return cast(Any, AutoencoderTiny(encoder_block_out_channels=WIDTH, decoder_block_out_channels=WIDTH).eval())


def write(folder: Path, reference: Any, suffix: str = ".safetensors") -> tuple[Path, Path]:
    """The two files of TAESD, whose layers are numbered as diffusers', the decoder's after its clamp."""
    state: dict[str, Tensor] = reference.state_dict()
    halves: dict[str, dict[str, Tensor]] = {"encoder": {}, "decoder": {}}
    for name, tensor in state.items():
        half, _, number, rest = name.split(".", 3)
        halves[half][f"{int(number) + (half == 'decoder')}.{rest}"] = tensor
    for half, tensors in halves.items():
        if suffix == ".safetensors":
            save_file(tensors, folder / f"taesd_{half}.safetensors")
        else:
            torch.save(tensors, folder / f"taesd_{half}{suffix}")
    return folder / f"taesd_encoder{suffix}", folder / f"taesd_decoder{suffix}"


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "suffix"), [("taesd", ".safetensors"), ("taesdxl", ".pth")])
@torch.no_grad()
def test_it_encodes_and_decodes_as_diffusers_does(tmp_path: Path, reference: Any, name: str, suffix: str) -> None:
    encoder, decoder = write(tmp_path, reference, suffix)
    scale = LATENT_SCALES[name]
    vae = TinyVae(str(decoder), str(encoder), "d", scale).load("cpu", torch.float32)
    pictures = images(2, 18, 24, 4)
    latents = vae.encode(pictures)
    pixels = pictures[:, 1:17, :, :3].movedim(-1, 1)  # to a multiple of 8, without alpha
    torch.testing.assert_close(latents, reference.encode(pixels * 2 - 1).latents / scale, rtol=1e-4, atol=1e-5)
    z = torch.randn(2, 4, 3, 2, generator=torch.Generator().manual_seed(2)) * 5
    expected = (reference.decode(z * scale).sample / 2 + 0.5).clamp(0, 1).movedim(1, -1)
    torch.testing.assert_close(vae.decode(z), expected, rtol=1e-4, atol=1e-5)
    assert vae.decode(z).is_contiguous() and vae.scale == 8


@torch.no_grad()
def test_one_tile_is_the_whole_picture(tmp_path: Path, reference: Any) -> None:
    encoder, decoder = write(tmp_path, reference)
    vae = TinyVae(str(decoder), str(encoder), "d", 0.18215).load("cpu", torch.float32)
    tiles: list[tuple[int, int]] = []
    pictures = images(1, 32, 24, 3)
    latents = encode_tiled(vae, pictures, tile=32, overlap=2, on_tile=lambda i, n: tiles.append((i, n)))
    torch.testing.assert_close(latents, vae.encode(pictures))
    torch.testing.assert_close(
        decode_tiled(vae, latents, tile=32, overlap=2, on_tile=lambda i, n: tiles.append((i, n))), vae.decode(latents)
    )
    assert tiles == [(1, 3), (2, 3), (3, 3)] * 2


def test_a_missing_encoder_is_told_when_it_is_needed(tmp_path: Path, reference: Any) -> None:
    _, decoder = write(tmp_path, reference)
    vae = TinyVae(str(decoder), None, "d", 0.18215).load("cpu", torch.float32)
    assert vae.decode(torch.zeros(1, 4, 2, 2)).shape == (1, 16, 16, 3)
    with pytest.raises(FileProblem, match="has only a decoder; put its encoder"):
        vae.encode(images(1, 16, 16, 3))


def test_a_decoder_is_no_encoder(tmp_path: Path, reference: Any) -> None:
    _, decoder = write(tmp_path, reference)
    with pytest.raises(FileProblem, match=r"^taesd_decoder.safetensors is no TAESD encoder; "):
        read_encoder(decoder)


def test_as_a_value_it_is_stored_and_known_by_its_content(tmp_path: Path, reference: Any) -> None:
    encoder, decoder = write(tmp_path, reference)
    part = TinyVae(str(decoder), str(encoder), "d", 0.18215)
    assert decode(*encode(VaeValue(part)), {"nodes"}) == VaeValue(part)
    assert part.nbytes == encoder.stat().st_size + decoder.stat().st_size and part.role == "vae"
    assert part.fingerprint == part.base == TinyVae("elsewhere", "too", "d", 0.18215).fingerprint
    others = [TinyVae("a", "b", "e", 0.18215), TinyVae("a", "b", "d", 0.13025), TinyVae("a", None, "d", 0.18215)]
    assert len({part.fingerprint, *(other.fingerprint for other in others)}) == 4
    half = part.load("cpu", torch.bfloat16)
    assert half.encode(images(1, 8, 8, 3)).dtype == torch.float32
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
