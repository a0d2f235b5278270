"""Hints for ControlNets by networks; names and inputs of comfyui_controlnet_aux, so that its workflows run.

The networks are files and folders of models in `models/annotators`, at any depth; the last inputs of a node name them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from nodegraph.context import Context
from nodegraph.spec import node
from nodegraph.types import Choices, File, FileRef, Port, Widget
from nodes.diffusion.preprocessors import pretrained
from nodes.preprocessors import LINES, Resolution
from nodes.types import Image

DEPTHS = "ControlNet Preprocessors/Normal and Depth Estimators"
SEGMENTS = "ControlNet Preprocessors/Semantic Segmentation"
POSES = "ControlNet Preprocessors/Faces and Poses Estimators"

Annotator = Annotated[FileRef, File("annotators")]
Enabled = Annotated[str, Choices(("enable", "disable"))]
Disabled = Annotated[str, Choices(("disable", "enable"))]
Flatness = Annotated[float, Field(ge=0.0, le=15.707963267948966), Widget(step=0.01)]
Cut = Annotated[float, Field(ge=0.0, le=1.0), Widget(step=0.01)]
Poses = Annotated[Any, Port("POSE_KEYPOINT")]
_NAS = ("yolo_nas_l_fp16.onnx", "yolo_nas_m_fp16.onnx", "yolo_nas_s_fp16.onnx")
Boxes = Annotated[str, Choices(("None", "yolox_l.torchscript.pt", "yolox_l.onnx", *_NAS))]
Joints = Annotated[str, Choices(("dw-ll_ucoco_384_bs5.torchscript.pt", "dw-ll_ucoco_384.onnx", "dw-ll_ucoco.onnx"))]

# the names of files and folders, as their makers have them; the engine finds the files
_HED: Any = "ControlNetHED.pth"
_PHOTO: Any = "sk_model.pth"
_COARSE: Any = "sk_model2.pth"
_ANIME: Any = "netG.pth"
_DEPTH1: Any = "depth_anything_vitl14.pth"
_DEPTH2: Any = "depth_anything_v2_vitl.pth"
_MIDAS: Any = "dpt-hybrid-midas"
_COCO: Any = "oneformer_coco_swin_large"
_ADE20K: Any = "oneformer_ade20k_swin_large"
_UPERNET: Any = "upernet-convnext-small"
_DETECTOR: Any = "rtdetr_r50vd_coco_o365"
_VITPOSE: Any = "vitpose-base-simple"


class Posed(NamedTuple):
    """Poses as a picture and as OpenPose's JSON."""

    IMAGE: Image
    POSE_KEYPOINT: Poses


@node("HEDPreprocessor", category=LINES, title="HED Soft-Edge Lines")
def soft_edge_lines(
    *, ctx: Context, image: Image, safe: Enabled = "enable", resolution: Resolution = 512, model: Annotator = _HED
) -> Image:
    """Soft edges of images [B, H, W, C], white on black (HED, Xie and Tu 2015).

    Args:
        image: What to find edges in.
        safe: Edges of four strengths only, so that nothing of the image can hide in the shades.
        resolution: Pixels of the hint's shorter side.
        model: ControlNetHED.pth of https://huggingface.co/lllyasviel/Annotators.
    """
    from nodes.diffusion.preprocessors.drawn import soft_edges

    return soft_edges(ctx, model, image, resolution, is_safe=safe == "enable")


@node("FakeScribblePreprocessor", category=LINES, title="Fake Scribble Lines (aka scribble_hed)")
def fake_scribbles(
    *, ctx: Context, image: Image, safe: Enabled = "enable", resolution: Resolution = 512, model: Annotator = _HED
) -> Image:
    """The strongest edges of images [B, H, W, C] as bold strokes, white on black.

    Args:
        image: What to scribble.
        safe: Edges of four strengths only are looked at.
        resolution: Pixels of the hint's shorter side.
        model: ControlNetHED.pth of https://huggingface.co/lllyasviel/Annotators.
    """
    from nodes.diffusion.preprocessors.drawn import soft_edges

    return soft_edges(ctx, model, image, resolution, is_safe=safe == "enable", is_scribble=True)


@node("LineArtPreprocessor", category=LINES, title="Realistic Lineart")
def realistic_lineart(
    *, ctx: Context, image: Image, coarse: Disabled = "disable", resolution: Resolution = 512,
    model: Annotator = _PHOTO, coarse_model: Annotator = _COARSE,
) -> Image:  # fmt: skip
    """Line art of photographs [B, H, W, C], white on black (Chan, Durand and Isola 2022).

    Args:
        image: What to draw.
        coarse: Fewer, bolder lines, by the second model.
        resolution: Pixels of the hint's shorter side.
        model: sk_model.pth of https://huggingface.co/lllyasviel/Annotators.
        coarse_model: sk_model2.pth, from the same place; both must be there.
    """
    from nodes.diffusion.preprocessors.drawn import line_art

    return line_art(ctx, coarse_model if coarse == "enable" else model, image, resolution)


@node("AnimeLineArtPreprocessor", category=LINES, title="Anime Lineart")
def anime_lineart(*, ctx: Context, image: Image, resolution: Resolution = 512, model: Annotator = _ANIME) -> Image:
    """Line art of anime [B, H, W, C], white on black.

    Args:
        image: What to draw.
        resolution: Pixels of the hint's shorter side.
        model: netG.pth of https://huggingface.co/lllyasviel/Annotators.
    """
    from nodes.diffusion.preprocessors.drawn import anime_line_art

    return anime_line_art(ctx, model, image, resolution)


def _depth_problems(*, ckpt_name: FileRef | None = None, model: FileRef | None = None, **_: object) -> list[str]:
    if ckpt_name is not None:
        return pretrained.check("depth", ckpt_name) if Path(ckpt_name.path).is_dir() else []
    return [] if model is None else pretrained.check("depth", model)


def _segment_problems(*, model: FileRef | None = None, **_: object) -> list[str]:
    return [] if model is None else pretrained.check("segmentation", model)


def _pose_problems(*, detector: FileRef | None = None, model: FileRef | None = None, **_: object) -> list[str]:
    found = [] if detector is None else pretrained.check("detection", detector)
    return found if model is None else [*found, *pretrained.check("pose", model)]


@node("DepthAnythingPreprocessor", category=DEPTHS, title="Depth Anything", check=_depth_problems)
def depth_anything(
    *, ctx: Context, image: Image, ckpt_name: Annotator = _DEPTH1, resolution: Resolution = 512
) -> Image:
    """Depth of images [B, H, W, C], near is bright (Depth Anything, Yang et al. 2024).

    Args:
        image: What to look at.
        ckpt_name: A file such as depth_anything_vitl14.pth of https://huggingface.co/spaces/LiheYoung/Depth-Anything,
            or a model folder of transformers.
        resolution: Pixels of the hint's shorter side.
    """
    return _depth(ctx, ckpt_name, 1, image, resolution)


@node("DepthAnythingV2Preprocessor", category=DEPTHS, title="Depth Anything V2 - Relative", check=_depth_problems)
def depth_anything_v2(
    *, ctx: Context, image: Image, ckpt_name: Annotator = _DEPTH2, resolution: Resolution = 512
) -> Image:
    """Depth of images [B, H, W, C], near is bright (Depth Anything V2, Yang et al. 2024).

    Args:
        image: What to look at.
        ckpt_name: A file such as depth_anything_v2_vitl.pth of https://huggingface.co/depth-anything, or a model folder
            of transformers, such as Depth-Anything-V2-Large-hf from there.
        resolution: Pixels of the hint's shorter side.
    """
    return _depth(ctx, ckpt_name, 2, image, resolution)


def _depth(ctx: Context, file: FileRef, version: Literal[1, 2], image: Image, resolution: int) -> Image:
    from nodes.diffusion.preprocessors.depth import whole
    from nodes.diffusion.preprocessors.depth_anything import DepthAnythingPart

    is_folder = Path(file.path).is_dir()
    part = pretrained.PretrainedPart("depth", file) if is_folder else DepthAnythingPart(file, version)
    return whole(ctx, part, image, resolution)


@node("MiDaS-DepthMapPreprocessor", category=DEPTHS, title="MiDaS Depth Map", check=_depth_problems)
def midas_depth(
    *, ctx: Context, image: Image, a: Flatness = math.pi * 2, bg_threshold: Cut = 0.1, resolution: Resolution = 512,
    model: Annotator = _MIDAS,
) -> Image:  # fmt: skip
    """Depth of images [B, H, W, C], near is bright (MiDaS, Ranftl et al. 2021).

    Args:
        image: What to look at.
        a: Not heeded: it is for normals.
        bg_threshold: Not heeded: it is for normals.
        resolution: Pixels of the hint's shorter side.
        model: A model folder of transformers, such as https://huggingface.co/Intel/dpt-hybrid-midas.
    """
    from nodes.diffusion.preprocessors.depth import framed

    return framed(ctx, pretrained.PretrainedPart("depth", model), image, resolution)


@node("MiDaS-NormalMapPreprocessor", category=DEPTHS, title="MiDaS Normal Map", check=_depth_problems)
def midas_normals(
    *, ctx: Context, image: Image, a: Flatness = math.pi * 2, bg_threshold: Cut = 0.1, resolution: Resolution = 512,
    model: Annotator = _MIDAS,
) -> Image:  # fmt: skip
    """Normals of the surfaces in images [B, H, W, C], from the slopes of their depth.

    Args:
        image: What to look at.
        a: How far all faces the eye, beside the slopes.
        bg_threshold: Depth, of 0 to 1, below which all is background.
        resolution: Pixels of the hint's shorter side.
        model: A model folder of transformers, such as https://huggingface.co/Intel/dpt-hybrid-midas.
    """
    from nodes.diffusion.preprocessors.depth import normals

    part = pretrained.PretrainedPart("depth", model)
    return normals(ctx, part, image, resolution, flatness=a, cut=bg_threshold)


@node("OneFormer-COCO-SemSegPreprocessor", category=SEGMENTS, title="OneFormer COCO Segmentor", check=_segment_problems)
def coco_segments(*, ctx: Context, image: Image, resolution: Resolution = 512, model: Annotator = _COCO) -> Image:
    """Each kind of thing in images [B, H, W, C] in its colour, of COCO's 133 kinds.

    Args:
        image: What to look at.
        resolution: Pixels of the hint's shorter side.
        model: A model folder of transformers, such as https://huggingface.co/shi-labs/oneformer_coco_swin_large.
    """
    return _segments(ctx, model, image, resolution)


@node(
    "OneFormer-ADE20K-SemSegPreprocessor", category=SEGMENTS, title="OneFormer ADE20K Segmentor",
    check=_segment_problems,
)  # fmt: skip
def ade20k_segments(*, ctx: Context, image: Image, resolution: Resolution = 512, model: Annotator = _ADE20K) -> Image:
    """Each kind of thing in images [B, H, W, C] in its colour, of ADE20K's 150 kinds, which ControlNets know.

    Args:
        image: What to look at.
        resolution: Pixels of the hint's shorter side.
        model: A model folder of transformers, such as https://huggingface.co/shi-labs/oneformer_ade20k_swin_large.
    """
    return _segments(ctx, model, image, resolution)


@node("UniFormer-SemSegPreprocessor", category=SEGMENTS, title="UniFormer Segmentor", check=_segment_problems)
def uniformer_segments(
    *, ctx: Context, image: Image, resolution: Resolution = 512, model: Annotator = _UPERNET
) -> Image:
    """Each kind of thing in images [B, H, W, C] in its colour, of ADE20K's 150 kinds, by UperNet.

    Args:
        image: What to look at.
        resolution: Pixels of the hint's shorter side.
        model: A model folder of transformers, such as https://huggingface.co/openmmlab/upernet-convnext-small, which
            has ConvNeXt in UniFormer's place.
    """
    return _segments(ctx, model, image, resolution)


@node("SemSegPreprocessor", category=SEGMENTS, title="Semantic Segmentor", check=_segment_problems)
def semantic_segments(
    *, ctx: Context, image: Image, resolution: Resolution = 512, model: Annotator = _UPERNET
) -> Image:
    """Each kind of thing in images [B, H, W, C] in its colour; the same as UniFormer-SemSegPreprocessor.

    Args:
        image: What to look at.
        resolution: Pixels of the hint's shorter side.
        model: A model folder of transformers, such as https://huggingface.co/openmmlab/upernet-convnext-small.
    """
    return _segments(ctx, model, image, resolution)


def _segments(ctx: Context, file: FileRef, image: Image, resolution: int) -> Image:
    from nodes.diffusion.preprocessors.segmentation import segments

    return segments(ctx, pretrained.PretrainedPart("segmentation", file), image, resolution)


@node("OpenposePreprocessor", category=POSES, title="OpenPose Pose", check=_pose_problems)
def openpose(
    *, ctx: Context, image: Image, detect_hand: Enabled = "enable", detect_body: Enabled = "enable",
    detect_face: Enabled = "enable", resolution: Resolution = 512, scale_stick_for_xinsr_cn: Disabled = "disable",
    detector: Annotator = _DETECTOR, model: Annotator = _VITPOSE,
) -> Posed:  # fmt: skip
    """The people in images [B, H, W, C] as coloured sticks, as OpenPose draws them; found by ViTPose (Xu et al. 2022).

    Args:
        image: What to look at.
        detect_hand: Not heeded: ViTPose finds bodies, no hands.
        detect_body: Draw bodies.
        detect_face: Not heeded: ViTPose finds bodies, and of faces the eyes, ears and nose.
        resolution: Pixels of the hint's shorter side.
        scale_stick_for_xinsr_cn: Thicker sticks in large images, as the ControlNet of xinsir takes them.
        detector: What finds people: a model folder, such as https://huggingface.co/PekingU/rtdetr_r50vd_coco_o365.
        model: What finds joints: a model folder, such as https://huggingface.co/usyd-community/vitpose-base-simple.
    """
    parts = {"hands": detect_hand, "bodies": detect_body, "faces": detect_face}
    return _posed(ctx, (detector, model), image, resolution, parts, scale_stick_for_xinsr_cn == "enable")


@node("DWPreprocessor", category=POSES, title="DWPose Estimator", check=_pose_problems)
def dwpose(
    *, ctx: Context, image: Image, detect_hand: Enabled = "enable", detect_body: Enabled = "enable",
    detect_face: Enabled = "enable", resolution: Resolution = 512, bbox_detector: Boxes = "yolox_l.onnx",
    pose_estimator: Joints = "dw-ll_ucoco_384_bs5.torchscript.pt", scale_stick_for_xinsr_cn: Disabled = "disable",
    detector: Annotator = _DETECTOR, model: Annotator = _VITPOSE,
) -> Posed:  # fmt: skip
    """The people in images [B, H, W, C] as coloured sticks; the same as OpenposePreprocessor, by ViTPose.

    Args:
        image: What to look at.
        detect_hand: Not heeded: ViTPose finds bodies, no hands.
        detect_body: Draw bodies.
        detect_face: Not heeded: ViTPose finds bodies, and of faces the eyes, ears and nose.
        resolution: Pixels of the hint's shorter side.
        bbox_detector: Not heeded: `detector` is in its place.
        pose_estimator: Not heeded: `model` is in its place.
        scale_stick_for_xinsr_cn: Thicker sticks in large images, as the ControlNet of xinsir takes them.
        detector: What finds people: a model folder, such as https://huggingface.co/PekingU/rtdetr_r50vd_coco_o365.
        model: What finds joints: a model folder, such as https://huggingface.co/usyd-community/vitpose-base-simple.
    """
    parts = {"hands": detect_hand, "bodies": detect_body, "faces": detect_face}
    return _posed(ctx, (detector, model), image, resolution, parts, scale_stick_for_xinsr_cn == "enable")


def _posed(
    ctx: Context, files: tuple[FileRef, FileRef], image: Image, resolution: int, parts: dict[str, str], is_bold: bool
) -> Posed:
    from nodes.diffusion.preprocessors.poses import posed

    unseen = [part for part in ("hands", "faces") if parts[part] == "enable"]
    if unseen:
        ctx.note(f"{' and '.join(unseen)} are not drawn: poses are found by ViTPose, which knows bodies only")
    detector, estimator = (pretrained.PretrainedPart(task, file)
                           for task, file in zip(("detection", "pose"), files, strict=True))  # fmt: skip
    picture, people = posed(ctx, detector, estimator, image, resolution, is_bold=is_bold)
    return Posed(picture if parts["bodies"] == "enable" else picture * 0, people)
