"""Preprocessors as nodes: names and inputs of comfyui_controlnet_aux, the all-in-one node, where files are found."""

from __future__ import annotations

import pytest
import torch
from PIL import Image as Pictures

from nodegraph.errors import WorkflowError
from nodegraph.registry import Registry
from nodegraph.session import Session, Settings
from nodegraph.workflow import Workflow
from nodes import annotators, preprocessors
from tests.nodes.diffusion.preprocessors import models
from tests.nodes.diffusion.preprocessors.hosts import Host, bytes_of, picture, ref

IMAGE = picture(2, 80, 100)
INPUTS = {  # of each node in the pack, in its order
    "AIO_Preprocessor": ["image", "preprocessor", "resolution"],
    "AnimeLineArtPreprocessor": ["image", "resolution"],
    "BinaryPreprocessor": ["image", "bin_threshold", "resolution"],
    "CannyEdgePreprocessor": ["image", "low_threshold", "high_threshold", "resolution"],
    "ColorPreprocessor": ["image", "resolution"],
    "DWPreprocessor": ["image", "detect_hand", "detect_body", "detect_face", "resolution", "bbox_detector",
                       "pose_estimator", "scale_stick_for_xinsr_cn"],
    "DepthAnythingPreprocessor": ["image", "ckpt_name", "resolution"],
    "DepthAnythingV2Preprocessor": ["image", "ckpt_name", "resolution"],
    "FakeScribblePreprocessor": ["image", "safe", "resolution"],
    "HEDPreprocessor": ["image", "safe", "resolution"],
    "ImageIntensityDetector": ["image", "gamma_correction", "resolution"],
    "ImageLuminanceDetector": ["image", "gamma_correction", "resolution"],
    "InpaintPreprocessor": ["image", "mask", "black_pixel_for_xinsir_cn"],
    "LineArtPreprocessor": ["image", "coarse", "resolution"],
    "LineartStandardPreprocessor": ["image", "guassian_sigma", "intensity_threshold", "resolution"],
    "MiDaS-DepthMapPreprocessor": ["image", "a", "bg_threshold", "resolution"],
    "MiDaS-NormalMapPreprocessor": ["image", "a", "bg_threshold", "resolution"],
    "OneFormer-ADE20K-SemSegPreprocessor": ["image", "resolution"],
    "OneFormer-COCO-SemSegPreprocessor": ["image", "resolution"],
    "OpenposePreprocessor": ["image", "detect_hand", "detect_body", "detect_face", "resolution",
                             "scale_stick_for_xinsr_cn"],
    "PixelPerfectResolution": ["original_image", "image_gen_width", "image_gen_height", "resize_mode"],
    "ScribblePreprocessor": ["image", "resolution"],
    "Scribble_XDoG_Preprocessor": ["image", "threshold", "resolution"],
    "SemSegPreprocessor": ["image", "resolution"],
    "ShufflePreprocessor": ["image", "resolution", "seed"],
    "TilePreprocessor": ["image", "pyrUp_iters", "resolution"],
    "UniFormer-SemSegPreprocessor": ["image", "resolution"],
}  # fmt: skip


@pytest.fixture(scope="module")
def registry():
    return Registry().with_entry_points()


@pytest.fixture
def session(tmp_path, registry):
    (tmp_path / "input").mkdir()
    Pictures.fromarray(bytes_of(IMAGE)[0].movedim(0, -1).byte().numpy()).save(tmp_path / "input" / "a.png")
    with Session(Settings(home=tmp_path, device="cpu", cache_dir=None), registry=registry) as session:
        yield session


def run(session, class_type, **inputs):
    nodes = {
        "load": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "hint": {"class_type": class_type, "inputs": {"image": ["load", 0], **inputs}},
    }
    workflow = Workflow.of({"nodegraph": 1, "nodes": nodes})
    running = session.submit(session.prepare(workflow, ["hint"]), wants_values=True)
    assert running.wait().status == "success", running.errors
    return running.value("hint")


def test_nodes_have_the_inputs_of_the_pack_first_and_defaults_for_more(registry):
    found = {
        name: spec for name, spec in registry.specs.items() if spec.category.startswith("ControlNet Preprocessors")
    }
    assert sorted(found) == sorted(INPUTS)
    for name, spec in found.items():
        names = [item.name for item in spec.inputs]
        assert names[: len(INPUTS[name])] == INPUTS[name]
        assert set(names[len(INPUTS[name]) :]) <= {"model", "coarse_model", "detector"}


def test_the_all_in_one_node_offers_every_preprocessor_of_one_image():
    hints = set(INPUTS) - {"AIO_Preprocessor", "PixelPerfectResolution", "InpaintPreprocessor"}
    assert set(preprocessors.NAMES) == {"none", *hints} and len(preprocessors.NAMES) == len(hints) + 1


@pytest.mark.parametrize(
    "make",
    [
        preprocessors.canny_edge, preprocessors.binary_lines, preprocessors.scribble_lines, preprocessors.xdog_lines,
        preprocessors.standard_lineart, preprocessors.colour_blocks, preprocessors.content_shuffle,
        preprocessors.luminance_hint, preprocessors.intensity_hint,
    ],
    ids=lambda make: make.__name__,
)  # fmt: skip
def test_a_hint_has_the_resolution_asked_for(make):
    found = make(image=IMAGE, resolution=128)
    assert found.shape == (2, 128, 160, 3) and found.dtype == torch.float32
    assert found.min() >= 0 and found.max() <= 1 and found.std() > 0


def test_a_tile_keeps_its_size():
    assert preprocessors.tile_hint(image=IMAGE, resolution=512).shape == (2, 64, 128, 3)


def test_a_pixel_perfect_resolution_is_that_of_what_is_used():
    assert (
        preprocessors.pixel_perfect_resolution(original_image=IMAGE, image_gen_width=512, image_gen_height=512) == 512
    )
    fill = preprocessors.pixel_perfect_resolution(
        original_image=IMAGE, image_gen_width=512, image_gen_height=512, resize_mode="Resize and Fill"
    )
    assert fill == 410


def test_inpainting_marks_what_is_masked():
    mask = torch.zeros(1, 80, 100)
    mask[:, 40:] = 1
    missing = preprocessors.inpaint_hint(image=IMAGE, mask=mask)
    black = preprocessors.inpaint_hint(image=IMAGE, mask=mask, black_pixel_for_xinsir_cn=True)
    assert (missing[:, 40:] == -1).all() and (black[:, 40:] == 0).all() and torch.equal(missing[:, :40], IMAGE[:, :40])


def test_the_all_in_one_node_does_what_the_node_does_that_it_names(session):
    canny = run(session, "CannyEdgePreprocessor", resolution=64)
    assert torch.equal(run(session, "AIO_Preprocessor", preprocessor="CannyEdgePreprocessor", resolution=64), canny)
    assert run(session, "AIO_Preprocessor").shape == (1, 80, 100, 3) and canny.shape == (1, 64, 80, 3)


def test_a_missing_file_is_told_before_the_run_with_its_folder(session, tmp_path):
    with pytest.raises(WorkflowError) as caught:
        run(session, "HEDPreprocessor")
    assert "'ControlNetHED.pth' is not among the annotators;" in str(caught.value)
    assert f"put it in {tmp_path / 'models' / 'annotators'}" in str(caught.value)


def test_folders_of_models_are_found_where_they_lie(session, tmp_path):
    place = tmp_path / "models" / "annotators" / "Intel"
    models.dpt(place / "dpt-hybrid-midas")
    found = run(session, "MiDaS-DepthMapPreprocessor", resolution=64)
    assert found.shape == (1, 64, 80, 3) and found.min() == 0 and found.max() > 0.99
    assert torch.equal(
        run(session, "AIO_Preprocessor", preprocessor="MiDaS-DepthMapPreprocessor", resolution=64), found
    )
    assert session.folders.names("annotators") == ["Intel/dpt-hybrid-midas"]
    with pytest.raises(WorkflowError, match=r"holds DPTForDepthEstimation; expected a model folder .* that segments"):
        run(session, "SemSegPreprocessor", model="dpt-hybrid-midas")


def test_poses_without_bodies_are_black_and_what_is_not_drawn_is_told(tmp_path):
    host = Host()
    files = {"detector": models.detector(tmp_path / "d"), "model": models.vitpose(tmp_path / "p")}
    found = annotators.dwpose(ctx=host, image=IMAGE[:1], detect_body="disable", resolution=64, **files)
    assert found.IMAGE.shape == (1, 64, 80, 3) and (found.IMAGE == 0).all()
    assert found.POSE_KEYPOINT[0]["canvas_width"] == 80
    assert host.notes == ["hands and faces are not drawn: poses are found by ViTPose, which knows bodies only"]


def test_depth_is_of_a_file_or_a_folder(tmp_path):
    found = annotators.depth_anything_v2(
        ctx=Host(), image=IMAGE[:1], ckpt_name=models.dpt(tmp_path / "m"), resolution=64
    )
    assert found.shape == (1, 64, 80, 3)
    (tmp_path / "x.pth").write_bytes(b"")
    with pytest.raises(Exception, match=r"x.pth: is empty"):
        annotators.depth_anything(ctx=Host(), image=IMAGE, ckpt_name=ref(tmp_path / "x.pth"))
