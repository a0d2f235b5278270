"""Nodes on batches of images."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from nodegraph.registry import Registry
from nodegraph.session import Session, Settings
from nodegraph.spec import spec_of
from nodegraph.types import Each
from nodegraph.workflow import Workflow
from nodes.image_batch import (
    batch_images,
    empty_image,
    image_size,
    images_from_batch,
    rebatch_images,
    repeat_images,
)
from nodes.types import Image

CONTEXT = SimpleNamespace(device=torch.device("cpu"))


def numbered(count, height=2, width=3, channels=3):
    """Images whose values are their place in the batch."""
    return torch.arange(float(count)).view(-1, 1, 1, 1).expand(count, height, width, channels).clone()


def test_an_empty_image_has_one_colour():
    found = empty_image(ctx=CONTEXT, width=5, height=4, batch_size=2, color=0x3366FF)
    assert found.shape == (2, 4, 5, 3)
    assert torch.allclose(found, torch.tensor([0.2, 0.4, 1.0]).expand(2, 4, 5, 3))


def test_the_size_of_an_image_is_width_before_height():
    assert image_size(image=torch.zeros(4, 2, 3, 3)) == (3, 2, 4)


def test_the_second_image_is_cut_and_scaled_to_the_first():
    second = torch.zeros(1, 4, 8, 3)
    second[:, :, 2:6] = 1
    found = batch_images(image1=torch.zeros(1, 2, 2, 3), image2=second)
    assert torch.equal(found, torch.stack([torch.zeros(2, 2, 3), torch.ones(2, 2, 3)]))


def test_alpha_that_only_one_image_has_is_opaque_in_the_other():
    found = batch_images(image1=torch.zeros(1, 2, 2, 3), image2=torch.full((1, 2, 2, 4), 0.5))
    assert found[:, 0, 0].tolist() == [[0, 0, 0, 1], [0.5, 0.5, 0.5, 0.5]]
    assert batch_images(image1=torch.zeros(1, 2, 2, 4), image2=torch.zeros(1, 2, 2, 3))[1, 0, 0].tolist() == [
        0,
        0,
        0,
        1,
    ]


def test_a_batch_is_repeated_as_a_whole():
    assert repeat_images(image=numbered(2), amount=2)[:, 0, 0, 0].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(("first", "length", "expected"), [(1, 2, [1, 2]), (2, 9, [2, 3]), (99, 3, [3])])
def test_as_many_are_taken_as_there_are(first, length, expected):
    assert images_from_batch(image=numbered(4), batch_index=first, length=length)[:, 0, 0, 0].tolist() == expected


def test_batches_are_cut_anew():
    found = rebatch_images(images=[numbered(3), numbered(2) + 10], batch_size=2)
    assert [batch[:, 0, 0, 0].tolist() for batch in found] == [[0, 1], [2, 10], [11]]
    assert rebatch_images(images=[], batch_size=2) == ()


def test_images_of_two_sizes_cannot_share_a_batch():
    with pytest.raises(ValueError, match="sizes 3 x 2 x 3, 5 x 4 x 3 cannot share a batch; scale"):
        rebatch_images(images=[numbered(1), numbered(1, 4, 5)], batch_size=1)


def test_what_follows_runs_once_a_batch(tmp_path):
    def batches() -> Each[Image]:
        return Each([numbered(3), numbered(1)])

    graph = {
        "1": {"class_type": "Batches", "inputs": {}},
        "2": {"class_type": "RebatchImages", "inputs": {"images": ["1", 0], "batch_size": 3}},
        "3": {"class_type": "GetImageSize", "inputs": {"image": ["2", 0]}},
    }
    registry = Registry().with_entry_points().with_specs([spec_of(batches, "Batches")])
    with Session(Settings(home=tmp_path, device="cpu", cache_dir=None), registry=registry) as session:
        workflow = Workflow.of({"nodegraph": 1, "nodes": graph, "outputs": {"count": "3.batch_size"}})
        running = session.submit(session.prepare(workflow, wants_outputs=True), wants_values=True)
        assert running.result()["count"] == (3, 1)
