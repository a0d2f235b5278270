"""The starter model changes what it is asked to and keeps the rest: painting over a part, and over a whole picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from nodegraph.session import Session, Settings
from nodegraph.workflow import Workflow
from training.small import small

PROMPT = "a large blue sphere on a white background"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A session whose input folder has a red sphere, and a mask over the middle of it."""
    home: Path = tmp_path_factory.mktemp("home")
    with Session(Settings(home=home, device="cpu", cache_dir=None)) as made:
        picture = small(made)(prompt=PROMPT.replace("blue", "red"), seed=7).image[0]
        (home / "input").mkdir(exist_ok=True)
        Image.fromarray((picture * 255).byte().numpy()).save(home / "input" / "red.png")
        mask = torch.zeros(128, 128)
        mask[24:112, 16:112] = 1
        Image.fromarray((mask * 255).byte().numpy()).save(home / "input" / "mask.png")
        yield made


def painted(session: Session, latent: list[Any], denoise: float) -> tuple[Tensor, Tensor]:
    """The picture as the VAE gives it back, and painted anew in blue: [128, 128, 3] each."""

    def n(class_type: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": class_type, "inputs": inputs}

    nodes = {
        "model": n("CheckpointLoaderSimple", ckpt_name="starter.safetensors"),
        "red": n("LoadImage", image="red.png"),
        "mask": n("LoadImageMask", image="mask.png", channel="red"),
        "encoded": n("VAEEncode", pixels=["red", 0], vae=["model", 2]),
        "masked": n("SetLatentNoiseMask", samples=["encoded", 0], mask=["mask", 0]),
        "blue": n("CLIPTextEncode", text=PROMPT, clip=["model", 1]),
        "empty": n("CLIPTextEncode", text="", clip=["model", 1]),
        "sampled": n(
            "KSampler", model=["model", 0], seed=3, steps=20, cfg=6.0, sampler_name="dpmpp_2m", scheduler="karras",
            positive=["blue", 0], negative=["empty", 0], latent_image=latent, denoise=denoise,
        ),
        "before": n("VAEDecode", samples=["encoded", 0], vae=["model", 2]),
        "after": n("VAEDecode", samples=["sampled", 0], vae=["model", 2]),
    }  # fmt: skip
    document = {"nodegraph": 1, "nodes": nodes, "outputs": {"before": "before.0", "after": "after.0"}}
    running = session.submit(session.prepare(Workflow.of(document), wants_outputs=True), wants_values=True)
    result = running.result()
    return result["before"][0], result["after"][0]


def is_blue(colour: Tensor) -> bool:
    return bool(colour[2] > colour[0] + 0.2)


def test_what_a_mask_protects_stays_and_the_rest_is_painted(session: Session) -> None:
    before, after = painted(session, ["masked", 0], 1.0)
    assert is_blue(after[60:80, 55:75].mean((0, 1))) and not is_blue(before[60:80, 55:75].mean((0, 1)))
    difference = (after - before).abs()
    assert float(difference[:8].max()) < 0.06 and float(difference[-6:].max()) < 0.06


def test_a_picture_painted_over_in_part_keeps_its_layout(session: Session) -> None:
    before, after = painted(session, ["encoded", 0], 0.7)
    assert is_blue(after[60:80, 55:75].mean((0, 1)))
    corner = (after[:16, :16] - before[:16, :16]).abs().mean()
    assert float(corner) < 0.06
    dark = [(picture.mean(-1) < 0.7).float() for picture in (before, after)]
    both, either = (dark[0] * dark[1]).sum(), (dark[0] + dark[1]).clamp(max=1).sum()
    assert float(both / either) > 0.75
