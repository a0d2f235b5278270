"""Batches of latents, and whose noise each item takes."""

from __future__ import annotations

import pytest
import torch

from nodegraph.session import Session, Settings
from nodegraph.types import Each
from nodegraph.workflow import Workflow
from nodes.diffusion.noise import initial_noise
from nodes.latent_batch import (
    batch_latents,
    latent_batch_seed_behavior,
    latent_from_batch,
    rebatch_latents,
    repeat_latent_batch,
)
from nodes.types import LatentValue


def batch(count, size=2, start=0.0, mask=None, batch_index=None):
    samples = (torch.arange(float(count)) + start).reshape(count, 1, 1, 1).expand(count, 4, size, size)
    return LatentValue(samples.clone(), mask, batch_index)


def firsts(latent):
    return latent.samples[:, 0, 0, 0].tolist()


@pytest.mark.parametrize(
    ("index", "length", "wanted"), [(1, 2, [1, 2]), (-1, 1, [3]), (2, 64, [2, 3]), (99, 1, [3]), (-99, 2, [0, 1])]
)
def test_part_of_a_batch_remembers_its_places(index, length, wanted):
    found = latent_from_batch(samples=batch(4), batch_index=index, length=length)
    assert firsts(found) == wanted and found.batch_index == tuple(wanted)


def test_an_item_taken_alone_has_the_noise_it_has_in_the_batch():
    alone = latent_from_batch(samples=batch(4), batch_index=2)
    whole = initial_noise((4, 4, 2, 2), 7)
    assert torch.equal(initial_noise(alone.samples.shape, 7, alone.batch_index), whole[2:3])


def test_part_of_a_part_keeps_the_places_of_the_first_batch():
    part = latent_from_batch(samples=batch(6), batch_index=2, length=4)
    assert latent_from_batch(samples=part, batch_index=1, length=2).batch_index == (3, 4)


def test_masks_go_with_their_items_and_a_single_one_with_all():
    masks = torch.arange(2.0).reshape(2, 1, 1)
    found = latent_from_batch(samples=batch(4, mask=masks), batch_index=1, length=3)
    assert found.noise_mask.flatten().tolist() == [1, 0, 1]
    single = torch.ones(1, 8, 8)
    assert latent_from_batch(samples=batch(4, mask=single), batch_index=1).noise_mask is single


def test_repeating_a_batch_gives_each_copy_places_of_its_own():
    found = repeat_latent_batch(samples=batch(2, batch_index=(3, 5)), amount=3)
    assert firsts(found) == [0, 1] * 3
    assert found.batch_index == (3, 5, 6, 8, 9, 11)
    assert repeat_latent_batch(samples=batch(2), amount=3).batch_index is None


def test_repeating_a_batch_repeats_its_masks():
    masks = torch.arange(2.0).reshape(2, 1, 1)
    found = repeat_latent_batch(samples=batch(3, mask=masks), amount=2)
    assert found.noise_mask.flatten().tolist() == [0, 1, 0, 0, 1, 0]
    assert len(repeat_latent_batch(samples=batch(3, mask=masks[1:]), amount=2).noise_mask) == 1


def test_two_batches_become_one_and_keep_their_places():
    found = batch_latents(samples1=batch(2, batch_index=(4, 6)), samples2=batch(3, size=4, start=7.0))
    assert firsts(found) == [0, 1, 7, 8, 9] and found.samples.shape == (5, 4, 2, 2)
    assert found.batch_index == (4, 6, 0, 1, 2) and found.noise_mask is None


def test_two_batches_keep_the_mask_of_each():
    found = batch_latents(samples1=batch(1), samples2=batch(2, mask=torch.zeros(1, 16, 16)))
    assert found.noise_mask.mean(dim=(1, 2)).tolist() == [1, 0, 0]


def test_latents_of_other_channels_do_not_share_a_batch():
    other = LatentValue(torch.zeros(1, 16, 2, 2))
    with pytest.raises(ValueError, match="same number of channels"):
        batch_latents(samples1=batch(1), samples2=other)


def test_fixed_gives_all_the_noise_of_the_first_and_random_each_its_own():
    assert latent_batch_seed_behavior(samples=batch(3)).batch_index == (0, 0, 0)
    given = batch(2, batch_index=(5, 6))
    assert latent_batch_seed_behavior(samples=given, seed_behavior="fixed").batch_index == (5, 5)
    assert latent_batch_seed_behavior(samples=given, seed_behavior="random").batch_index is None


def test_a_list_is_put_into_batches_of_one_size():
    given = [batch(3), batch(2, start=3.0), batch(1, size=4, start=5.0), batch(1, start=6.0)]
    found = rebatch_latents(latents=given, batch_size=2)
    assert type(found) is Each
    assert [firsts(item) for item in found] == [[0, 1], [2, 3], [4], [5], [6]]
    assert [item.batch_index for item in found] == [(0, 1), (2, 3), (4,), (5,), (6,)]
    assert [item.samples.shape[-1] for item in found] == [2, 2, 2, 4, 2]


def test_items_put_into_batches_keep_the_places_they_have():
    found = rebatch_latents(latents=[batch(2, batch_index=(8, 9)), batch(1)], batch_size=4)
    assert [item.batch_index for item in found] == [(8, 9, 2)]


def test_items_put_into_batches_keep_their_masks_unless_they_are_all_ones():
    given = [batch(2, mask=torch.zeros(1, 16, 16)), batch(2)]
    first, second = rebatch_latents(latents=given, batch_size=2)
    assert first.noise_mask.shape == (2, 2, 2) and not first.noise_mask.any()
    assert second.noise_mask is None


def test_an_empty_list_gives_no_batches():
    assert rebatch_latents(latents=[], batch_size=2) == ()


def test_batches_of_a_list_map_what_follows_until_they_are_one_again(tmp_path):
    nodes = {
        "1": {"class_type": "EmptyLatentImage", "inputs": {"width": 16, "height": 16, "batch_size": 5}},
        "2": {"class_type": "RebatchLatents", "inputs": {"latents": ["1", 0], "batch_size": 2}},
        "3": {"class_type": "LatentBatchSeedBehavior", "inputs": {"samples": ["2", 0], "seed_behavior": "fixed"}},
        "4": {"class_type": "RebatchLatents", "inputs": {"latents": ["3", 0], "batch_size": 64}},
    }
    with Session(Settings(home=tmp_path, device="cpu", cache_dir=None)) as session:
        running = session.submit(session.prepare(Workflow.of(nodes), ["4"]), wants_values=True)
        assert running.wait().status == "success", running.errors
        assert [item.batch_index for item in running.value("4")] == [(0, 0, 2, 2, 4)]
