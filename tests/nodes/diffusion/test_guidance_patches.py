"""Patches of guidance against their papers' formulas and diffusers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.conds import Prompt
from nodes.diffusion.denoiser import Told
from nodes.diffusion.guidance import Guidance
from nodes.diffusion.guidance_patches import (
    APG,
    TCFG,
    CFGNorm,
    CFGZeroStar,
    DifferentialDiffusion,
    OperationCFG,
    PerpNeg,
    RescaleCFG,
)
from nodes.diffusion.parametrisation import continuous, trained
from nodes.diffusion.patches import Patch, Start, started
from nodes.diffusion.tweaks import Tweaks
from nodes.types import Cond

CONFIG = UNetConfig(
    in_channels=4, out_channels=4, model_channels=32, channel_mult=(1,), num_res_blocks=(1,), transformer_depth=(1,),
    middle_depth=1, context_dim=8, num_heads=8, head_channels=None, use_linear=False,
)  # fmt: skip
PARAMETRISATION = trained(CONFIG)
SIGMA = torch.tensor(2.0)
X, COND, UNCOND, EMPTY = torch.randn((4, 2, 4, 3, 5), generator=torch.Generator().manual_seed(0)).unbind()
ESTIMATES = {0.0: COND, 1.0: UNCOND, 2.0: EMPTY}
ALL = (1, 2, 3)


def predict(x: Tensor, sigma: Tensor, told: Told, tweaks: Tweaks) -> Tensor:
    """The estimate that a prompt's first number names."""
    return torch.cat([ESTIMATES[float(part[0, 0, 0])] for part in told.context.chunk(len(told.context) // 2)])


def side(number: float) -> list[Prompt]:
    return [Prompt(torch.full((2, 77, 8), number))]


def start(sigmas: Sequence[float] | Tensor = (14.0, 2.0, 0.0), **changed: Any) -> Start:
    def prepare(conds: Sequence[Cond]) -> list[Prompt]:
        return [Prompt(cond.tokens.repeat(2, 1, 1)) for cond in conds]

    return Start(CONFIG, PARAMETRISATION, torch.as_tensor(sigmas), prepare, torch.Generator)._replace(**changed)


def steered(*patches: Patch, basic: bool = False) -> Callable[..., Tensor]:
    """One run: x0 at a scale and sigma."""
    sides = {"positive": side(0.0)} if basic else {"positive": side(0.0), "negative": side(1.0)}
    guidance = Guidance(predict, sides, started(patches, start()))

    def at(scale: float, sigma: float = 2.0) -> Tensor:
        level = torch.tensor(sigma)
        return (guidance.one_side(X, level) if basic else guidance.cfg(X, level, scale)).x0

    return at


def length(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)


def plain(scale: float) -> Tensor:
    return UNCOND + scale * (COND - UNCOND)


@pytest.mark.parametrize("multiplier", [0.3, 0.7, 1.0])
def test_rescaled_guidance_is_that_of_diffusers_in_v(multiplier: float) -> None:
    peer = pytest.importorskip("diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion")
    alpha = 1 / math.sqrt(5)  # sigma is 2
    z = alpha * X

    def v(x0: Tensor) -> Tensor:  # z = alpha x0 + sigma alpha noise; v = alpha noise - sigma alpha x0
        noise = (z - alpha * x0) / (2 * alpha)
        return alpha * noise - 2 * alpha * x0

    guided = v(UNCOND) + 6.0 * (v(COND) - v(UNCOND))
    rescaled = peer.rescale_noise_cfg(guided, v(COND), multiplier)
    expected = alpha * z - 2 * alpha * rescaled
    torch.testing.assert_close(steered(RescaleCFG(multiplier))(6.0), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("patch", [RescaleCFG(0.0), APG(0.0, 0.0, 0.0), OperationCFG(lambda latent: latent)])
def test_these_change_nothing_at_scale_zero_or_by_default(patch: Patch) -> None:
    scale = 0.0 if isinstance(patch, APG) else 5.0
    torch.testing.assert_close(steered(patch)(scale), plain(scale), rtol=1e-5, atol=1e-5)


def test_scale_one_leaves_the_prompts_own_estimate() -> None:
    for patch in (RescaleCFG(1.0), CFGZeroStar(), CFGNorm(1.0), TCFG()):
        torch.testing.assert_close(steered(patch)(1.0), COND, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(steered(patch, basic=True)(1.0), COND, rtol=1e-5, atol=1e-5)


def test_cfg_zero_star_scales_the_unconditional_prediction_to_fit() -> None:
    cond, uncond = X - COND, X - UNCOND  # predictions, up to a factor
    fit = (cond * uncond).sum(ALL, keepdim=True) / uncond.square().sum(ALL, keepdim=True)
    expected = (1 - 4.0) * UNCOND * fit + 4.0 * COND
    torch.testing.assert_close(steered(CFGZeroStar())(4.0), expected, rtol=1e-4, atol=1e-4)


def test_cfg_norm_keeps_pixels_no_longer_than_under_the_prompt_alone() -> None:
    found, guided = steered(CFGNorm(0.5))(4.0), plain(4.0)
    lengths, wanted = guided.norm(dim=1), COND.norm(dim=1)
    torch.testing.assert_close(found.norm(dim=1), 0.5 * torch.minimum(lengths, wanted))
    torch.testing.assert_close(found / found.norm(dim=1, keepdim=True), guided / lengths[:, None])


def apg(guidance: Tensor, eta: float, threshold: float) -> Tensor:
    """The paper's algorithm 1 without momentum."""
    guidance = guidance * (threshold / length(guidance)).clamp(max=1)
    unit = COND / length(COND)
    parallel = (guidance * unit).sum(ALL, keepdim=True) * unit
    return guidance - parallel + eta * parallel


@pytest.mark.parametrize(("eta", "threshold"), [(1.0, 100.0), (0.0, 100.0), (0.3, 2.0), (-1.0, 0.5)])
def test_apg_projects_and_shortens_the_guidance(eta: float, threshold: float) -> None:
    """ComfyUI, whose numbers these are, adds `scale` times the guidance to c; the paper one time less."""
    found = steered(APG(eta, threshold, 0.0))(4.0)
    torch.testing.assert_close(found, COND + 4.0 * apg(COND - UNCOND, eta, threshold), rtol=1e-4, atol=1e-4)


def test_apg_without_a_threshold_does_not_shorten() -> None:
    torch.testing.assert_close(steered(APG(0.5, 0.0, 0.0))(4.0), steered(APG(0.5, 1e6, 0.0))(4.0))


def test_apg_remembers_guidance_until_sigma_rises_or_a_run_ends() -> None:
    guidance = COND - UNCOND
    patch = APG(1.0, 0.0, 0.5)
    at = steered(patch)
    factors = [1.0, 1.5, 1.75, 1.0, 1.5]  # the fourth sigma is higher than the third
    for factor, sigma in zip(factors, (9.0, 4.0, 4.0, 8.0, 2.0), strict=True):
        torch.testing.assert_close(at(3.0, sigma), COND + 3.0 * factor * guidance, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(steered(patch)(3.0, 1.0), COND + 3.0 * guidance, rtol=1e-4, atol=1e-4)


def test_apg_has_nothing_to_add_where_there_is_no_negative_prompt_or_no_guidance() -> None:
    torch.testing.assert_close(steered(APG(1.0, 0.0, 0.0), basic=True)(1.0), COND)
    torch.testing.assert_close(steered(APG(1.0, 0.0, 0.0))(0.0), UNCOND)
    torch.testing.assert_close(steered(APG(1.0, 0.0, 0.0))(1.0), COND + (COND - UNCOND))


def test_tangential_damping_keeps_the_score_along_the_main_direction() -> None:
    scores = torch.stack([X - UNCOND, X - COND]).flatten(2).double()  # [2, B, N]
    kept: list[Tensor] = []
    for pair in scores.unbind(1):
        direction = torch.linalg.eigh(pair.T @ pair)[1][:, -1]  # of the largest variance
        kept.append((pair[0] @ direction) * direction)
    uncond = X - torch.stack(kept).reshape(X.shape).float()
    torch.testing.assert_close(steered(TCFG())(4.0), uncond + 4.0 * (COND - uncond), rtol=1e-4, atol=1e-4)


def test_an_operation_is_applied_to_the_guidance() -> None:
    found = steered(OperationCFG(lambda latent: latent.sign()))(4.0)
    torch.testing.assert_close(found, UNCOND + 4.0 * (COND - UNCOND).sign())


def test_the_perp_neg_patch_is_the_perp_neg_guider() -> None:
    patch = PerpNeg((Cond(torch.full((1, 77, 8), 2.0)),), 1.5)
    sides = {"positive": side(0.0), "negative": side(1.0), "empty": side(2.0)}
    guidance = Guidance(predict, sides, started([], start()))
    for scale in (1.0, 4.0):
        torch.testing.assert_close(steered(patch)(scale), guidance.perp_neg(X, SIGMA, scale, 1.5).x0)
    towards, away = (COND - EMPTY).flatten(), (UNCOND - EMPTY).flatten()
    away = away - (away @ towards) / (towards @ towards) * towards
    expected = EMPTY + 4.0 * (towards - 1.5 * away).reshape(X.shape)
    torch.testing.assert_close(steered(patch)(4.0), expected, rtol=1e-4, atol=1e-4)


def test_patches_before_and_after_work_together() -> None:
    found = steered(CFGNorm(1.0), RescaleCFG(0.0), OperationCFG(lambda latent: 2 * latent))(3.0)
    torch.testing.assert_close(found.norm(dim=1), torch.minimum(plain(6.0).norm(dim=1), plain(2.0).norm(dim=1)))


def mask_at(patch: DifferentialDiffusion, sigma: float, **changed: Any) -> list[float]:
    change = patch.start(start(**changed)).mask
    assert change is not None
    return change(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]), torch.tensor(sigma)).tolist()


def test_a_pixel_joins_when_its_share_of_the_time_is_left() -> None:
    table = PARAMETRISATION.table
    sigmas = [float(table[900]), float(table[500]), float(table[100]), 0.0]
    patch = DifferentialDiffusion()
    for step, threshold in ((900, 1.0), (810, 0.9), (450, 0.5), (451, 0.502), (225, 0.25), (0, 0.0)):
        wanted = [float(value >= threshold) for value in (0.0, 0.25, 0.5, 0.75, 1.0)]
        assert mask_at(patch, float(table[step]), sigmas=sigmas) == wanted, step


def test_a_schedule_that_stops_early_has_its_own_time() -> None:
    table = PARAMETRISATION.table
    sigmas = torch.tensor([float(table[900]), float(table[500])])
    assert mask_at(DifferentialDiffusion(), float(table[500]), sigmas=sigmas) == [1.0] * 5
    assert mask_at(DifferentialDiffusion(), float(table[700]), sigmas=sigmas) == [0.0, 0.0, 1.0, 1.0, 1.0]


def test_in_a_continuous_model_time_is_log_sigma() -> None:
    changed = {"parametrisation": continuous("eps", 0.01, 100.0), "sigmas": torch.tensor([100.0, 0.0])}
    assert mask_at(DifferentialDiffusion(), 0.99, **changed) == [0.0, 0.0, 1.0, 1.0, 1.0]
    assert mask_at(DifferentialDiffusion(), 1.01, **changed) == [0.0, 0.0, 0.0, 1.0, 1.0]


def test_strength_mixes_the_thresholded_mask_with_the_mask() -> None:
    found = mask_at(DifferentialDiffusion(0.25), float(PARAMETRISATION.table[999]), sigmas=torch.tensor([14.7, 0.0]))
    assert found == pytest.approx([0.0, 0.1875, 0.375, 0.5625, 1.0])


def test_a_schedule_of_no_time_denoises_everything() -> None:
    lowest = float(PARAMETRISATION.table[0])
    assert mask_at(DifferentialDiffusion(), lowest, sigmas=torch.tensor([lowest, 0.0])) == [1.0] * 5
