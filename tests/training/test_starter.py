"""The starter checkpoint in its two layouts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nodes.diffusion.checkpoints import read_checkpoint
from training import export, starter, text

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

PROMPT = "a large red sphere on a blue background, 日本, dinosaur"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("starter") / "folder"
    export.diffusers_folder(starter.STARTER, path)
    return path


@torch.no_grad()
def test_reading_and_writing_it_keeps_every_weight(tmp_path: Path) -> None:
    found = starter.read()
    starter.write(found.unet.state_dict(), found.encoder.state_dict(), found.vae.state_dict(), tmp_path / "again.st")
    again = starter.read(tmp_path / "again.st")
    for before, after in zip(found, again, strict=True):
        for name, value in before.state_dict().items():
            assert torch.equal(value, after.state_dict()[name]), name


@torch.no_grad()
def test_the_small_encoder_is_the_one_in_the_file() -> None:
    loaded = read_checkpoint(starter.STARTER, "digest").clip[0].load("cpu", torch.float32)
    small = starter.read().encoder
    from nodes.diffusion.text import tokenize

    tokens = torch.tensor([[token for token, _ in tokenize(PROMPT, 49407)[0]]])
    torch.testing.assert_close(loaded(tokens).hidden, small(text.tokens([PROMPT], 77)).hidden)


@torch.no_grad()
def test_diffusers_computes_the_same_from_the_folder(folder: Path) -> None:
    torch.manual_seed(0)
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None).to(torch.float32)
    found = starter.read()
    ids = pipeline.tokenizer(PROMPT, padding="max_length", max_length=77, return_tensors="pt").input_ids
    context = found.encoder(text.tokens([PROMPT], 77)).hidden
    torch.testing.assert_close(pipeline.text_encoder(ids)[0], context, rtol=1e-3, atol=1e-4)
    x, t = torch.randn(1, 4, 16, 24), torch.tensor([700])
    torch.testing.assert_close(pipeline.unet(x, t, context).sample, found.unet(x, t, context), rtol=1e-3, atol=1e-4)
    y = found.vae.decoder(found.vae.post_quant_conv(x))
    torch.testing.assert_close(pipeline.vae.decode(x).sample, y, rtol=1e-3, atol=1e-4)


def test_diffusers_draws_with_it(folder: Path) -> None:
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None).to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    settings = {"num_inference_steps": 20, "guidance_scale": 6.0, "height": 128, "width": 128, "output_type": "pt"}
    generator = torch.Generator().manual_seed(1)
    picture = pipeline("a large red sphere on a white background", generator=generator, **settings).images[0]
    middle, corner = picture[:, 60:76, 56:72].mean((1, 2)), picture[:, 4:12, 4:12].mean((1, 2))
    assert middle[0] > 0.5 and middle[1:].max() < 0.45
    assert corner.min() > 0.6
