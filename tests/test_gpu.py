"""What only a GPU can show. Skipped where there is none."""

from __future__ import annotations

import pytest

from nodegraph.session import Session, Settings

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
PROMPT = "a large red sphere on a white background"
DEVICE = "cuda"


def picture(home, device, dtype="auto", **inputs):
    with Session(Settings(home=home, device=device, dtype=dtype, cache_dir=None)) as session:
        return session.load("text_to_image")(prompt=PROMPT, seed=7, **inputs).image


def test_a_seed_gives_nearly_the_same_picture_as_on_the_cpu(tmp_path):
    there = picture(tmp_path, DEVICE, "fp32")
    assert there.device.type == DEVICE
    assert float((there.cpu() - picture(tmp_path, "cpu")).abs().mean()) < 0.01


def test_half_precision_draws_the_same_thing(tmp_path):
    there = picture(tmp_path, DEVICE)
    assert torch.isfinite(there).all()
    assert float((there.cpu() - picture(tmp_path, "cpu")).abs().mean()) < 0.05


def test_values_that_were_moved_to_host_memory_come_back_to_the_device(tmp_path):
    with Session(Settings(home=tmp_path, device=DEVICE, cache_dir=None)) as session:
        function = session.load("text_to_image")
        first = function(prompt=PROMPT, steps=4).image
        session.free_memory()
        again = function(prompt=PROMPT, steps=4).image
    assert again.device.type == DEVICE and torch.equal(first, again)


EXAMPLES = ["lora", "controlnet", "t2i_adapter", "hypernetwork", "merge", "inpaint", "hires_fix", "tiled_upscale"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_hangs_on_a_model_does_the_same_as_on_the_cpu(tmp_path, name):
    found = []
    for device in (DEVICE, "cpu"):
        with Session(Settings(home=tmp_path, device=device, dtype="fp32", cache_dir=None)) as session:
            found.append(session.load(name)().image.cpu())
    assert float((found[0] - found[1]).abs().mean()) < 0.02
