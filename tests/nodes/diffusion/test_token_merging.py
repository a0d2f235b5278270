"""Tokens that are alike stand for one another, and each finds its place again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nodes.diffusion.token_merging import merging


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tokens(height: int, width: int, batch: int = 2, channels: int = 6) -> Tensor:
    return torch.randn((batch, height * width, channels), generator=generator(5))


def places(height: int, width: int, count: int, seed: int = 0, x: Tensor | None = None) -> Tensor:
    """Which of the tokens left each token is: the places 0, 1, ... spread."""
    left, undo = merging(tokens(height, width) if x is None else x, (height, width), count, generator(seed))
    numbers = torch.arange(left.shape[1], dtype=torch.float32)
    return undo(numbers[None, :, None].expand(len(left), -1, 1))[..., 0].long()


@pytest.mark.parametrize(("size", "count"), [((4, 6), 0), ((1, 8), 3), ((8, 1), 3), ((4, 4), -1)])
def test_merging_nothing_changes_nothing(size: tuple[int, int], count: int) -> None:
    x = tokens(*size)
    left, undo = merging(x, size, count, generator())
    assert left is x and undo(x) is x


@pytest.mark.parametrize(("size", "count"), [((4, 6), 5), ((5, 7), 20), ((6, 4), 18), ((4, 4), 99)])
def test_so_many_are_left_and_undo_puts_every_token_at_its_place(size: tuple[int, int], count: int) -> None:
    height, width = size
    x = tokens(height, width)
    left, undo = merging(x, size, count, generator())
    blocks = (height // 2) * (width // 2)
    assert left.shape == (2, height * width - min(count, height * width - blocks), 6)
    shared = places(height, width, count)
    found = undo(left)
    for item in range(2):
        for place in range(left.shape[1]):
            members = x[item, shared[item] == place]
            torch.testing.assert_close(left[item, place], members.mean(0))
            assert (found[item, shared[item] == place] == left[item, place]).all()
        assert shared[item].unique().tolist() == list(range(left.shape[1]))


def test_one_of_each_two_by_two_is_kept_and_those_most_alike_are_merged() -> None:
    height, width, count = 5, 7, 9
    x = tokens(height, width)
    drawn = torch.randint(4, (2, 3, 1), generator=generator()).flatten().tolist()
    kept = [
        (2 * (block // 3) + corner // 2) * width + 2 * (block % 3) + corner % 2 for block, corner in enumerate(drawn)
    ]
    others = [place for place in range(height * width) if place not in kept]
    shared = places(height, width, count)
    for item in range(2):
        likeness = torch.nn.functional.cosine_similarity(x[item, others, None], x[item, None, kept], dim=-1)
        best, nearest = likeness.max(1)
        merged = {others[i] for i in best.argsort(descending=True)[:count].tolist()}
        for i, place in enumerate(others):
            friends = {j for j in range(height * width) if shared[item, j] == shared[item, place]}
            assert (friends == {place}) != (place in merged)
            if place in merged:
                assert kept[int(nearest[i])] in friends


def test_equal_tokens_are_merged_without_loss() -> None:
    x = tokens(3, 4).unflatten(1, (3, 4)).repeat_interleave(2, 1).repeat_interleave(2, 2).flatten(1, 2)
    left, undo = merging(x, (6, 8), 36, generator())
    assert left.shape[1] == 12
    torch.testing.assert_close(undo(left), x)


def test_the_input_stays_and_the_generator_decides() -> None:
    x = tokens(6, 6)
    before = x.clone()
    first, second, other = (merging(x, (6, 6), 9, generator(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(x, before) and torch.equal(first, second) and not torch.equal(first, other)


def test_undo_takes_other_widths_and_dtypes() -> None:
    x = tokens(4, 4)
    left, undo = merging(x, (4, 4), 6, generator())
    assert undo(left[..., :3].bfloat16()).shape == (2, 16, 3) and undo(left.bfloat16()).dtype == torch.bfloat16
