"""Image nodes, through a session."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nodegraph.errors import WorkflowError
from nodegraph.events import NodePreview, Saved
from nodegraph.session import Session, Settings
from nodegraph.workflow import Workflow
from nodes.image import resize_and_pad_image, scale_image, scale_image_by, scale_image_to_max_dimension


@pytest.fixture
def session(tmp_path):
    (tmp_path / "input" / "deep").mkdir(parents=True)
    for name, colour in (("red.png", (255, 0, 0)), ("deep/blue.png", (0, 0, 255))):
        Image.new("RGB", (12, 8), colour).save(tmp_path / "input" / name)
    with Session(Settings(home=tmp_path, device="cpu", cache_dir=None)) as session:
        yield session


def document(image="red.png", sink="SaveImage", **inputs):
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": image}},
        "2": {"class_type": sink, "inputs": {"images": ["1", 0], **inputs}},
    }


def run(session, graph):
    running = session.submit(session.prepare(Workflow.of(graph), scope="t"))
    files = [event.file for event in running if isinstance(event, Saved)]
    assert not running.errors, running.errors
    return files, running.ran, running.cached


def test_a_loaded_picture_is_saved_with_its_workflow(session):
    (file,), ran, _ = run(session, document(filename_prefix="sub/a"))
    assert ran == ["1", "2"]
    assert (file.filename, file.subfolder, file.type) == ("a_00001_.png", "sub", "output")
    with Image.open(file.path) as picture:
        assert np.asarray(picture).tolist()[0][0] == [255, 0, 0]
        assert json.loads(picture.text["prompt"])["2"]["inputs"]["images"] == ["1", 0]
        assert Workflow.parse(picture.text["nodegraph"]).nodes["1"].inputs == {"image": "red.png"}


def test_pictures_are_handed_to_who_follows_the_run_each_time(session):
    for _ in range(2):
        running = session.submit(session.prepare(Workflow.of(document(sink="SaveImageWebsocket"))))
        shown = [event for event in running if isinstance(event, NodePreview)]
        assert [event.format for event in shown] == ["png"]
        with Image.open(io.BytesIO(shown[0].image)) as picture:
            assert (picture.format, picture.size, picture.getpixel((0, 0))) == ("PNG", (12, 8), (255, 0, 0))
    assert not (session.folders.output).exists()


def test_the_counter_goes_on_and_nothing_is_replaced(session):
    names = [run(session, document(image))[0][0].filename for image in ("red.png", "deep/blue.png")]
    assert names == ["ComfyUI_00001_.png", "ComfyUI_00002_.png"]


def test_the_same_again_saves_nothing_new(session):
    first, _, _ = run(session, document())
    again, ran, cached = run(session, document())
    assert (again, ran, cached) == (first, [], ["2"])


def test_new_content_under_the_same_name_is_seen(session):
    run(session, document())
    Image.new("RGB", (12, 8), (0, 255, 0)).save(session.folders.home / "input" / "red.png")
    (file,), ran, _ = run(session, document())
    assert ran == ["1", "2"] and file.filename == "ComfyUI_00002_.png"


def test_a_preview_goes_to_the_temp_folder(session):
    (file,), _, _ = run(session, document(sink="PreviewImage"))
    assert file.type == "temp" and Path(file.path).parent == session.folders.home / "temp"


def test_an_output_can_be_loaded_again(session):
    (file,), _, _ = run(session, document())
    (again,), ran, _ = run(session, document(f"{file.filename} [output]", filename_prefix="again"))
    assert ran == ["1", "2"]
    with Image.open(file.path) as one, Image.open(again.path) as other:
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("name", ["../red.png", "/etc/passwd", "C:\\x.png", "deep/../../x.png", ""])
def test_names_that_leave_the_folder_are_refused(session, name):
    with pytest.raises(WorkflowError, match="not the name of a file inside the input folder"):
        session.prepare(Workflow.of(document(name)))


def test_a_missing_picture_names_the_nearest(session):
    with pytest.raises(WorkflowError, match=r"'blue\.png' is not among the input; .*did you mean 'deep/blue\.png'"):
        session.prepare(Workflow.of(document("blue.png")))


def test_a_prefix_may_not_leave_the_output_folder(session):
    prepared = session.prepare(Workflow.of(document(filename_prefix="../../evil")))
    running = session.submit(prepared)
    assert running.wait().status == "error"
    assert "inside the output folder" in str(running.errors["2"])


def test_zero_keeps_the_aspect_ratio():
    image = torch.rand(1, 20, 10, 3)
    assert scale_image(image=image, upscale_method="area", width=5, height=0, crop="disabled").shape == (1, 10, 5, 3)
    assert scale_image(image=image, upscale_method="area", width=0, height=10, crop="disabled").shape == (1, 10, 5, 3)
    assert scale_image(image=image, upscale_method="area", width=0, height=0, crop="disabled") is image
    assert scale_image_by(image=image, upscale_method="bilinear", scale_by=1.5).shape == (1, 30, 15, 3)
    assert scale_image_by(image=image, upscale_method="bilinear", scale_by=0.01).shape == (1, 1, 1, 3)


def test_the_longer_side_gets_the_length_asked_for():
    def size(height, width, largest):
        image = torch.rand(1, height, width, 3)
        return scale_image_to_max_dimension(image=image, upscale_method="area", largest_size=largest).shape[1:3]

    assert size(20, 10, 5) == (5, 2)
    assert size(10, 30, 9) == (3, 9)
    assert size(7, 7, 14) == (14, 14)
    assert size(1, 100, 10) == (1, 10)
    with pytest.raises(ValueError, match="largest_size is 0; expected"):
        size(8, 8, 0)


@pytest.mark.parametrize(("colour", "value"), [("white", 1.0), ("black", 0.0)])
def test_what_does_not_fill_the_size_is_padded_in_the_middle(colour, value):
    image = torch.full((1, 4, 8, 3), 0.5)
    found = resize_and_pad_image(
        image=image, target_width=4, target_height=5, padding_color=colour, interpolation="nearest-exact"
    )
    assert found.shape == (1, 5, 4, 3)
    assert found[0, :, 0, 0].tolist() == [value, 0.5, 0.5, value, value]


def test_a_picture_of_the_output_folder_is_loaded(session):
    (file,), _, _ = run(session, document())
    graph = document(f"{file.filename}", filename_prefix="again")
    graph["1"]["class_type"] = "LoadImageOutput"
    (again,), ran, _ = run(session, graph)
    assert ran == ["1", "2"]
    with Image.open(again.path) as picture:
        assert picture.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("sink", ["SaveAnimatedPNG", "SaveAnimatedWEBP"])
def test_a_batch_is_saved_as_one_picture_that_moves(session, sink):
    options = {"method": "fastest"} if sink == "SaveAnimatedWEBP" else {}
    graph = document(sink=sink, fps=4.0, filename_prefix="move_%width%", **options)
    graph["3"] = {"class_type": "LoadImage", "inputs": {"image": "deep/blue.png"}}
    graph["4"] = {"class_type": "ImageBatch", "inputs": {"image1": ["1", 0], "image2": ["3", 0]}}
    graph["2"]["inputs"]["images"] = ["4", 0]
    (file,), _, _ = run(session, graph)
    extension = sink.removeprefix("SaveAnimated").lower()
    assert file.filename == f"move_12_00001_.{extension}"
    with Image.open(file.path) as picture:
        assert (picture.n_frames, picture.size) == (2, (12, 8))
        colours = []
        for frame in range(2):
            picture.seek(frame)
            picture.load()
            colours.append(picture.convert("RGB").getpixel((3, 3)))
            assert picture.info["duration"] == 250
    assert colours == [(255, 0, 0), (0, 0, 255)]
