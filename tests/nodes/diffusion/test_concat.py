"""Further channels of a UNet's input, against the pipelines of diffusers that have such."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import interpolate

from nodegraph.context import Context
from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.checkpoints import Part, read_unet, read_vae
from nodes.diffusion.concat import further_channels, noise_level
from nodes.diffusion.conds import Model
from nodes.diffusion.parametrisation import trained
from nodes.picture_conditioning import condition_editing, condition_inpainting
from nodes.types import Cond, VaeValue

diffusers = pytest.importorskip("diffusers")


class Lender:
    """The part of a context that these nodes use."""

    device = torch.device("cpu")

    @contextmanager
    def use(self, part: Any) -> Iterator[Any]:
        yield part.load("cpu", torch.float32)


CTX = cast(Context, Lender())
PROMPT = (Cond(torch.zeros(1, 77, 8)),)


def drawn(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(5))


def model(further: int, **of_run: Any) -> Model:
    config = UNetConfig(
        in_channels=4 + further, out_channels=4, model_channels=8, channel_mult=(1,), num_res_blocks=(1,),
        transformer_depth=(1,), middle_depth=1, context_dim=8, num_heads=2, head_channels=None, use_linear=False,
        latent_scale=0.5, betas=(0.0001, 0.02),
    )  # fmt: skip
    return Model(config, "sd1", trained(config), **of_run)


def told(**options: Any) -> Cond:
    return Cond(PROMPT[0].tokens, None, options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def small_vae(folder: Path) -> tuple[Any, VaeValue]:
    """Theirs and ours; its posterior has no width, since their inpainting draws from it."""
    torch.manual_seed(0)
    levels = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    theirs = diffusers.AutoencoderKL(**levels, block_out_channels=(8, 8, 8, 8), norm_num_groups=8).eval()
    theirs.quant_conv.weight.data[4:] = 0
    theirs.quant_conv.bias.data[4:] = -60
    file = folder / "vae.safetensors"
    save_file(theirs.state_dict(), file, {"arch": '{"vae": {"norm_groups": 8}}'})
    return theirs, VaeValue(read_vae(file, "digest"))


def small_unet(folder: Path, channels: int) -> tuple[Any, Part[UNetConfig]]:
    torch.manual_seed(1)
    config = {"block_out_channels": (16, 16), "norm_num_groups": 8, "cross_attention_dim": 8, "attention_head_dim": 2}
    theirs = diffusers.UNet2DConditionModel(
        in_channels=channels, layers_per_block=1, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), sample_size=64, **config,
    ).eval()  # fmt: skip
    file = folder / f"unet{channels}.safetensors"
    save_file(theirs.state_dict(), file, {"arch": '{"unet": {"norm_groups": 8, "num_heads": 2}}'})
    return theirs, read_unet(file, "digest")


def seen_by(unet: Any, pipeline: Any, **asked: Any) -> tuple[Tensor, Tensor]:
    """What a pipeline of theirs feeds its UNet in its only step, and what that returns."""
    seen: list[Tensor] = []
    hook = unet.register_forward_hook(lambda _module, given, gives: seen.extend((given[0], gives[0])))
    pipeline.set_progress_bar_config(disable=True)
    prompt = torch.zeros(1, 77, 8)
    pipeline(
        prompt_embeds=prompt, negative_prompt_embeds=prompt, num_inference_steps=1, output_type="latent", **asked
    )  # fmt: skip
    hook.remove()
    return seen[0], seen[1]


def pipeline_of(kind: Any, vae: Any, unet: Any) -> Any:
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    scheduler = diffusers.DDIMScheduler(**betas, steps_offset=1, clip_sample=False)
    return kind(vae, None, None, unet, scheduler, None, None, requires_safety_checker=False)


def test_an_inpainting_model_sees_what_it_sees_in_diffusers(folder: Path) -> None:
    (their_vae, vae), (their_unet, unet) = small_vae(folder), small_unet(folder, 9)
    pixels, mask = drawn(1, 64, 64, 3), torch.zeros(1, 64, 64)
    mask[:, 16:40, 8:48] = 1
    pipeline = pipeline_of(diffusers.StableDiffusionInpaintPipeline, their_vae, their_unet)
    seen, output = seen_by(
        their_unet, pipeline, image=pixels.movedim(-1, 1), mask_image=mask[:, None], height=64, width=64,
        guidance_scale=1.0,
    )  # fmt: skip
    positive, _, latent = condition_inpainting(
        ctx=CTX, positive=PROMPT, negative=PROMPT, vae=vae, pixels=pixels, mask=mask
    )
    assert unet.config.in_channels == 9 and latent.noise_mask is not None and torch.equal(latent.noise_mask, mask)
    ours = further_channels(positive[0], Model(unet.config, "sd1", trained(unet.config)), torch.zeros(1, 4, 8, 8))
    assert ours is not None
    torch.testing.assert_close(ours, seen[:, 4:], rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        returned = unet.load("cpu", torch.float32)(seen, torch.tensor([1.0]), torch.zeros(1, 77, 8))
    torch.testing.assert_close(returned, output, rtol=1e-4, atol=1e-5)


def test_instruct_pix2pix_sees_what_it_sees_in_diffusers(folder: Path) -> None:
    (their_vae, vae), (their_unet, unet) = small_vae(folder), small_unet(folder, 8)
    pixels = drawn(1, 64, 48, 3)
    pipeline = pipeline_of(diffusers.StableDiffusionInstructPix2PixPipeline, their_vae, their_unet)
    seen, _ = seen_by(their_unet, pipeline, image=pixels.movedim(-1, 1), guidance_scale=2.0, image_guidance_scale=1.5)
    positive, negative, latent = condition_editing(ctx=CTX, positive=PROMPT, negative=PROMPT, vae=vae, pixels=pixels)
    assert not latent.samples.any() and latent.samples.shape == (1, 4, 8, 6)
    sides = [further_channels(cond, Model(unet.config, "sd1", trained(unet.config)), latent.samples)
             for cond in (*positive, *negative, *PROMPT)]  # fmt: skip
    ours = torch.cat([side for side in sides if side is not None])
    torch.testing.assert_close(ours, seen[:, 4:], rtol=1e-4, atol=1e-5)


def test_a_model_of_latents_alone_is_told_nothing() -> None:
    assert further_channels(told(concat_latent_image=drawn(1, 4, 8, 8)), model(0), torch.zeros(1, 4, 8, 8)) is None


def test_without_a_picture_inpainting_is_of_the_latent_within_its_mask() -> None:
    latent, mask = drawn(2, 4, 8, 8), torch.zeros(1, 64, 64)
    mask[:, :32] = 0.6
    found = further_channels(PROMPT[0], model(5, noise_mask=mask), latent)
    assert found is not None
    wanted = torch.zeros(2, 1, 8, 8)
    wanted[:, :, :4] = 1
    assert torch.equal(found, torch.cat([wanted, latent], dim=1))


def test_without_a_mask_all_of_a_grey_picture_is_painted() -> None:
    for cond in (PROMPT[0], told(concat_latent_image=drawn(1, 4, 8, 8))):
        found = further_channels(cond, model(5), torch.zeros(2, 4, 8, 8))
        assert found is not None and found.shape == (2, 5, 8, 8)
        assert found[1, :, 3, 7].tolist() == pytest.approx([1.0, 0.8223, -0.6876, 0.6364, 0.1380])


def test_a_picture_of_another_size_is_cut_to_the_aspect_and_scaled() -> None:
    picture, mask = drawn(2, 4, 8, 16), torch.ones(2, 1, 64, 128)
    found = further_channels(told(concat_latent_image=picture, concat_mask=mask), model(5), torch.zeros(5, 4, 4, 4))
    assert found is not None and found.shape == (5, 5, 4, 4)
    small = interpolate(picture[..., 4:12] * 0.5, (4, 4), mode="bilinear")
    assert torch.equal(found[:, 1:], small[[0, 0, 1, 1, 1]])  # five places over two pictures
    assert bool((found[:, 0] == 1).all())


def test_of_more_pictures_than_latents_some_are_taken_evenly() -> None:
    pictures = torch.arange(5.0).reshape(5, 1, 1, 1).expand(-1, 4, 8, 8)
    for count, places in ((3, [0, 2, 4]), (1, [0])):
        found = further_channels(told(concat_latent_image=pictures), model(4), torch.zeros(count, 4, 8, 8))
        assert found is not None and found[:, 0, 0, 0].tolist() == places


def test_a_picture_to_enlarge_is_made_as_noisy_as_the_upscaler_is_told() -> None:
    picture = drawn(1, 3, 8, 8) * 2 - 1
    cond = told(concat_image=picture, noise_augmentation=0.5)
    found = further_channels(cond, model(3, seed=17), torch.zeros(2, 4, 8, 8))
    noise = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(7))
    scheduler = diffusers.DDPMScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="scaled_linear")
    wanted = scheduler.add_noise(picture, noise, torch.tensor([175]))
    assert noise_level(cond) == 175 and found is not None
    torch.testing.assert_close(found, wanted.expand(2, -1, -1, -1), rtol=1e-4, atol=1e-5)


def test_a_picture_to_enlarge_is_clean_unless_noise_is_asked_for() -> None:
    picture = drawn(1, 3, 8, 8)
    found = further_channels(told(concat_image=picture, noise_augmentation=0.0), model(3), torch.zeros(1, 4, 8, 8))
    assert found is not None and torch.equal(found, picture)
    nothing = further_channels(PROMPT[0], model(3), torch.ones(1, 4, 8, 8))
    assert nothing is not None and nothing.shape == (1, 3, 8, 8) and not nothing.any()


def test_a_picture_of_another_vae_is_named() -> None:
    with pytest.raises(ValueError, match="was encoded into 16 channels and the latent has 4"):
        further_channels(told(concat_latent_image=drawn(1, 16, 8, 8)), model(4), torch.zeros(1, 4, 8, 8))
