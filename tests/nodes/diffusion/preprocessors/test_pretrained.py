"""Depth, segments and poses by models of transformers, against transformers' own pipelines and formulas."""

from __future__ import annotations

import colorsys
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers as tf
from PIL import Image

from nodegraph.errors import FileProblem
from nodes.diffusion.preprocessors import depth, poses, pretrained, segmentation
from nodes.diffusion.preprocessors.pretrained import PretrainedPart
from tests.nodes.diffusion.preprocessors import models
from tests.nodes.diffusion.preprocessors.hosts import Host, bytes_of, picture, ref

IMAGE = picture(2, 64, 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("annotators")


@pytest.fixture(scope="module")
def dpt(folder):
    return models.dpt(folder / "dpt")


def pictures():
    return [Image.fromarray(plane.movedim(0, -1).byte().numpy()) for plane in bytes_of(IMAGE)]


def predicted(file):
    model, processor = (
        tf.DPTForDepthEstimation.from_pretrained(file.path),
        tf.DPTImageProcessor.from_pretrained(file.path),
    )
    with torch.no_grad():
        found = model.eval()(**processor(pictures(), return_tensors="pt")).predicted_depth
    return F.interpolate(found[:, None], size=(64, 64), mode="bicubic")


def test_depth_is_stretched_to_all_greys(dpt):
    wanted = predicted(dpt)
    assert (wanted.std((1, 2, 3)) > 0.01).all()
    low, high = wanted.amin((1, 2, 3), keepdim=True), wanted.amax((1, 2, 3), keepdim=True)
    for way in (depth.framed, depth.whole):
        found = way(Host(), PretrainedPart("depth", dpt), IMAGE, 64)
        assert torch.allclose(found[..., 0], ((wanted - low) / (high - low))[:, 0], atol=1.5 / 255)
        assert found.shape == (2, 64, 64, 3)


def test_depth_of_a_whole_picture_has_the_resolution_asked_for(dpt):
    assert depth.whole(Host(), PretrainedPart("depth", dpt), IMAGE[:1], 128).shape == (1, 128, 128, 3)


def test_distances_are_turned_round(dpt, monkeypatch):
    near = depth.framed(Host(), PretrainedPart("depth", dpt), IMAGE, 64)
    monkeypatch.setattr(depth, "_is_distance", lambda config: True)
    far = depth.framed(Host(), PretrainedPart("depth", dpt), IMAGE, 64)
    assert torch.allclose(near, 1 - far, atol=1.5 / 255)
    assert depth.unit(torch.full((1, 1, 2, 2), 3.0)).tolist() == [[[[0.0, 0.0], [0.0, 0.0]]]]


def test_normals_are_the_slopes_of_depth(dpt):
    found = depth.normals(Host(), PretrainedPart("depth", dpt), IMAGE, 64, flatness=2.0, cut=0.4)
    d = predicted(dpt)[0, 0].double().numpy()
    wide = np.pad(d, 1, "reflect")
    dx = sum(w * (wide[i : i + 64, 2:] - wide[i : i + 64, :-2]) for i, w in enumerate((1, 2, 1)))
    dy = sum(w * (wide[2:, i : i + 64] - wide[:-2, i : i + 64]) for i, w in enumerate((1, 2, 1)))
    share = (d - d.min()) / (d.max() - d.min())
    dx, dy = dx * (share >= 0.4), dy * (share >= 0.4)
    normal = np.stack([np.full_like(d, 2.0), dy, dx], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    sure = abs(share - 0.4) > 1e-4
    assert np.abs(found[0].numpy() * 255 - (normal * 127.5 + 127.5))[sure].max() < 1.01
    flat = (torch.tensor([255.0, 127.0, 127.0]) / 255).expand(int((share < 0.39).sum()), 3)
    assert torch.allclose(found[0][torch.from_numpy(share < 0.39)], flat, atol=1e-6)


@pytest.mark.parametrize("kinds", [150, 5])
def test_segments_have_the_colours_of_their_kinds(folder, kinds):
    file = models.segformer(folder / f"segformer{kinds}", kinds)
    found = segmentation.segments(Host(), PretrainedPart("segmentation", file), IMAGE, 64)
    model = tf.SegformerForSemanticSegmentation.from_pretrained(file.path).eval()
    processor = tf.SegformerImageProcessor.from_pretrained(file.path)
    with torch.no_grad():
        logits = model(**processor(pictures(), return_tensors="pt")).logits
    wanted = F.interpolate(logits, size=(64, 64), mode="bilinear").argmax(1)
    colours = segmentation.palette(kinds)
    assert len(wanted.unique()) > 2
    assert torch.equal((found * 255).round().long(), colours[wanted])


def test_colours_are_ade20ks_or_a_golden_angle_apart():
    ade = segmentation.palette(150).tolist()
    assert ade[:3] == [[120, 120, 120], [180, 120, 120], [6, 230, 230]] and ade[-1] == [92, 0, 255]
    assert len({tuple(colour) for colour in ade}) >= 149
    third = colorsys.hsv_to_rgb((2 * 137.508 % 360) / 360, 1.0, 0.7)
    assert segmentation.palette(133)[2].tolist() == [round(part * 255) for part in third]
    assert segmentation.palette(133)[0].tolist() == [0, 0, 0]


def test_oneformer_needs_nothing_but_its_folder(folder):
    file = models.oneformer(folder / "oneformer")
    found = segmentation.segments(Host(), PretrainedPart("segmentation", file), IMAGE[:1], 64)
    model = tf.OneFormerForUniversalSegmentation.from_pretrained(file.path).eval()
    tokens = tf.CLIPTokenizer.from_pretrained(file.path)("the task is semantic", padding="max_length", max_length=24)
    words = torch.tensor([tokens["input_ids"]]) * torch.tensor([tokens["attention_mask"]])
    images = tf.OneFormerImageProcessor(size={"height": 64, "width": 64})
    inputs = images(pictures()[:1], task_inputs=["semantic"], return_tensors="pt")
    with torch.no_grad():
        output = model(pixel_values=inputs["pixel_values"], pixel_mask=inputs["pixel_mask"],
                       task_inputs=words)  # fmt: skip
    classes, masks = output.class_queries_logits.softmax(-1)[..., :-1], output.masks_queries_logits.sigmoid()
    scores = F.interpolate(torch.einsum("bqc,bqhw->bchw", classes, masks), size=(64, 64), mode="bilinear")
    assert len(scores.argmax(1).unique()) > 1
    assert torch.equal((found * 255).round().long(), segmentation.palette(7)[scores.argmax(1)])


@pytest.mark.parametrize("experts", [1, 3])
def test_poses_are_those_of_the_people_found(folder, experts, monkeypatch):
    monkeypatch.setattr(poses, "_IS_PERSON", 0.0)
    monkeypatch.setattr(poses, "_IS_POINT", -100.0)
    boxes, joints = folder / f"yolos{experts}", folder / f"vitpose{experts}"
    files = models.detector(boxes), models.vitpose(joints, experts)
    parts = PretrainedPart("detection", files[0]), PretrainedPart("pose", files[1])
    _, found = poses.posed(Host(), *parts, IMAGE, 64, is_bold=False)
    seen = tf.pipeline("object-detection", model=str(boxes), device="cpu")(pictures()[0], threshold=0.0)
    people = [row["box"] for row in seen if row["label"] == "person"]
    assert 0 < len(people) == len(found[0]["people"]) and found[0]["canvas_width"] == 64
    model, processor = (
        tf.VitPoseForPoseEstimation.from_pretrained(joints).eval(),
        tf.AutoImageProcessor.from_pretrained(joints),
    )
    detected = poses._people(parts[0].load(Host.device, torch.float32), bytes_of(IMAGE)[0], Host.device)
    corners = sorted(
        [int(left), int(top), int(left + width), int(top + height)] for left, top, width, height in detected
    )
    wanted = sorted(list(box.values()) for box in people)
    assert np.abs(np.array(corners) - np.array(wanted)).max() <= 1
    inputs = processor(pictures()[0], boxes=[detected], return_tensors="pt")
    extra = {"dataset_index": torch.zeros(len(detected), dtype=torch.long)} if experts > 1 else {}
    with torch.no_grad():
        (bodies,) = processor.post_process_pose_estimation(model(**inputs, **extra), boxes=[detected])
    nose, wrist = bodies[0]["keypoints"][0], bodies[0]["keypoints"][10]
    row = found[0]["people"][0]["pose_keypoints_2d"]
    assert row[:3] == pytest.approx([*nose.tolist(), 1.0], abs=0.05)
    assert row[12:15] == pytest.approx([*wrist.tolist(), 1.0], abs=0.05) and len(row) == 54


def test_a_wrong_folder_is_told_before_the_run(folder, dpt, tmp_path):
    (problem,) = pretrained.check("segmentation", dpt)
    assert "dpt holds DPTForDepthEstimation; expected a model folder of transformers that segments" in problem
    assert pretrained.check("depth", dpt) == []
    (tmp_path / "a.pth").write_bytes(b"x")
    assert "a.pth is a file; expected a model folder" in pretrained.check("pose", ref(tmp_path / "a.pth"))[0]
    assert "config.json: cannot be read" in pretrained.check("pose", ref(tmp_path))[0]
    with pytest.raises(FileProblem, match="dpt holds"):
        PretrainedPart("pose", dpt).load(Host.device, torch.float32)


def test_a_folder_without_some_tensors_is_refused(tmp_path):
    file = models.segformer(tmp_path / "s", 5)
    from safetensors.torch import load_file, save_file

    tensors = load_file(tmp_path / "s" / "model.safetensors")
    del tensors["decode_head.classifier.weight"]
    save_file(tensors, tmp_path / "s" / "model.safetensors", {"format": "pt"})
    with pytest.raises(FileProblem, match=r"s lacks tensors: decode_head.classifier.weight"):
        PretrainedPart("segmentation", file).load(Host.device, torch.float32)


def test_code_in_a_folder_is_not_run(tmp_path):
    file = models.dpt(tmp_path / "d")
    config = json.loads((tmp_path / "d" / "config.json").read_text())
    config |= {"architectures": ["MyDepthEstimation"], "auto_map": {"AutoModelForDepthEstimation": "evil.My"}}
    (tmp_path / "d" / "config.json").write_text(json.dumps(config))
    (tmp_path / "d" / "evil.py").write_text("raise SystemExit")
    with pytest.raises(FileProblem, match=r"MyDepthEstimation, which transformers .* does not have"):
        PretrainedPart("depth", file).load(Host.device, torch.float32)
