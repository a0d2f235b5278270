"""Noise means the same whatever is drawn with it, and wherever."""

from __future__ import annotations

import pytest
import torch

from nodes.diffusion.noise import initial_noise, latent_noise, seeds_of, step_noise
from nodes.types import LatentValue, NoiseValue

ZERO = torch.tensor(0.0)


def test_the_noise_of_a_seed_is_torchs_on_the_cpu() -> None:
    expected = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(7))
    assert torch.equal(initial_noise((2, 4, 8, 8), 7), expected)


def test_noise_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    initial_noise((1, 4, 8, 8), 1)
    step_noise(torch.zeros(1, 4, 8, 8), 1)(ZERO, ZERO)
    assert torch.equal(before, torch.get_rng_state())


def test_batch_index_draws_places_one_after_the_other() -> None:
    generator = torch.Generator().manual_seed(3)
    places = [torch.randn((1, 4, 2, 2), generator=generator) for _ in range(4)]
    assert torch.equal(initial_noise((3, 4, 2, 2), 3, (3, 1, 3)), torch.cat([places[3], places[1], places[3]]))


def test_one_image_of_a_batch_can_be_made_alone() -> None:
    batch = initial_noise((4, 4, 8, 8), 11, (0, 1, 2, 3))
    assert torch.equal(initial_noise((1, 4, 8, 8), 11, (2,)), batch[2:3])


@pytest.mark.parametrize("places", [(0,), (0, -1), ()])
def test_a_batch_index_of_the_wrong_length_is_an_error(places: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected 2 places from 0"):
        initial_noise((2, 4, 2, 2), 0, places)


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
def test_every_seed_of_the_widget_gives_noise(seed: int) -> None:
    x = torch.zeros(1, 4, 4, 4)
    assert initial_noise(x.shape, seed).std() > 0.5
    assert step_noise(x, seed)(ZERO, ZERO).std() > 0.5


def test_step_noise_is_fresh_at_each_step_and_repeats_with_the_seed() -> None:
    x = torch.zeros(1, 4, 4, 4, dtype=torch.float64)
    first, again = step_noise(x, 5), step_noise(x, 5)
    a, b = first(ZERO, ZERO), first(ZERO, ZERO)
    assert not torch.equal(a, b) and a.dtype == x.dtype
    assert torch.equal(a, again(ZERO, ZERO)) and torch.equal(b, again(ZERO, ZERO))


LATENT = LatentValue(torch.zeros(3, 4, 2, 5))


def test_the_noise_of_a_latent_is_one_draw_or_by_the_places_of_its_items() -> None:
    assert torch.equal(latent_noise(LATENT, NoiseValue(7)), initial_noise((3, 4, 2, 5), 7))
    placed = LatentValue(LATENT.samples, batch_index=(4, 0, 4))
    assert torch.equal(latent_noise(placed, NoiseValue(7)), initial_noise((3, 4, 2, 5), 7, (4, 0, 4)))


def test_noise_that_is_not_drawn_is_zero() -> None:
    for noise in (NoiseValue(7, is_drawn=False), NoiseValue(7, is_drawn=False, is_each=True)):
        found = latent_noise(LatentValue(LATENT.samples.double()), noise)
        assert found.shape == (3, 4, 2, 5) and found.dtype == torch.float32 and not found.any()


def test_with_a_seed_each_an_item_has_the_noise_of_its_seed_alone() -> None:
    noise = NoiseValue(7, is_each=True)
    assert seeds_of(LATENT, noise) == (7, 8, 9) and seeds_of(LATENT, NoiseValue(7)) == (7,)
    found = latent_noise(LATENT, noise)
    for k in range(3):
        assert torch.equal(found[k : k + 1], latent_noise(LatentValue(LATENT.samples[:1]), NoiseValue(7 + k)))


def test_with_a_seed_each_an_item_keeps_the_seed_of_its_place() -> None:
    placed = LatentValue(LATENT.samples, batch_index=(4, 0, 4))
    noise = NoiseValue(7, is_each=True)
    assert seeds_of(placed, noise) == (11, 7, 11)
    assert torch.equal(latent_noise(placed, noise)[:1], latent_noise(LatentValue(LATENT.samples[:1]), NoiseValue(11)))


def test_seeds_wrap_at_the_largest() -> None:
    noise = NoiseValue(2**64 - 2, is_each=True)
    assert seeds_of(LATENT, noise) == (2**64 - 2, 2**64 - 1, 0)
    assert torch.equal(latent_noise(LATENT, noise)[2:], initial_noise((1, 4, 2, 5), 0))
