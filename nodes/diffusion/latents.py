"""Latents as values: two of one size, batches of several, and the noise mask that goes with what is moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nodes.diffusion.denoiser import fit_mask, repeat_to
from nodes.diffusion.resize import resize
from nodes.types import LatentValue


def check_channels(first: Tensor, second: Tensor) -> None:
    """Raises ValueError when two latents [B, C, ...] are of different kinds of models."""
    if first.shape[1] != second.shape[1] or first.ndim != second.ndim:
        raise ValueError(
            f"the latents have shapes {list(first.shape)} and {list(second.shape)}; expected the same number of "
            "channels; use latents of one kind of model"
        )


def sized_like(latent: Tensor, other: Tensor, method: str = "bilinear") -> Tensor:
    """A latent [B, C, h, w] at the height and width of another, cut to its aspect ratio around the middle.

    Raises:
        ValueError: they have other channels.
    """
    check_channels(latent, other)
    if latent.shape[1:] == other.shape[1:]:
        return latent
    return resize(latent, other.shape[-1], other.shape[-2], method, "center")


def moved(latent: LatentValue, change: Callable[[Tensor], Tensor]) -> LatentValue:
    """A latent with `change` applied to its samples [B, C, h, w] and, at the same size, to its mask [B, 1, h, w]."""
    mask = latent.noise_mask
    if mask is not None:
        mask = change(fit_mask(mask, latent.samples)).squeeze(1)
    return replace(latent, samples=change(latent.samples), noise_mask=mask)


def joined(latents: Sequence[LatentValue], samples: Sequence[Tensor], dim: int = 0) -> tuple[Tensor, Tensor | None]:
    """Latents side by side along `dim`, and their masks likewise: [B, h, w], 1 where one had none.

    Args:
        latents: whose masks they are.
        samples: their samples, at the sizes to be joined.
        dim: 0 for one batch, -1 or -2 for one picture.

    Raises:
        ValueError: they do not fit together.
    """
    try:
        whole = torch.cat(list(samples), dim)
    except RuntimeError:
        shapes = " and ".join(str(list(item.shape)) for item in samples)
        raise ValueError(f"latents {shapes} do not fit side by side; resize or cut one of them first") from None
    if all(latent.noise_mask is None for latent in latents):
        return whole, None
    masks = [
        item.new_ones(len(item), 1, *item.shape[-2:])
        if latent.noise_mask is None
        else fit_mask(latent.noise_mask, item)
        for latent, item in zip(latents, samples, strict=True)
    ]
    return whole, torch.cat(masks, dim).squeeze(1)


def places(latent: LatentValue, start: int = 0) -> tuple[int, ...]:
    """The place of each item in the batch whose noise it takes; counted from `start` where the latent names none."""
    if latent.batch_index is not None:
        return latent.batch_index
    return tuple(range(start, start + len(latent.samples)))


def items(latent: LatentValue, start: int, stop: int) -> LatentValue:
    """Items `start` up to `stop` of a batch, with their masks and places."""
    mask = latent.noise_mask
    if mask is not None and len(mask) > 1:
        mask = repeat_to(mask, len(latent.samples))[start:stop].clone()
    return LatentValue(latent.samples[start:stop].clone(), mask, places(latent)[start:stop])


def repeated(latent: LatentValue, count: int) -> LatentValue:
    """A batch of `count` of one latent [1, C, h, w], all with its mask and, where it names one, its place."""
    index = latent.batch_index
    return replace(latent, samples=repeat_to(latent.samples, count), batch_index=index and index * count)


def rebatched(latents: Sequence[LatentValue], size: int) -> list[LatentValue]:
    """The items of several latents in batches of `size`; where the shape changes, and at the end, a batch may be less.

    A mask that is 1 everywhere is left out.
    """
    found: list[LatentValue] = []
    run: list[LatentValue] = []
    count = 0
    for latent in latents:
        if run and latent.samples.shape[1:] != run[0].samples.shape[1:]:
            found += _chunks(run, size)
            run = []
        run.append(replace(latent, batch_index=places(latent, count)))
        count += len(latent.samples)
    return found + _chunks(run, size) if run else found


def _chunks(run: Sequence[LatentValue], size: int) -> list[LatentValue]:
    samples, mask = joined(run, [latent.samples for latent in run])
    whole = LatentValue(samples, mask, tuple(place for latent in run for place in places(latent)))
    chunks = [items(whole, start, start + size) for start in range(0, len(samples), size)]
    return [
        replace(chunk, noise_mask=None)
        if chunk.noise_mask is not None and bool((chunk.noise_mask == 1).all())
        else chunk
        for chunk in chunks
    ]


def feathered(source: Tensor, onto: Tensor, x: int, y: int, feather: int) -> Tensor:
    """`source` laid over `onto` at column x and row y, fading in over `feather` cells where it ends inside `onto`.

    Args:
        source: [b, C, h, w]; repeated to the batch of `onto`.
        onto: [B, C, H, W].
        x: at least 0.
        y: at least 0.
        feather: width of the fade; 0 for none.

    Returns:
        [B, C, H, W].
    """
    check_channels(source, onto)
    height, width = onto.shape[-2:]
    source = repeat_to(source, len(onto))[..., : max(0, height - y), : max(0, width - x)]
    h, w = source.shape[-2:]
    rows = _fade(h, feather, is_start=y > 0, is_end=y + h < height).to(onto)
    columns = _fade(w, feather, is_start=x > 0, is_end=x + w < width).to(onto)
    weights = rows[:, None] * columns
    result = onto.clone()
    place = result[..., y : y + h, x : x + w]
    place.copy_(source * weights + place * (1 - weights))
    return result


def _fade(size: int, feather: int, *, is_start: bool, is_end: bool) -> Tensor:
    """Weights of a row of cells: (t + 1) / feather towards the ends that fade, else 1."""
    ramp = ((torch.arange(size) + 1) / feather).clamp(max=1) if feather else torch.ones(size)
    weights = torch.ones(size)
    if is_start:
        weights = weights * ramp
    return weights * ramp.flip(0) if is_end else weights


def interpolated(first: Tensor, second: Tensor, ratio: float) -> Tensor:
    """Between two latents [B, C, h, w] of one shape: directions and lengths of the channel vectors mixed apart.

    `ratio` 1 is the first, 0 the second. A vector of length 0 has no direction and adds none.
    """
    lengths = [torch.linalg.vector_norm(item, dim=1, keepdim=True) for item in (first, second)]
    one, other = ((item / length).nan_to_num() for item, length in zip((first, second), lengths, strict=True))
    mixed = one * ratio + other * (1 - ratio)
    direction = (mixed / torch.linalg.vector_norm(mixed, dim=1, keepdim=True)).nan_to_num()
    return direction * (lengths[0] * ratio + lengths[1] * (1 - ratio))
