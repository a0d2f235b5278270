"""The examples of inpainting paint what they are asked to where they are asked to, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from nodegraph.session import Session, Settings
from nodegraph.workflow import Workflow
from training import judge

STARTER = Path(__file__).parents[2] / "nodes" / "models" / "checkpoints" / "starter.safetensors"
FIRST = "model.diffusion_model.input_blocks.0.0.weight"
STEPS = 10  # half of what the examples take


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    home = tmp_path_factory.mktemp("home")
    with Session(Settings(home=home, device="cpu", cache_dir=None)) as made:
        yield made


def outputs(session: Session, document: dict[str, Any]) -> dict[str, Tensor]:
    """The declared outputs of a document."""
    running = session.submit(session.prepare(Workflow.of(document), wants_outputs=True), wants_values=True)
    return dict(running.result())


def example(session: Session, name: str) -> dict[str, Tensor]:
    """What an example gives in fewer steps."""
    document = json.loads(session.open(name).workflow.dumps())
    for node in document["nodes"].values():
        if node["class_type"] == "KSampler":
            node["inputs"]["steps"] = STEPS
    return outputs(session, document)


def yellow(picture: Tensor) -> Tensor:
    """Where a picture [H, W, 3] is yellow."""
    red, green, blue = picture.unbind(-1)
    return (red > 0.6) & (green > 0.5) & (blue < 0.35)


def test_another_thing_is_painted_into_a_part_of_a_picture(session: Session) -> None:
    found = example(session, "inpaint")
    before, after = found["before"], found["image"]
    assert torch.equal(after[:, :, :64], before[:, :, :64])
    first, then = judge.load().tell(torch.cat([before, after]))
    assert (first["shape right"], first["colour right"]) == ("sphere", "red")
    assert (then["shape right"], then["colour right"]) == ("star", "yellow")
    assert (then["shape left"], then["colour left"]) == (first["shape left"], first["colour left"]) == ("cube", "blue")


def test_a_picture_is_made_wider(session: Session) -> None:
    found = example(session, "outpaint")
    before, after = found["before"][0], found["image"][0]
    assert after.shape == (128, 192, 3)
    assert torch.equal(after[:, :112], before[:, :112])  # the last 16 pass into what is new
    assert not yellow(before).any() and int(yellow(after)[:, 112:].sum()) > 300
    blue = after[:40, 128:].mean((0, 1))  # its background goes on
    torch.testing.assert_close(blue, before[:40, 64:].mean((0, 1)), rtol=0, atol=0.12)


def test_a_part_of_a_large_picture_is_painted_at_the_size_of_the_model(session: Session) -> None:
    found = example(session, "inpaint_crop")
    before, after = found["before"], found["image"]
    painted = torch.zeros(256, 256, dtype=torch.bool)
    painted[84 - 12 : 208 + 12, 72 - 12 : 184 + 12] = True  # the mask, and what passes from new to old
    assert torch.equal(after[:, ~painted], before[:, ~painted])
    first, then = judge.load().tell(torch.cat([before, after]))
    assert (first["shape left"], first["colour left"]) == ("sphere", "red")
    assert (then["shape left"], then["colour left"]) == ("star", "yellow")


def n(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def test_a_starter_with_further_channels_that_it_heeds_not_paints_the_same_picture(session: Session) -> None:
    weights = load_file(STARTER)
    with safe_open(STARTER, "pt") as file:
        metadata = file.metadata()
    first = weights[FIRST]
    wide = torch.cat([first, first.new_zeros(len(first), 5, 3, 3)], dim=1)
    assert session.settings.home is not None
    folder = session.settings.home / "models" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    save_file({**weights, FIRST: wide}, folder / "wide.safetensors", metadata)
    nodes: dict[str, Any] = {
        "start": n("EmptyImage", width=64, height=64, color=0xC03040),
        "mask": n("SolidMask", value=1.0, width=64, height=64),
    }
    for name in ("starter", "wide"):
        prompts = {f"{name} words": n("CLIPTextEncode", text="a blue cube", clip=[name, 1]),
                   f"{name} none": n("CLIPTextEncode", text="", clip=[name, 1])}  # fmt: skip
        told = n(
            "InpaintModelConditioning", positive=[f"{name} words", 0], negative=[f"{name} none", 0], vae=[name, 2],
            pixels=["start", 0], mask=["mask", 0], noise_mask=True,
        )  # fmt: skip
        sampled = n(
            "KSampler", model=[name, 0], seed=3, steps=2, cfg=6.0, sampler_name="euler", scheduler="normal",
            positive=[f"{name} told", 0], negative=[f"{name} told", 1], latent_image=[f"{name} told", 2], denoise=1.0,
        )  # fmt: skip
        nodes |= {name: n("CheckpointLoaderSimple", ckpt_name=f"{name}.safetensors"), **prompts, f"{name} told": told,
                  f"{name} sampled": sampled,
                  f"{name} picture": n("VAEDecode", samples=[f"{name} sampled", 0], vae=[name, 2])}  # fmt: skip
    document = {"nodegraph": 1, "nodes": nodes,
                "outputs": {name: f"{name} picture.0" for name in ("starter", "wide")}}  # fmt: skip
    found = outputs(session, document)
    torch.testing.assert_close(found["wide"], found["starter"], rtol=0, atol=0.001)  # a quarter of a step of 8 bits
    assert float(found["starter"].std()) > 0.05
