"""Nodes take and give what ComfyUI 0.3.64's do, but for the exceptions told here. `interfaces.py` makes the table."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nodegraph.registry import Registry
from nodegraph.spec import Input, NodeSpec
from tests.parity.interfaces import REDUCED

THEIRS: dict[str, dict[str, Any]] = json.loads(REDUCED.read_text("utf-8"))
OURS: dict[str, NodeSpec] = dict(Registry().with_entry_points().specs)
OURS_ALONE = {
    "CLIPTextEncodeA1111", "ManualSigmas", "MathExpression", "Repeat", "Reroute", "Switch", "TextLines",
    "ApplyLoraStack", "CropForInpaint", "LoraLoaderBlockWeights", "LoraStack", "StitchInpaint",
    "UltimateSDUpscale", "UltimateSDUpscaleNoUpscale",  # of ComfyUI_UltimateSDUpscale
    "SaveImageWebsocket",  # of the pack that ships with ComfyUI, so not in its table
}  # fmt: skip
PREPROCESSORS = {  # of comfyui_controlnet_aux
    "AIO_Preprocessor", "AnimeLineArtPreprocessor", "BinaryPreprocessor",
    "CannyEdgePreprocessor", "ColorPreprocessor", "DWPreprocessor",
    "DepthAnythingPreprocessor", "DepthAnythingV2Preprocessor", "FakeScribblePreprocessor",
    "HEDPreprocessor", "ImageIntensityDetector", "ImageLuminanceDetector",
    "InpaintPreprocessor", "LineArtPreprocessor", "LineartStandardPreprocessor",
    "MiDaS-DepthMapPreprocessor", "MiDaS-NormalMapPreprocessor", "OneFormer-ADE20K-SemSegPreprocessor",
    "OneFormer-COCO-SemSegPreprocessor", "OpenposePreprocessor", "PixelPerfectResolution",
    "ScribblePreprocessor", "Scribble_XDoG_Preprocessor", "SemSegPreprocessor",
    "ShufflePreprocessor", "TilePreprocessor", "UniFormer-SemSegPreprocessor",
}  # fmt: skip
UNSET = {"BOOLEAN": False, "STRING": ""}  # what ComfyUI's canvas shows where a node names no default

_LOGARITHM = "a noise level of 0 has no logarithm"
_DIVISOR = "a step from noise level 0 divides by it"
_LIKE_ITS_WORKFLOW = "ComfyUI's canvas takes the first option; its default workflow, and all of ours, have normal"
EXCEPTIONS = {
    ("BetaSamplingScheduler", "alpha", "min"): "0 is no distribution, and its schedule not a number",
    ("BetaSamplingScheduler", "beta", "min"): "0 is no distribution, and its schedule not a number",
    ("ExponentialScheduler", "sigma_max", "min"): _LOGARITHM,
    ("ExponentialScheduler", "sigma_min", "min"): _LOGARITHM,
    ("KSampler", "scheduler", "default"): _LIKE_ITS_WORKFLOW,
    ("KSamplerAdvanced", "scheduler", "default"): _LIKE_ITS_WORKFLOW,
    ("KarrasScheduler", "rho", "min"): "1 / rho is the exponent",
    ("KarrasScheduler", "sigma_max", "min"): _DIVISOR,
    ("KarrasScheduler", "sigma_min", "min"): _DIVISOR,
    ("LaplaceScheduler", "sigma_max", "min"): _LOGARITHM,
    ("LaplaceScheduler", "sigma_min", "min"): _LOGARITHM,
    ("LatentFromBatch", "batch_index", "min"): "places are counted from the end below 0, as later in ComfyUI",
    ("LatentFromBatch", "batch_index", "max"): "batches may be of more than 64",
    ("PolyexponentialScheduler", "rho", "min"): "as KarrasScheduler",
    ("PolyexponentialScheduler", "sigma_max", "min"): _LOGARITHM,
    ("PolyexponentialScheduler", "sigma_min", "min"): _LOGARITHM,
    ("PreviewAny", "", "outputs"): "the text it shows can be used by other nodes",
}


def of_theirs(item: dict[str, Any], field: str) -> Any:
    """A field of an input of ComfyUI."""
    if field == "options":
        return list(dict.fromkeys(item.get("options", ())))
    if field == "default" and "default" not in item:
        return next(iter(item.get("options", ())), None) if item["type"] == "COMBO" else UNSET.get(item["type"])
    return item.get(field)


def of_ours(item: Input, field: str, wanted: Any) -> Any:
    """The same of ours; of options as many as there, since ours may have more."""
    if field == "options":
        return [] if item.file else list(item.choices or ())[: len(wanted)]
    return {"type": item.port, "default": item.default, "min": item.limits.get("ge"), "max": item.limits.get("le")}[
        field
    ]


def differences(name: str) -> dict[tuple[str, str, str], str]:
    """Where a node is unlike ComfyUI's, by (node, input, field); a default has to be told where ComfyUI tells one."""
    spec, theirs = OURS[name], THEIRS[name]
    found: dict[tuple[str, str, str], str] = {}
    for item in theirs["inputs"]:
        own = spec.by_name.get(item["name"])
        if own is None:
            continue  # told below, with all names
        for field in ("type", "default", "min", "max", "options"):
            if field == "default" and own.is_required and item["required"] and "default" not in item:
                continue
            wanted = of_theirs(item, field)
            got = of_ours(own, field, wanted)
            if got != wanted:
                found[name, own.name, field] = f"{got!r}, in ComfyUI {wanted!r}"
    names = [item["name"] for item in theirs["inputs"]]
    if [item.name for item in spec.inputs[: len(names)]] != names:
        found[name, "", "inputs"] = f"{list(spec.by_name)}, in ComfyUI {names}"
    if needed := [item.name for item in spec.inputs if item.is_required and item.name not in names]:
        found[name, "", "inputs"] = f"{needed} have no default and are not in ComfyUI"
    outputs = [[output.name, output.port, output.is_each] for output in spec.outputs]
    if outputs != theirs["outputs"]:
        found[name, "", "outputs"] = f"{outputs}, in ComfyUI {theirs['outputs']}"
    return found


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_a_node_takes_and_gives_what_it_does_in_comfyui(name):
    assert name in OURS, f"{name} is gone; write interfaces.json again"
    assert {place: text for place, text in differences(name).items() if place not in EXCEPTIONS} == {}


def test_every_exception_is_needed():
    found = {place for name in THEIRS if name in OURS for place in differences(name)}
    assert set(EXCEPTIONS) - found == set()


def test_every_node_is_compared_or_ours_alone():
    assert set(OURS) - set(THEIRS) == OURS_ALONE | PREPROCESSORS, (
        "run `python -m tests.parity.interfaces FILE`, or add to OURS_ALONE"
    )
