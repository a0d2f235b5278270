"""Latent nodes."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Annotated

import torch
from safetensors import safe_open

from nodegraph.events import Saved
from nodegraph.registry import Registry
from nodegraph.session import Session, Settings
from nodegraph.spec import spec_of
from nodegraph.types import Port
from nodegraph.workflow import Workflow
from nodes.latent import empty_latent, set_noise_mask, upscale_latent, upscale_latent_by
from nodes.types import LatentValue

CONTEXT = SimpleNamespace(device=torch.device("cpu"))
LATENT = LatentValue(torch.randn(2, 4, 10, 6, generator=torch.Generator().manual_seed(0)), torch.ones(1, 80, 48))


def test_an_empty_latent_is_an_eighth_of_the_picture():
    found = empty_latent(ctx=CONTEXT, width=128, height=72, batch_size=3).samples
    assert found.shape == (3, 4, 9, 16) and not found.any()


def test_upscaling_keeps_what_is_beside_the_samples():
    found = upscale_latent(samples=LATENT, upscale_method="bislerp", width=96, height=160, crop="disabled")
    assert found.samples.shape == (2, 4, 20, 12)
    assert found.noise_mask is LATENT.noise_mask


def test_zero_keeps_the_aspect_ratio_and_nothing_is_smaller_than_64():
    def size(width, height):
        found = upscale_latent(samples=LATENT, upscale_method="area", width=width, height=height, crop="disabled")
        return tuple(found.samples.shape[-2:])

    assert size(0, 0) == (10, 6)
    assert size(96, 0) == (20, 12)
    assert size(0, 160) == (20, 12)
    assert size(8, 8) == (8, 8)


def test_a_factor_applies_to_both_sides():
    assert upscale_latent_by(samples=LATENT, upscale_method="nearest-exact", scale_by=1.5).samples.shape == (
        2,
        4,
        15,
        9,
    )


def test_a_noise_mask_is_a_batch_of_masks_whatever_its_shape_was():
    for shape in ((80, 48), (1, 80, 48), (1, 1, 80, 48)):
        found = set_noise_mask(samples=LATENT, mask=torch.zeros(shape))
        assert found.noise_mask.shape == (1, 80, 48) and found.samples is LATENT.samples


def test_a_saved_latent_is_loaded_again_to_the_bit(tmp_path):
    made = LATENT.samples[:1]

    def given():
        return LatentValue(made)

    given.__annotations__["return"] = Annotated[LatentValue, Port("LATENT")]
    registry = Registry().with_entry_points().with_specs([spec_of(given, "Given")])
    nodes = {
        "1": {"class_type": "Given", "inputs": {}},
        "2": {"class_type": "SaveLatent", "inputs": {"samples": ["1", 0], "filename_prefix": "latents/a%width%"}},
    }
    with Session(Settings(home=tmp_path, device="cpu", cache_dir=None), registry=registry) as session:
        running = session.submit(session.prepare(Workflow.of(nodes)))
        (file,) = [event.file for event in running if isinstance(event, Saved)]
        assert (file.filename, file.subfolder, file.type) == ("a6_00001_.latent", "latents", "output")
        with safe_open(file.path, "pt") as stored:
            assert set(stored.keys()) == {"latent_tensor", "latent_format_version_0"}
            assert json.loads(stored.metadata()["prompt"])["2"]["class_type"] == "SaveLatent"
        name = f"latents/{file.filename} [output]"
        back = Workflow.of({"3": {"class_type": "LoadLatent", "inputs": {"latent": name}}})
        running = session.submit(session.prepare(back, ["3"]), wants_values=True)
        assert running.wait().status == "success", running.errors
        assert torch.equal(running.value("3").samples, made)
