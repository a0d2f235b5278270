"""What ControlNets and adapters do in one run: hints cut to size, steps, strengths, masks, and all of it added up."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor, nn

from nodes.diffusion.adapter import Adapter, adapter_control
from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.checkpoints import Part, family_name
from nodes.diffusion.control_files import AdapterConfig, ControlPart
from nodes.diffusion.parametrisation import Parametrisation
from nodes.diffusion.resize import resize
from nodes.diffusion.unet import Control
from nodes.types import Cond, ControlUse

_CELL = 8  # pixels of a latent cell, along each side
_ON_BOTH_SIDES = "control_apply_to_uncond"


class Controls:
    """The ControlNets and adapters of one run.

    Args:
        lend: gives the network of some weights, on the device of the latent, to be kept for the run.
        unet: of the model that is steered.
        parametrisation: how it is read.
    """

    def __init__(
        self, lend: Callable[[ControlPart], nn.Module], unet: Part[UNetConfig], parametrisation: Parametrisation
    ) -> None:
        self._lend, self._unet, self._parametrisation = lend, unet, parametrisation
        self._nets: dict[str, nn.Module] = {}
        self._hints: dict[tuple[ControlUse, int, int], Tensor] = {}
        self._features: dict[tuple[ControlUse, int, int], list[Tensor]] = {}
        self._masks: dict[tuple[ControlUse, tuple[int, ...], tuple[int, ...]], Tensor] = {}

    def control(
        self, uses: Sequence[ControlUse], x: Tensor, sigma: Tensor, context: Tensor, y: Tensor | None, prompts: int = 1
    ) -> Control | None:
        """What they add for a batch, all together; None where none of them applies at this sigma.

        Args:
            uses: the first applied first.
            x: [B, C, h, w], of one area, not scaled.
            sigma: scalar.
            context: [B, T, D].
            y: [B, A], of SDXL.
            prompts: how many share the batch, each with the whole batch of latents; they see the same hints.
        """
        total: Control | None = None
        level = float(sigma)
        for use in uses:
            start, end = (self._parametrisation.sigma_at(part) for part in (use.start_percent, use.end_percent))
            if end <= level <= start:
                found = self._found(use, x, sigma, context, y, prompts)
                found = _each(found, lambda part, use=use: self._weighed(part, use, x, prompts))
                total = found if total is None else _sum(total, found)
        return total

    def _found(
        self, use: ControlUse, x: Tensor, sigma: Tensor, context: Tensor, y: Tensor | None, prompts: int
    ) -> Control:
        """What one of them says."""
        net = self._net(use)
        height, width = x.shape[-2] * _CELL, x.shape[-1] * _CELL
        if isinstance(net, Adapter):
            features = [spread(part, len(x), prompts) for part in self._adapted(use, net, height, width)]
            return adapter_control(features, self._unet.config, is_xl=net.config.is_xl)
        hint = spread(self._hint(use, height, width, x.device), len(x), prompts)
        seen = self._parametrisation.scaled(x, sigma)
        timesteps = torch.full((len(x),), float(self._parametrisation.timestep(sigma)), device=x.device)
        return net(seen, hint, timesteps, context, y, use.control.union_type)

    def _net(self, use: ControlUse) -> nn.Module:
        part = use.control.net.over(self._unet)
        if part.fingerprint not in self._nets:
            self._nets[part.fingerprint] = self._lend(part)
        return self._nets[part.fingerprint]

    def _hint(self, use: ControlUse, height: int, width: int, device: torch.device) -> Tensor:
        """The hint [N, C, H, W] at a size: cut in the middle to its aspect, pixels repeated or left out."""
        key = use, height, width
        if key not in self._hints:
            hint = resize(_channels(use), width, height, "nearest-exact", "center")
            self._hints[key] = hint.contiguous().to(device)  # else convolutions round as the picture happens to lie
        return self._hints[key]

    def _adapted(self, use: ControlUse, net: Adapter, height: int, width: int) -> list[Tensor]:
        """Features, which are the same at every step."""
        key = use, height, width
        if key not in self._features:
            height, width = (math.ceil(side / net.cell) * net.cell for side in (height, width))
            self._features[key] = net(self._hint(use, height, width, next(net.parameters()).device))
        return self._features[key]

    def _weighed(self, found: Tensor, use: ControlUse, x: Tensor, prompts: int) -> Tensor:
        """A residual [B, C, h, w], as strong as it is to be, in places."""
        if use.control.net.is_pooled:
            found = found.mean((2, 3), keepdim=True).expand_as(found)
        found = found * use.strength
        if use.mask is None:
            return found
        key = use, tuple(x.shape[-2:]), tuple(found.shape[-2:])
        if key not in self._masks:  # cut as the hint is, then stretched over the residual
            mask = use.mask.float().reshape(-1, 1, *use.mask.shape[-2:])
            mask = resize(mask, x.shape[-1] * _CELL, x.shape[-2] * _CELL, "bilinear", "center")
            self._masks[key] = resize(mask, found.shape[-1], found.shape[-2], "bilinear").to(found)
        return found * spread(self._masks[key], len(x), prompts)


def spread(items: Tensor, batch: int, prompts: int) -> Tensor:
    """Items for a batch that some prompts share: item k goes with latent k of each; a single one goes with all.

    Too few are taken again from the first (ComfyUI's `broadcast_image_to`).
    """
    if len(items) == 1:
        return items
    places = torch.arange(batch // prompts, device=items.device) % len(items)
    return items[places.repeat(prompts)]


def steered(sides: Mapping[str, Sequence[Cond]], unet: Part[UNetConfig]) -> dict[str, list[Cond]]:
    """Conditionings with the ControlNets that steer them in a run; equal ones become one, so that forwards are shared.

    What ControlNetApply put on the positive side steers the others as well, where they have none of their own and no
    area (ComfyUI's `apply_empty_x_to_equal_area`).

    Raises:
        ValueError: a ControlNet is made for another kind of model.
    """
    known: list[ControlUse] = []
    found: dict[str, list[Cond]] = {}
    for name, conds in sides.items():
        found[name] = [_known(cond, known) for cond in conds]
    for use in known:
        _check(use.control.net, unet)
    shared = [cond.options["control"] for cond in found.get("positive", ())
              if _has(cond) and cond.options.get(_ON_BOTH_SIDES)]  # fmt: skip
    for name, conds in found.items():
        if name != "positive" and not any(map(_has, conds)):
            free = [place for place, cond in enumerate(conds) if not _has_area(cond)]
            for i, uses in enumerate(shared if free else ()):
                place = free[i % len(free)]
                conds[place] = replace(conds[place], options={**conds[place].options, "control": uses})
    return found


def _has(cond: Cond) -> bool:
    return bool(cond.options.get("control")) and not _has_area(cond)


def _has_area(cond: Cond) -> bool:
    options = cond.options
    is_bounded = options.get("mask") is not None and bool(options.get("set_area_to_bounds"))
    return is_bounded or options.get("area") is not None


def _known(cond: Cond, known: list[ControlUse]) -> Cond:
    """The conditioning with the first of equal uses, which may have come from disk, one by one."""
    uses: list[ControlUse] = []
    for use in cond.options.get("control", ()):
        same = next((other for other in known if other is use or other.equals(use)), None)
        if same is None:
            known.append(use)
        uses.append(same or use)
    return replace(cond, options={**cond.options, "control": tuple(uses)}) if uses else cond


def _check(net: ControlPart, unet: Part[UNetConfig]) -> None:
    """Raises ValueError where a net cannot steer a UNet."""
    theirs = unet.config
    widths = tuple(theirs.model_channels * mult for mult in theirs.channel_mult)
    if isinstance(net.config, AdapterConfig):
        fits = net.config.channels == ((*widths, widths[-1]) if net.config.is_xl else widths)
    else:
        own = net.over(unet).config.unet  # type: ignore[union-attr]  # no adapter
        same = ("model_channels", "channel_mult", "num_res_blocks", "adm_in_channels")
        fits = (
            own is not None and net.width in (None, theirs.context_dim) and own.in_channels == theirs.out_channels
            and all(getattr(own, name) == getattr(theirs, name) for name in same)
        )  # fmt: skip
    if not fits:
        made_for = "another kind of model" if net.family is None else family_name(net.family, net.width)
        raise ValueError(
            f"the ControlNet {Path(net.path).name} is made for {made_for}, and the model "
            f"{Path(unet.path).name} is {family_name(unet.family, theirs.context_dim)}; choose one made for that"
        )


def _channels(use: ControlUse) -> Tensor:
    """The hint [N, C, H, W], with as many channels as its net sees: alpha is dropped, grey is repeated or made."""
    hint, count = use.hint.movedim(-1, 1).float(), use.control.net.config.hint_channels
    if hint.shape[1] > 1 and count == 1:
        return hint.mean(1, keepdim=True)
    if hint.shape[1] == 1:
        return hint.expand(-1, count, -1, -1)
    if hint.shape[1] < count:
        raise ValueError(
            f"{Path(use.control.net.path).name} sees pictures of {count} channels and was given one of {hint.shape[1]}"
        )
    return hint[:, :count]


def _each(control: Control, change: Callable[[Tensor], Tensor]) -> Control:
    def maybe(x: Tensor | None) -> Tensor | None:
        return None if x is None else change(x)

    return Control(tuple(map(maybe, control.input)), maybe(control.middle), tuple(map(maybe, control.output)))


def _sum(one: Control, other: Control) -> Control:
    def plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
        return b if a is None else a if b is None else a + b

    return Control(
        tuple(plus(a, b) for a, b in zip_longest(one.input, other.input)),
        plus(one.middle, other.middle),
        tuple(plus(a, b) for a, b in zip_longest(one.output, other.output)),
    )
