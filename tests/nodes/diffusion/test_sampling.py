"""KSampler's procedure with a UNet that needs no weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nodegraph.errors import Interrupted
from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.ksampler import Settings, sample, trained_sigmas
from nodes.diffusion.noise import initial_noise
from nodes.types import Cond, LatentValue

CONFIG = UNetConfig(
    in_channels=4, out_channels=4, model_channels=32, channel_mult=(1,), num_res_blocks=(1,), transformer_depth=(1,),
    middle_depth=1, context_dim=8, num_heads=8, head_channels=None, use_linear=False, latent_scale=0.5,
)  # fmt: skip
PROMPTS = ((Cond(torch.full((1, 77, 8), 0.2)),), (Cond(torch.full((1, 77, 8), 0.1)),))


class Toy(nn.Module):
    """Predicts noise that depends on all it is given."""

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, y: Tensor | None = None) -> Tensor:
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

    def step(self, i: int, n: int) -> None:
        self.steps.append((i, n))


def run(latent: LatentValue, progress: Log | None = None, prompts: Any = PROMPTS, **settings: Any) -> LatentValue:
    chosen = Settings(**{"seed": 3, "steps": 4, "cfg": 2.0, **settings})
    progress = progress or Log()
    return sample(
        nullcontext(Toy()), CONFIG, family="sd1", latent=latent, prompts=prompts, settings=chosen, progress=progress
    )  # fmt: skip


LATENT = LatentValue(torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(0)))


def test_the_same_seed_gives_the_same_latent_and_another_seed_another() -> None:
    assert torch.equal(run(LATENT).samples, run(LATENT).samples)
    assert not torch.equal(run(LATENT).samples, run(LATENT, seed=4).samples)


def test_the_input_is_not_changed_and_the_result_needs_no_gradient() -> None:
    before = LATENT.samples.clone()
    result = run(LATENT).samples
    assert torch.equal(LATENT.samples, before) and result.shape == before.shape
    assert not result.requires_grad and not result.is_inference()


def test_denoise_zero_gives_the_latent_back_without_loading_weights() -> None:
    @contextmanager
    def untouchable() -> Iterator[nn.Module]:
        raise AssertionError("the weights were loaded")
        yield Toy()

    settings = Settings(denoise=0.0)
    result = sample(
        untouchable(), CONFIG, family="sd1", latent=LATENT, prompts=PROMPTS, settings=settings, progress=Log()
    )  # fmt: skip
    assert result is LATENT


def test_what_does_not_fit_is_said_before_weights_are_loaded() -> None:
    @contextmanager
    def untouchable() -> Iterator[nn.Module]:
        raise AssertionError("the weights were loaded")
        yield Toy()

    wrong = ((Cond(torch.zeros(1, 77, 9)),), PROMPTS[1])
    with pytest.raises(ValueError, match="positive conditioning has 9 features but this SD1 model expects 8"):
        sample(
            untouchable(), CONFIG, family="sd1", latent=LATENT, prompts=wrong, settings=Settings(), progress=Log()
        )  # fmt: skip


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


def test_a_full_denoise_starts_from_the_noise_at_the_largest_sigma() -> None:
    seen: list[Tensor] = []

    class Spy(Toy):
        def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, y: Tensor | None = None) -> Tensor:
            seen.append(x)
            return super().forward(x, timesteps, context, y)

    settings = Settings(seed=3, steps=2, cfg=1.0)
    sample(
        nullcontext(Spy()), CONFIG, family="sd1", latent=LATENT, prompts=PROMPTS, settings=settings, progress=Log()
    )  # fmt: skip
    top = trained_sigmas(CONFIG)[-1]
    expected = initial_noise((2, 4, 8, 8), 3) + 0.5 * LATENT.samples / (top**2 + 1).sqrt()
    assert torch.allclose(seen[0], expected, atol=1e-5)


def test_a_zero_snr_model_starts_from_a_far_larger_sigma() -> None:
    assert float(trained_sigmas(replace(CONFIG, zero_terminal_snr=True))[-1]) > 4000
