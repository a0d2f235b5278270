"""From prompts and scales to estimates of x0: the UNet's estimates under each prompt, and how guidance joins them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nodes.diffusion.conds import Area, Prompt
from nodes.diffusion.contract import Estimate
from nodes.diffusion.denoiser import Predict, Told
from nodes.diffusion.patches import Hooks
from nodes.diffusion.tweaks import NO_TWEAKS, Tweaks

if TYPE_CHECKING:
    from nodes.diffusion.controls import Controls

_LONGEST_REPEAT = 4
"""Tokens are repeated at most so often to share a forward; beyond that a second forward costs less."""
_NEARLY_NOTHING = 1e-37  # where no prompt applies x0 is 0, as in ComfyUI, not 0/0


@dataclass(frozen=True, slots=True)
class Guidance:
    """The prompts of a run by side (`positive`, `negative`, ...), and what steers by them.

    Attributes:
        predict: the UNet's estimate of x0 under a prompt.
        sides: the prompts of each side.
        hooks: what patches of the model change.
        wants_uncond: evaluate the negative side even where it has no part in the estimate, since a sampler asks for it.
        controls: what ControlNets add for the prompts they steer.
    """

    predict: Predict
    sides: Mapping[str, Sequence[Prompt]]
    hooks: Hooks
    wants_uncond: bool = False
    controls: Controls | None = None

    def estimates(
        self, x: Tensor, sigma: Tensor, names: Sequence[str | None], tweaks: Tweaks | None = None
    ) -> list[Tensor]:
        """x0 under each side named, zeros for None. Sides share forwards where shapes allow."""
        return self.under(x, sigma, [() if name is None else self.sides[name] for name in names], tweaks)

    def under(
        self, x: Tensor, sigma: Tensor, sides: Sequence[Sequence[Prompt]], tweaks: Tweaks | None = None
    ) -> list[Tensor]:
        """x0 under the prompts of each side, zeros for a side without any."""
        tweaks = self.hooks.tweaks if tweaks is None else tweaks
        level = float(sigma)
        jobs = [(side, prompt) for side, prompts in enumerate(sides) for prompt in prompts
                if prompt.applies_at(level)]  # fmt: skip
        found = [_Sum(x) for _ in sides]
        for group in _groups([prompt for _, prompt in jobs], x):
            members = [jobs[place] for place in group]
            outputs = self._forward(x, sigma, members, tweaks)
            for (side, prompt), output in zip(members, outputs, strict=True):
                found[side].add(prompt, output)
        return [total.mean() for total in found]

    def _forward(
        self, x: Tensor, sigma: Tensor, members: Sequence[tuple[int, Prompt]], tweaks: Tweaks
    ) -> Sequence[Tensor]:
        """The estimates under prompts that share a forward."""
        prompts = [prompt for _, prompt in members]
        length = math.lcm(*[prompt.context.shape[1] for prompt in prompts])
        context = torch.cat([prompt.context.repeat(1, length // prompt.context.shape[1], 1) for prompt in prompts])
        y = _cat([prompt.y for prompt in prompts])
        parts = torch.cat([_part(prompt, x) for prompt in prompts])
        concat = _cat([None if prompt.concat is None else _part(prompt, prompt.concat) for prompt in prompts])
        control = None
        if self.controls is not None and prompts[0].controls:
            control = self.controls.control(prompts[0].controls, parts, sigma, context, y, len(prompts))
        if tweaks is not NO_TWEAKS:
            tweaks = replace(tweaks, sides=tuple(side for side, _ in members), sigma=float(sigma))
        output = self.predict(parts, sigma, Told(context, y, concat, control), tweaks)
        return output.chunk(len(members))

    def one_side(self, x: Tensor, sigma: Tensor) -> Estimate:
        """The positive side alone."""
        return self._joined(x, sigma, 1.0, False)

    def cfg(self, x: Tensor, sigma: Tensor, scale: float) -> Estimate:
        """x0 = uncond + scale * (cond - uncond) (Ho & Salimans 2022, eq. 6 with w = scale - 1).

        At scale 1 the negative side has no part and is not evaluated unless something asks for it.
        """
        is_guided = self.wants_uncond or self.hooks.needs_uncond or not math.isclose(scale, 1.0)
        return self._joined(x, sigma, scale, is_guided)

    def dual(self, x: Tensor, sigma: Tensor, scale: float, middle_scale: float, *, nested: bool) -> Estimate:
        """Two prompts and a negative one (Brooks et al. 2023, "InstructPix2Pix", eq. 3).

        Args:
            scale: from the middle prompt to the positive one.
            middle_scale: from the negative prompt to the middle one; `nested`: to what the first two give.
        """
        is_needed = nested or self.wants_uncond or self.hooks.needs_uncond or not math.isclose(middle_scale, 1.0)
        negative, middle, positive = self.estimates(
            x, sigma, ("negative" if is_needed else None, "middle", "positive")
        )  # fmt: skip
        if nested:
            inner = self._join(positive, middle, Moment(x, sigma, scale, self, "positive", "middle"))
            return Estimate(negative + middle_scale * (inner - negative), negative)
        outer = self._join(middle, negative, Moment(x, sigma, middle_scale, self, "middle", "negative"))
        return Estimate(outer + (positive - middle) * scale, negative)

    def perp_neg(self, x: Tensor, sigma: Tensor, scale: float, neg_scale: float) -> Estimate:
        """Only that part of the negative prompt counts that is perpendicular to the positive one.

        Source: Armandpour et al. 2023, "Re-imagine the Negative Prompt Algorithm" (arXiv:2304.04968).
        """
        moment = Moment(x, sigma, scale, self)
        positive, negative, empty = self._before(self.estimates(x, sigma, ("positive", "negative", "empty")), moment)
        x0 = perpendicular(positive, negative, empty, scale, neg_scale)
        return Estimate(self._after(x0, positive, negative, moment), negative)

    def _joined(self, x: Tensor, sigma: Tensor, scale: float, is_guided: bool) -> Estimate:
        moment = Moment(x, sigma, scale, self)
        found = self.estimates(x, sigma, ("positive", "negative" if is_guided else None))
        cond, uncond = self._before(found, moment)
        return Estimate(self._join(cond, uncond, moment), uncond)

    def _join(self, cond: Tensor, uncond: Tensor, moment: Moment) -> Tensor:
        """Guidance from one estimate to another as the patches want it."""
        combine = self.hooks.combine
        x0 = uncond + (cond - uncond) * moment.scale if combine is None else combine(cond, uncond, moment)
        return self._after(x0, cond, uncond, moment)

    def _before(self, found: list[Tensor], moment: Moment) -> list[Tensor]:
        for change in self.hooks.before:
            found = change(found, moment)
        return found

    def _after(self, x0: Tensor, cond: Tensor, uncond: Tensor, moment: Moment) -> Tensor:
        for change in self.hooks.after:
            x0 = change(x0, cond, uncond, moment)
        return x0


@dataclass(frozen=True, slots=True)
class Moment:
    """One evaluation, as patches of guidance see it.

    Attributes:
        x, sigma: what was asked.
        scale: of the guidance.
        guidance: to ask more.
        positive, negative: the names of the sides.
    """

    x: Tensor
    sigma: Tensor
    scale: float
    guidance: Guidance
    positive: str = "positive"
    negative: str = "negative"

    def again(self, name: str, x: Tensor, tweaks: Tweaks | None = None) -> Tensor:
        """x0 under one side once more, for another x or with the UNet changed."""
        return self.guidance.estimates(x, self.sigma, (name,), tweaks)[0]

    def under(self, prompts: Sequence[Prompt]) -> Tensor:
        """x0 under other prompts."""
        return self.guidance.under(self.x, self.sigma, (prompts,))[0]


def perpendicular(positive: Tensor, negative: Tensor, empty: Tensor, scale: float, neg_scale: float) -> Tensor:
    """See `Guidance.perp_neg`."""
    towards, away = positive - empty, negative - empty
    length = towards.norm() ** 2
    along = (away * towards).sum() / length * towards if length > 0 else torch.zeros_like(away)
    return empty + scale * (towards - (away - along) * neg_scale)


class _Sum:
    """The weighted mean of what prompts give, pixel by pixel."""

    def __init__(self, x: Tensor) -> None:
        self._x = x
        self._only: tuple[Prompt, Tensor] | None = None
        self._total: Tensor | None = None
        self._weight: Tensor | None = None

    def add(self, prompt: Prompt, output: Tensor) -> None:
        """Another prompt's estimate, [B, C, h, w] of its area."""
        is_first = self._total is None and self._only is None
        if is_first and prompt.area is None and isinstance(prompt.strength, float) and prompt.strength == 1.0:
            self._only = prompt, output
            return
        if self._only is not None:
            first, self._only = self._only, None
            self._put(*first)
        self._put(prompt, output)

    def mean(self) -> Tensor:
        """x0, 0 where no prompt applies."""
        if self._only is not None:
            return self._only[1]
        if self._total is None or self._weight is None:
            return torch.zeros_like(self._x)
        return self._total / self._weight

    def _put(self, prompt: Prompt, output: Tensor) -> None:
        if self._total is None or self._weight is None:
            self._total = torch.zeros_like(self._x)
            self._weight = torch.full_like(self._x, _NEARLY_NOTHING)
        area = prompt.area or Area(self._x.shape[-2], self._x.shape[-1], 0, 0)
        area.of(self._total).add_(output * prompt.strength)
        area.of(self._weight).add_(prompt.strength)


def _groups(prompts: Sequence[Prompt], x: Tensor) -> Iterable[list[int]]:
    """The prompts, by place, that can share a forward: of one size and the same ControlNets, of lengths that meet.

    Attention does not change when all its tokens are repeated equally often, so lengths meet at their lcm.
    """
    groups: list[list[int]] = []
    for place, prompt in enumerate(prompts):
        for group in groups:
            lengths = [prompts[other].context.shape[1] for other in group] + [prompt.context.shape[1]]
            fits = math.lcm(*lengths) <= _LONGEST_REPEAT * min(lengths)
            first = prompts[group[0]]
            if fits and _size(first, x) == _size(prompt, x) and _same(first.controls, prompt.controls):
                group.append(place)
                break
        else:
            groups.append([place])
    return groups


def _size(prompt: Prompt, x: Tensor) -> tuple[int, ...]:
    return tuple(x.shape[-2:]) if prompt.area is None else prompt.area[:2]


def _part(prompt: Prompt, x: Tensor) -> Tensor:
    return x if prompt.area is None else prompt.area.of(x)


def _same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """True for the same things in the same order; they hold tensors, which are not compared by value."""
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _cat(parts: Sequence[Tensor | None]) -> Tensor | None:
    found = [part for part in parts if part is not None]
    return torch.cat(found) if found else None
