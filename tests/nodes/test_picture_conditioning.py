"""Models that take a picture beside the latent: loaded, told of it, and sampled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import interpolate

from nodegraph.context import Context
from nodegraph.types import FileRef
from nodes.diffusion.architecture import UNetConfig, VaeConfig
from nodes.diffusion.checkpoints import read_unet
from nodes.diffusion.sampling import Progress, sample
from nodes.diffusion.schedules import simple
from nodes.diffusion.weights import build
from nodes.loaders import load_checkpoint
from nodes.picture_conditioning import condition_inpainting, condition_upscaling
from nodes.types import Cond, GuiderValue, LatentValue, ModelValue, NoiseValue, SamplerValue, VaeValue
from nodes.vae import decode, encode

TINY = Path(__file__).parents[1] / "parity" / "weights" / "tiny-sd15.safetensors"
FIRST = "model.diffusion_model.input_blocks.0.0.weight"


class Lender:
    """The part of a context that these nodes use, and a run's progress."""

    device = torch.device("cpu")

    @contextmanager
    def use(self, part: Any) -> Iterator[Any]:
        yield part.load("cpu", torch.float32)

    def step(self, i: int, n: int, x0: Tensor | None = None) -> None:
        """Nobody follows."""

    def check(self) -> None:
        """Nobody cancels."""


CTX = cast(Context, Lender())


def reference(path: Path) -> FileRef:
    return FileRef(path.name, str(path), path.name)


def drawn(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(5))


def prompt(width: int, **options: Any) -> tuple[Cond, ...]:
    return (Cond(drawn(1, 77, width), None, options),)


def sampled(model: ModelValue, positive: tuple[Cond, ...], negative: tuple[Cond, ...], latent: LatentValue) -> Tensor:
    """Two steps with guidance."""
    guider = GuiderValue(model, "cfg", {"positive": positive, "negative": negative}, (2.0,))
    table = torch.tensor([0.1, 1.0, 5.0, 10.0])
    found = sample(
        cast(Context, CTX).use, guider, latent, noise=NoiseValue(3), sampler=SamplerValue("euler"),
        sigmas=simple(2, table), progress=cast(Progress, CTX),
    )  # fmt: skip
    return found.latent.samples


def widened(path: Path, *, random: bool) -> FileRef:
    """A checkpoint of inpainting: the tiny one with five channels more, which are heeded or not."""
    weights = load_file(TINY)
    shape = (len(weights[FIRST]), 5, 3, 3)
    more = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 0.1 if random else torch.zeros(shape)
    save_file({**weights, FIRST: torch.cat([weights[FIRST], more.to(weights[FIRST])], dim=1)}, path)
    return reference(path)


def test_inpainting_is_told_of_the_picture_around_the_mask() -> None:
    vae = load_checkpoint(ckpt_name=reference(TINY)).VAE
    pixels, mask = drawn(2, 28, 36, 3), torch.zeros(1, 14, 18)
    mask[:, 4:10, 6:] = 1
    positive, negative = prompt(8, strength=0.5), prompt(8)
    found = condition_inpainting(ctx=CTX, positive=positive, negative=negative, vae=vae, pixels=pixels, mask=mask)
    stretched = interpolate(mask[None], (28, 36), mode="bilinear")[:, :, 2:26, 2:34]
    grey = torch.where(stretched[0, 0, :, :, None] > 0.5, 0.5, pixels[:, 2:26, 2:34])
    assert found.latent.noise_mask is not None
    torch.testing.assert_close(found.latent.noise_mask, stretched[0])
    torch.testing.assert_close(found.latent.samples, encode(ctx=CTX, pixels=pixels, vae=vae).samples)
    for side in (found.positive[0], found.negative[0]):
        assert torch.equal(side.options["concat_mask"], found.latent.noise_mask[:, None])
        torch.testing.assert_close(side.options["concat_latent_image"], encode(ctx=CTX, pixels=grey, vae=vae).samples)
    assert found.positive[0].options["strength"] == 0.5 and not negative[0].options
    without = condition_inpainting(
        ctx=CTX, positive=positive, negative=negative, vae=vae, pixels=pixels, mask=mask, noise_mask=False
    )
    assert without.latent.noise_mask is None


def test_an_inpainting_model_that_heeds_nothing_more_samples_as_its_base(tmp_path: Path) -> None:
    base = load_checkpoint(ckpt_name=reference(TINY))
    file = widened(tmp_path / "inpainting.safetensors", random=False)
    wide = load_checkpoint(ckpt_name=file).MODEL
    assert (wide.unet.config, wide.unet.family) == (replace(base.MODEL.unet.config, in_channels=9), "sd1")
    width, mask = wide.unet.config.context_dim, torch.zeros(1, 32, 32)
    mask[:, 8:24, 8:24] = 1
    told = condition_inpainting(
        ctx=CTX, positive=prompt(width), negative=prompt(width), vae=base.VAE, pixels=drawn(1, 32, 32, 3), mask=mask
    )
    expected = sampled(base.MODEL, *told)
    torch.testing.assert_close(sampled(wide, *told), expected, rtol=1e-4, atol=1e-5)
    alone = ModelValue(read_unet(file.path, "alone"))
    torch.testing.assert_close(sampled(alone, *told), expected, rtol=1e-4, atol=1e-5)


def test_an_inpainting_model_heeds_mask_and_picture_also_in_an_area(tmp_path: Path) -> None:
    wide = load_checkpoint(ckpt_name=widened(tmp_path / "inpainting.safetensors", random=True)).MODEL
    width, latent = wide.unet.config.context_dim, LatentValue(torch.zeros(1, 4, 8, 8))
    picture, mask = drawn(1, 4, 8, 8), torch.ones(1, 1, 64, 64)
    plain = sampled(wide, prompt(width), prompt(width), latent)
    told = prompt(width, concat_latent_image=picture, concat_mask=mask)
    seen = sampled(wide, told, told, latent)
    assert not torch.allclose(seen, plain, atol=1e-3)
    masked = prompt(width, concat_latent_image=picture, concat_mask=mask * 0)
    assert not torch.allclose(sampled(wide, masked, masked, latent), seen, atol=1e-3)
    corner = prompt(width, concat_latent_image=picture, concat_mask=mask, area=(4, 4, 0, 4), strength=1.0)
    assert sampled(wide, corner + told, told, latent).shape == (1, 4, 8, 8)


def upscaler(path: Path) -> FileRef:
    """A small x4 upscaler as its file has it, with a VAE that shrinks by 4; without a text encoder."""
    torch.manual_seed(0)
    unet = UNetConfig(
        in_channels=7, out_channels=4, model_channels=8, channel_mult=(1, 2, 2, 4), num_res_blocks=(1, 1, 1, 1),
        transformer_depth=(0, 1, 1, 1), middle_depth=1, context_dim=12, num_heads=8, head_channels=None,
        use_linear=True, norm_groups=8, num_classes=1000, is_cross_only=(False, True, True, False),
    )  # fmt: skip
    vae = VaeConfig(ch=8, ch_mult=(1, 1, 1), num_res_blocks=1, norm_groups=8)
    parts = {"model.diffusion_model.": build(unet), "first_stage_model.": build(vae)}
    state = {prefix + name: tensor for prefix, module in parts.items() for name, tensor in module.state_dict().items()}
    save_file(
        {**state, "low_scale_model.betas": torch.zeros(1000)}, path,
        {"arch": json.dumps({"unet": {"norm_groups": 8}, "vae": {"norm_groups": 8}})},
    )  # fmt: skip
    return reference(path)


def test_the_x4_upscaler_makes_pictures_four_times_as_large(tmp_path: Path) -> None:
    model, _, vae = load_checkpoint(ckpt_name=upscaler(tmp_path / "x4.safetensors"))
    assert model.unet.config.prediction == "v" and model.unet.family == "sd2"
    pictures = drawn(2, 8, 12, 3)
    told = condition_upscaling(ctx=CTX, images=pictures, positive=prompt(12), negative=prompt(12))
    torch.testing.assert_close(told.positive[0].options["concat_image"], pictures.movedim(-1, 1) * 2 - 1)
    assert told.latent.samples.shape == (2, 4, 8, 12) and not told.latent.samples.any()
    latent = sampled(model, *told)
    assert decode(ctx=CTX, samples=LatentValue(latent), vae=VaeValue(vae.vae)).shape == (2, 32, 48, 3)
    noisy = condition_upscaling(
        ctx=CTX, images=pictures, positive=prompt(12), negative=prompt(12), noise_augmentation=0.3
    )
    assert not torch.allclose(sampled(model, *noisy), latent, atol=1e-3)
    assert sampled(model, prompt(12), prompt(12), told.latent).shape == latent.shape  # without a picture


def test_another_scale_is_met_by_enlarging_the_small_picture_first() -> None:
    pictures = drawn(1, 9, 16, 4)
    found = condition_upscaling(ctx=CTX, images=pictures, positive=prompt(12), negative=prompt(12), scale_ratio=2.0)
    assert found.latent.samples.shape == (1, 4, 4, 8)
    small = interpolate(pictures[..., :3].movedim(-1, 1) * 2 - 1, (4, 8), mode="bilinear")
    torch.testing.assert_close(found.negative[0].options["concat_image"], small)
    with pytest.raises(ValueError, match=r"16 x 9 pixels times 0.1 is less than 4 x 4"):
        condition_upscaling(ctx=CTX, images=pictures, positive=prompt(12), negative=prompt(12), scale_ratio=0.1)
