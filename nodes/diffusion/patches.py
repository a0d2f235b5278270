"""A patch of a model: a value on a link that says what is to be done otherwise while sampling. It holds no state.

When a run starts, `Patch.start` gives the hooks of that run; what has to be remembered from step to step lives there,
so nothing of one run reaches another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from nodes.diffusion.parametrisation import Parametrisation
from nodes.diffusion.tweaks import NO_TWEAKS, Tweaks
from nodes.types import Cond

if TYPE_CHECKING:
    from nodes.diffusion.architecture import UNetConfig
    from nodes.diffusion.conds import Prompt
    from nodes.diffusion.guidance import Moment

Before = Callable[[list[Tensor], "Moment"], list[Tensor]]
"""Changes the estimates, of the positive and the negative side and perhaps others, before they are joined."""
Combine = Callable[[Tensor, Tensor, "Moment"], Tensor]
"""Joins them: (cond, uncond, moment) -> x0."""
After = Callable[[Tensor, Tensor, Tensor, "Moment"], Tensor]
"""Changes what was joined: (x0, cond, uncond, moment) -> x0."""
MaskAt = Callable[[Tensor, Tensor], Tensor]
"""The mask [B, 1, h, w] at a sigma: (mask, sigma) -> mask."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What patches change in one run; the default changes nothing.

    Attributes:
        needs_uncond: the negative side is evaluated also where guidance needs it not.
    """

    before: tuple[Before, ...] = ()
    combine: Combine | None = None
    after: tuple[After, ...] = ()
    mask: MaskAt | None = None
    tweaks: Tweaks = NO_TWEAKS
    needs_uncond: bool = False


class Start(NamedTuple):
    """What a patch is told when a run starts.

    Attributes:
        config: of the UNet.
        parametrisation: how it is read.
        sigmas: the schedule, on the CPU.
        prepare: makes a CONDITIONING ready for the UNet, as one of the negative side.
        generator: makes a generator of the run's seed, as it stands after the initial noise was drawn.
    """

    config: UNetConfig
    parametrisation: Parametrisation
    sigmas: Tensor
    prepare: Callable[[Sequence[Cond]], Sequence[Prompt]]
    generator: Callable[[], torch.Generator]


class Patch:
    """The base of all patches, which are frozen dataclasses."""

    __slots__ = ()

    def parametrise(self, parametrisation: Parametrisation) -> Parametrisation:
        """How the UNet is read with this patch."""
        return parametrisation

    def start(self, run: Start) -> Hooks:
        """What it changes in one run."""
        return Hooks()


def parametrised(patches: Iterable[object], trained: Parametrisation) -> Parametrisation:
    """How a UNet is read with all patches of a model."""
    for patch in patches:
        if isinstance(patch, Patch):
            trained = patch.parametrise(trained)
    return trained


def started(patches: Iterable[object], run: Start) -> Hooks:
    """The hooks of all patches: changes follow one another in order, of replacements the last one counts."""
    all_hooks = [patch.start(run) for patch in patches if isinstance(patch, Patch)]
    if not all_hooks:
        return Hooks()
    tweaks = [hooks.tweaks for hooks in all_hooks]
    attend = {place: attend for tweak in tweaks for place, attend in tweak.attend.items()}
    return Hooks(
        before=tuple(change for hooks in all_hooks for change in hooks.before),
        combine=next((hooks.combine for hooks in reversed(all_hooks) if hooks.combine is not None), None),
        after=tuple(change for hooks in all_hooks for change in hooks.after),
        mask=next((hooks.mask for hooks in reversed(all_hooks) if hooks.mask is not None), None),
        tweaks=Tweaks(
            inputs=tuple(change for tweak in tweaks for change in tweak.inputs),
            skipped=tuple(change for tweak in tweaks for change in tweak.skipped),
            outputs=tuple(change for tweak in tweaks for change in tweak.outputs),
            queries=tuple(change for tweak in tweaks for change in tweak.queries),
            contexts=tuple(change for tweak in tweaks for change in tweak.contexts),
            attend=attend,
        ),
        needs_uncond=any(hooks.needs_uncond for hooks in all_hooks),
    )
