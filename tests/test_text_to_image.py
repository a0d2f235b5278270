"""The main job end to end, with the model that ships: a workflow file to a picture of what was asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from nodegraph.errors import WorkflowError
from nodegraph.events import Saved
from nodegraph.session import Session, Settings

PROMPT = "a large red sphere on a white background"


def open_session(home: Path, **settings) -> Session:
    return Session(Settings(home=home, device="cpu", **settings))


def make(session: Session, name="text_to_image", **inputs):
    """(files saved, nodes that ran, nodes at hand) of a run of a library workflow."""
    document = session.open(name)
    running = session.submit(session.prepare(document.workflow.with_inputs(inputs), scope=document.origin))
    files = [Path(event.file.path) for event in running if isinstance(event, Saved)]
    assert not running.errors, running.errors
    return files, running.ran, running.cached


def colours(image) -> tuple[np.ndarray, np.ndarray]:
    """Mean colour of the middle and of the upper corners, 0..1."""
    size = image.shape[0]
    middle = image[size * 3 // 8 : size * 5 // 8, size * 3 // 8 : size * 5 // 8]
    corners = np.concatenate([image[: size // 8, : size // 8], image[: size // 8, -size // 8 :]])
    return middle.mean((0, 1)), corners.mean((0, 1))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with open_session(tmp_path_factory.mktemp("home"), cache_dir=None) as session:
        yield session


def test_a_prompt_becomes_a_picture_of_it(shared):
    image = shared.load("text_to_image")(prompt=PROMPT, seed=7).image
    assert tuple(image.shape) == (1, 512, 512, 3)
    middle, corners = colours(image[0].numpy())
    assert middle[0] > 0.6 and max(middle[1:]) < 0.35, middle
    assert min(corners) > 0.75, corners


def test_a_picture_of_a1111s_is_drawn_again_with_all_it_names(tmp_path):
    text = (
        "a large red sphere, <lora:starter-outlined:0.7> <hypernet:starter-flat:0.5>\nNegative prompt: starter-lime\n"
        "Steps: 2, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6, Seed: 7, Size: 32x64, Model: starter, "
        "Denoising strength: 0.5, Hires upscale: 2, Hires steps: 1, Hires upscaler: starter-4x, Version: v1.10.1"
    )
    carried = PngInfo()
    carried.add_text("parameters", text)
    Image.new("RGB", (8, 8)).save(tmp_path / "theirs.png", pnginfo=carried)
    with open_session(tmp_path / "home", cache_dir=None) as session:
        (file,), ran, _ = make(session, tmp_path / "theirs.png")
        nodes = session.open(file).workflow.nodes
    assert {nodes[id].class_type for id in ran} >= {
        "LoraLoader", "HypernetworkLoader", "CLIPTextEncodeA1111", "ImageUpscaleWithModel", "VAEEncode", "KSampler"
    }  # fmt: skip
    assert nodes["7"].inputs["text"] == "embedding:starter-lime"
    with Image.open(file) as picture:
        assert picture.size == (64, 128)


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "heun", "dpmpp_2m", "ddim", "ddpm", "uni_pc"])
def test_every_robust_sampler_draws_what_is_asked_for(shared, sampler):
    image = shared.load("text_to_image")(
        prompt="a large green star on a purple background", seed=3, sampler=sampler, scheduler="karras", steps=16
    ).image
    middle, corners = colours(image[0].numpy())
    assert middle[1] > max(middle[0], middle[2]) + 0.1, middle
    assert corners[2] > corners[1] + 0.2 and corners[0] > corners[1] + 0.1, corners


def test_a_negative_prompt_changes_the_picture(shared):
    function = shared.load("text_to_image")
    plain = function(prompt="a sphere on a white background", seed=5).image
    without = function(prompt="a sphere on a white background", negative="an orange sphere", seed=5).image
    assert float((plain - without).abs().mean()) > 0.01


def test_a_saved_picture_runs_again_to_the_same_pixels(tmp_path):
    with open_session(tmp_path / "a") as session:
        (first,), ran, _ = make(session, prompt="a small blue cube", seed=11)
    assert ran == ["10", "4", "6", "7", "5", "3", "8", "11", "9"]
    with open_session(tmp_path / "b") as session:
        (second,), ran, _ = make(session, str(first))
    assert ran == ["10", "4", "6", "7", "5", "3", "8", "11", "9"]
    assert np.array_equal(np.asarray(Image.open(first)), np.asarray(Image.open(second)))


def test_a_restart_runs_only_what_changed(tmp_path):
    with open_session(tmp_path) as session:
        (first,), _, _ = make(session, prompt=PROMPT, seed=7)
    with open_session(tmp_path) as session:
        (again,), ran, cached = make(session, prompt=PROMPT, seed=7)
    assert (again, ran, cached) == (first, [], ["9"])
    with open_session(tmp_path) as session:
        (other,), ran, cached = make(session, prompt=PROMPT, seed=8)
    assert other != first
    # What loads a model only reads its header and an empty latent is free: neither is worth a place on disk.
    assert set(ran) <= {"10", "4", "5", "3", "8", "11", "9"} and "6" in cached, (ran, cached)


def test_a_deleted_picture_is_saved_again_without_sampling(tmp_path):
    with open_session(tmp_path) as session:
        (first,), _, _ = make(session, prompt=PROMPT, seed=7)
        first.unlink()
        (again,), ran, cached = make(session, prompt=PROMPT, seed=7)
    assert again == first and again.is_file()
    assert (ran, cached) == (["9"], ["11"])


def test_a_renamed_checkpoint_is_the_same_checkpoint(tmp_path):
    with open_session(tmp_path) as session:
        shipped = session.folders.path("checkpoints", "starter.safetensors")
        copy = tmp_path / "models" / "checkpoints" / "renamed.safetensors"
        copy.parent.mkdir(parents=True)
        copy.write_bytes(shipped.read_bytes())
        make(session, prompt=PROMPT, seed=7)
        _, ran, cached = make(session, prompt=PROMPT, seed=7, checkpoint="renamed.safetensors")
    assert (ran, cached) == ([], ["9"])


def test_a_batch_makes_and_saves_each_picture(tmp_path):
    with open_session(tmp_path, cache_dir=None) as session:
        files, _, _ = make(session, prompt=PROMPT, batch=2, steps=4)
    assert [file.name for file in files] == ["text_to_image_00001_.png", "text_to_image_00002_.png"]


def test_the_starter_is_listed_among_the_checkpoints(shared):
    assert "starter.safetensors" in shared.folders.names("checkpoints")


def test_a_lora_given_as_a_checkpoint_is_found_before_anything_runs(tmp_path):
    from safetensors.numpy import save_file

    folder = tmp_path / "models" / "checkpoints"
    folder.mkdir(parents=True)
    tensor = np.zeros((4, 4), np.float32)
    names = ["lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
             "lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight"]  # fmt: skip
    save_file({name: tensor for name in names}, folder / "style.safetensors")
    with open_session(tmp_path, cache_dir=None) as session:
        workflow = session.open("text_to_image").workflow.with_inputs({"checkpoint": "style.safetensors"})
        with pytest.raises(WorkflowError, match="LoRA"):
            session.prepare(workflow)
    assert not (tmp_path / "output").exists()


def test_a_script_that_calls_a_workflow_ends_with_no_thread_left(tmp_path):
    script = """
import atexit, threading
atexit.register(lambda: print(len(threading.enumerate())))  # called last
import nodegraph
print(*nodegraph.load("text_to_image")(steps=1).image.shape)
"""
    environment = {**os.environ, "NODEGRAPH_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "512", "512", "3", "1"]
