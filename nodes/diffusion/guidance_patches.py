"""Patches of how estimates are joined. In formulas c and u are x0 with and without the prompt, s is the cfg scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from typing_extensions import override

from nodes.diffusion.guidance import perpendicular
from nodes.diffusion.latent_operations import LatentOperation
from nodes.diffusion.patches import Hooks, Patch, Start
from nodes.types import Cond

if TYPE_CHECKING:
    from nodes.diffusion.guidance import Moment

_ALL = (-1, -2, -3)  # axes of one latent


@dataclass(frozen=True, slots=True)
class RescaleCFG(Patch):
    """Keeps the deviation of the prediction under guidance that it has without.

    Source: Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", eq. 15 and 16, in v.
    """

    multiplier: float

    @override
    def start(self, run: Start) -> Hooks:
        def combine(cond: Tensor, uncond: Tensor, moment: Moment) -> Tensor:
            x, sigma = moment.x, moment.sigma
            size = (sigma**2 + 1).sqrt()
            base = x / size**2  # what is left of x where v is 0
            v_cond, v_uncond = ((base - x0) * size / sigma for x0 in (cond, uncond))
            v = v_uncond + moment.scale * (v_cond - v_uncond)
            rescaled = v * (v_cond.std(_ALL, keepdim=True) / v.std(_ALL, keepdim=True))
            return base - torch.lerp(v, rescaled, self.multiplier) * sigma / size

        return Hooks(combine=combine)


@dataclass(frozen=True, slots=True)
class PerpNeg(Patch):
    """Only that part of the negative prompt counts that is perpendicular to the positive one.

    Source: Armandpour et al. 2023 (arXiv:2304.04968).
    """

    empty: tuple[Cond, ...]
    neg_scale: float

    @override
    def start(self, run: Start) -> Hooks:
        prompts = run.prepare(self.empty)

        def combine(cond: Tensor, uncond: Tensor, moment: Moment) -> Tensor:
            empty = moment.under(prompts)
            return perpendicular(cond, uncond, empty, moment.scale, self.neg_scale)

        return Hooks(combine=combine, needs_uncond=True)


@dataclass(frozen=True, slots=True)
class CFGZeroStar(Patch):
    """Scales the unconditional prediction to fit the conditional one (Fan et al. 2025, arXiv:2503.18886)."""

    @override
    def start(self, run: Start) -> Hooks:
        def after(x0: Tensor, cond: Tensor, uncond: Tensor, moment: Moment) -> Tensor:
            positive, negative = moment.x - cond, moment.x - uncond
            fit = (positive * negative).sum(_ALL, keepdim=True) / (negative.square().sum(_ALL, keepdim=True) + 1e-8)
            return x0 + uncond * (fit - 1) * (1 - moment.scale)

        return Hooks(after=(after,))


@dataclass(frozen=True, slots=True)
class CFGNorm(Patch):
    """Keeps the guided estimate from being longer, pixel by pixel, than the one under the prompt alone."""

    strength: float

    @override
    def start(self, run: Start) -> Hooks:
        def after(x0: Tensor, cond: Tensor, uncond: Tensor, moment: Moment) -> Tensor:
            longer = cond.norm(dim=1, keepdim=True) / (x0.norm(dim=1, keepdim=True) + 1e-8)
            return x0 * longer.clamp(0, 1) * self.strength

        return Hooks(after=(after,))


@dataclass(frozen=True, slots=True)
class APG(Patch):
    """Adaptive projected guidance (Sadat et al. 2024, arXiv:2410.02416).

    Attributes:
        eta: how much of the guidance along c is kept.
        norm_threshold: the guidance is no longer than this; 0 for no limit.
        momentum: how much of earlier guidance is added.
    """

    eta: float
    norm_threshold: float
    momentum: float

    @override
    def start(self, run: Start) -> Hooks:
        average: Tensor | None = None
        sigma_before = float("inf")

        def before(found: list[Tensor], moment: Moment) -> list[Tensor]:
            nonlocal average, sigma_before
            if not moment.scale or moment.negative not in moment.guidance.sides:
                return found
            cond, uncond, *others = found
            guidance = cond - uncond
            sigma = float(moment.sigma)
            if self.momentum:
                if average is not None and sigma <= sigma_before:
                    guidance = self.momentum * average + guidance
                average, sigma_before = guidance, sigma
            if self.norm_threshold:
                length = guidance.norm(p=2, dim=_ALL, keepdim=True)
                guidance = guidance * (self.norm_threshold / length).clamp(max=1)
            along = cond / cond.norm(p=2, dim=_ALL, keepdim=True).clamp(min=1e-12)
            parallel = (guidance * along).sum(_ALL, keepdim=True) * along
            guidance = guidance - parallel + self.eta * parallel
            return [uncond + guidance + (cond - uncond) / moment.scale, uncond, *others]

        return Hooks(before=(before,), needs_uncond=True)


@dataclass(frozen=True, slots=True)
class TCFG(Patch):
    """Drops what of the unconditional score is tangential (Kwon et al. 2025, arXiv:2503.18137)."""

    @override
    def start(self, run: Start) -> Hooks:
        def before(found: list[Tensor], moment: Moment) -> list[Tensor]:
            cond, uncond, *others = found
            scores = torch.stack([(moment.x - x0).flatten(1) for x0 in (uncond, cond)], dim=1)  # [B, 2, N]
            direction = torch.linalg.svd(scores, full_matrices=False)[2][:, :1]
            kept = (scores[:, :1] * direction).sum(-1, keepdim=True) * direction
            return [cond, moment.x - kept.reshape(uncond.shape), *others]

        return Hooks(before=(before,))


@dataclass(frozen=True, slots=True)
class OperationCFG(Patch):
    """Applies an operation on latents to the guidance c - u, such as a tone map."""

    operation: LatentOperation

    @override
    def start(self, run: Start) -> Hooks:
        def before(found: list[Tensor], moment: Moment) -> list[Tensor]:
            cond, uncond, *others = found
            return [self.operation(cond - uncond) + uncond, uncond, *others]

        return Hooks(before=(before,))


@dataclass(frozen=True, slots=True)
class DifferentialDiffusion(Patch):
    """Makes a soft mask say when a pixel joins in: it is denoised from the time on that the mask's value names.

    Source: Levin & Fried 2023 (arXiv:2306.00950).
    """

    strength: float = 1.0

    @override
    def start(self, run: Start) -> Hooks:
        timestep = run.parametrisation.timestep
        first = timestep(run.sigmas[0])
        last = timestep(torch.maximum(run.sigmas[-1], run.parametrisation.table[0]))

        def mask_at(mask: Tensor, sigma: Tensor) -> Tensor:
            threshold = ((timestep(sigma) - last) / (first - last)).nan_to_num()
            joined = (mask >= threshold.to(mask)).to(mask)
            return joined if self.strength in (0.0, 1.0) else torch.lerp(mask, joined, self.strength)

        return Hooks(mask=mask_at)
