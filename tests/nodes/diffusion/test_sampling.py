"""Sampling with a UNet that needs no weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nodegraph.errors import Interrupted
from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.checkpoints import Part
from nodes.diffusion.guidance_patches import APG
from nodes.diffusion.noise import initial_noise
from nodes.diffusion.parametrisation import trained
from nodes.diffusion.sampling import sample
from nodes.diffusion.sampling_patches import DiscreteSampling
from nodes.diffusion.schedules import sampling_sigmas
from nodes.types import Cond, GuiderValue, LatentValue, ModelValue, NoiseValue, SamplerValue

CONFIG = UNetConfig(
    in_channels=4, out_channels=4, model_channels=32, channel_mult=(1,), num_res_blocks=(1,), transformer_depth=(1,),
    middle_depth=1, context_dim=8, num_heads=8, head_channels=None, use_linear=False, latent_scale=0.5,
)  # fmt: skip
PROMPTS = ((Cond(torch.full((1, 77, 8), 0.2)),), (Cond(torch.full((1, 77, 8), 0.1)),))


PART: Any = Part("", "", "unet", "sd1", CONFIG)


class Toy(nn.Module):
    """Predicts noise that depends on all it is given."""

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, *_: object) -> Tensor:
        told = context.mean(dim=(1, 2)) + timesteps / 999
        return 0.7 * torch.tanh(x + told.reshape(-1, 1, 1, 1))


class Log:
    """Progress that is written down, and that interrupts when told to."""

    def __init__(self, checks: int = 10**9) -> None:
        self.steps: list[tuple[int, int]] = []
        self.checks = checks

    def check(self) -> None:
        self.checks -= 1
        if self.checks < 0:
            raise Interrupted

    def step(self, i: int, n: int, x0: Tensor) -> None:
        assert x0.shape[1] == 4
        self.steps.append((i, n))


def guider(prompts: Any = PROMPTS, cfg: float = 2.0, config: UNetConfig = CONFIG) -> GuiderValue:
    model = ModelValue(replace(PART, config=config))
    return GuiderValue(model, "cfg", {"positive": prompts[0], "negative": prompts[1]}, (cfg,))


def schedule(sampler: str, steps: int, denoise: float = 1.0) -> Tensor:
    return sampling_sigmas(sampler, "normal", steps, denoise, trained(CONFIG).table)


def run(
    latent: LatentValue, progress: Log | None = None, prompts: Any = PROMPTS, seed: int = 3, steps: int = 4,
    sampler_name: str = "euler", unet: Any = None, cfg: float = 2.0, is_each: bool = False,
) -> LatentValue:  # fmt: skip
    return sample(
        unet or toy, guider(prompts, cfg), latent, noise=NoiseValue(seed, is_each=is_each),
        sampler=SamplerValue(sampler_name), sigmas=schedule(sampler_name, steps), progress=progress or Log(),
    ).latent  # fmt: skip


def toy(part: object) -> AbstractContextManager[nn.Module]:
    return nullcontext(Toy())


@contextmanager
def untouchable(part: object) -> Iterator[nn.Module]:
    raise AssertionError("the weights were loaded")
    yield Toy()


LATENT = LatentValue(torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(0)))


def test_the_same_seed_gives_the_same_latent_and_another_seed_another() -> None:
    assert torch.equal(run(LATENT).samples, run(LATENT).samples)
    assert not torch.equal(run(LATENT).samples, run(LATENT, seed=4).samples)


def test_the_input_is_not_changed_and_the_result_needs_no_gradient() -> None:
    before = LATENT.samples.clone()
    result = run(LATENT).samples
    assert torch.equal(LATENT.samples, before) and result.shape == before.shape
    assert not result.requires_grad and not result.is_inference()


def test_a_schedule_without_a_step_gives_the_latent_back_without_loading_weights() -> None:
    found = sample(
        untouchable, guider(), LATENT, noise=NoiseValue(), sampler=SamplerValue("euler"), sigmas=torch.tensor([5.0]),
        progress=Log(),
    )  # fmt: skip
    assert found.latent is LATENT and found.denoised is LATENT


def test_what_does_not_fit_is_said_before_weights_are_loaded() -> None:
    wrong = ((Cond(torch.zeros(1, 77, 9)),), PROMPTS[1])
    with pytest.raises(ValueError, match="positive conditioning has 9 features but this SD1 model expects 8"):
        run(LATENT, prompts=wrong, unet=untouchable)


def test_sigmas_that_repeat_are_taken_once() -> None:
    log = Log()
    sample(
        toy, guider(), LATENT, noise=NoiseValue(), sampler=SamplerValue("dpmpp_2m"),
        sigmas=torch.tensor([5.0, 5.0, 2.0, 2.0, 0.0]), progress=log,
    )  # fmt: skip
    assert log.steps == [(1, 2), (2, 2)]


def test_the_last_estimate_is_given_beside_the_latent() -> None:
    sigmas = torch.tensor([5.0, 2.0])
    found = sample(
        toy, guider(), LATENT, noise=NoiseValue(3), sampler=SamplerValue("euler"), sigmas=sigmas,
        progress=Log(),
    )  # fmt: skip
    x = LATENT.samples * 0.5 + initial_noise((2, 4, 8, 8), 3) * 5
    x0 = found.denoised.samples * 0.5
    assert torch.allclose(found.latent.samples * 0.5, x + (x - x0) / 5 * (2 - 5), atol=1e-4)


def test_each_step_is_reported() -> None:
    log = Log()
    run(LATENT, log, steps=3)
    assert log.steps == [(1, 3), (2, 3), (3, 3)]


def test_a_cancelled_run_stops_before_the_next_evaluation() -> None:
    log = Log(checks=3)
    with pytest.raises(Interrupted):
        run(LATENT, log, steps=8, sampler_name="heun")
    assert log.steps == [(1, 8)]


def test_a_mask_keeps_the_latent_where_it_is_zero_and_stays_on_the_result() -> None:
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 32:] = 1
    latent = replace(LATENT, noise_mask=mask)
    for name in ("euler", "ddim", "dpmpp_2m"):
        result = run(latent, sampler_name=name)
        assert torch.allclose(result.samples[..., :4], LATENT.samples[..., :4], atol=1e-5), name
        assert not torch.allclose(result.samples[..., 4:], LATENT.samples[..., 4:], atol=1e-2), name
        assert result.noise_mask is mask


def test_an_image_of_a_batch_comes_out_alone_as_in_the_batch() -> None:
    indexed = replace(LATENT, batch_index=(0, 1))
    alone = LatentValue(LATENT.samples[1:], batch_index=(1,))
    assert torch.allclose(run(alone).samples[0], run(indexed).samples[1], atol=1e-5)


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "dpmpp_2m_sde", "er_sde"])
def test_with_a_seed_each_an_image_of_a_batch_is_the_single_image_of_its_seed(sampler: str) -> None:
    latents = LatentValue(LATENT.samples[:1].repeat(3, 1, 1, 1))
    batch = run(latents, seed=7, sampler_name=sampler, is_each=True).samples
    for k in range(3):
        single = run(LatentValue(latents.samples[:1]), seed=7 + k, sampler_name=sampler).samples
        assert torch.allclose(batch[k], single[0], atol=1e-4), k
    assert not torch.allclose(batch[0], batch[1], atol=1e-2)


def test_a_full_denoise_starts_from_the_noise_at_the_largest_sigma() -> None:
    seen: list[Tensor] = []

    class Spy(Toy):
        def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, *_: object) -> Tensor:
            seen.append(x)
            return super().forward(x, timesteps, context)

    run(LATENT, steps=2, cfg=1.0, unet=lambda _: nullcontext(Spy()))
    top = trained(CONFIG).table[-1].float()
    expected = initial_noise((2, 4, 8, 8), 3) + 0.5 * LATENT.samples / (top**2 + 1).sqrt()
    assert torch.allclose(seen[0], expected, atol=1e-5)


def test_no_patch_of_one_run_reaches_another() -> None:
    before = run(LATENT).samples
    patched = guider()
    patched = replace(patched, model=replace(patched.model, patches=(APG(0.0, 1.0, -0.5), DiscreteSampling("v", True))))
    for _ in range(2):
        sample(
            toy, patched, LATENT, noise=NoiseValue(), sampler=SamplerValue("euler"),
            sigmas=schedule("euler", 3), progress=Log(),
        )  # fmt: skip
    assert torch.equal(run(LATENT).samples, before)
