"""Nodes that patch a model: each adds one patch, and the model it was given is as before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from nodegraph.codec import decode, encode
from nodegraph.spec import NODE_ATTRIBUTE, NodeSpec
from nodes import model_patches as patches
from nodes.diffusion import guidance_patches, sampling_patches, unet_patches
from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.checkpoints import Part
from nodes.diffusion.latent_operations import TonemapReinhard
from nodes.types import Cond, ModelValue

CONFIG = UNetConfig(
    in_channels=4, out_channels=4, model_channels=32, channel_mult=(1,), num_res_blocks=(1,), transformer_depth=(1,),
    middle_depth=1, context_dim=8, num_heads=8, head_channels=None, use_linear=False,
)  # fmt: skip
MODEL = ModelValue(Part("a.safetensors", "d", "unet", "sd1", CONFIG), (guidance_patches.TCFG(),))
EMPTY = (Cond(torch.zeros(1, 77, 8)),)
TONES = TonemapReinhard(0.5)
DEFAULTS: list[tuple[Callable[..., Any], dict[str, Any], Any]] = [  # what has no default; the patch
    (patches.sampling_discrete, {"sampling": "eps"}, sampling_patches.DiscreteSampling("eps", False)),
    (patches.sampling_continuous, {"sampling": "edm"}, sampling_patches.ContinuousSampling("edm", 0.002, 120.0)),
    (patches.rescale_cfg, {}, guidance_patches.RescaleCFG(0.7)),
    (patches.free_u, {}, unet_patches.FreeU(1.1, 1.2, 0.9, 0.2, by_structure=False)),
    (patches.free_u_v2, {}, unet_patches.FreeU(1.3, 1.4, 0.9, 0.2, by_structure=True)),
    (patches.deep_shrink, {"downscale_method": "bicubic", "upscale_method": "area"},
     unet_patches.DeepShrink(3, 2.0, 0.0, 0.35, True, "bicubic", "area")),
    (patches.hypertile, {}, unet_patches.HyperTile(256, 2, 0, False)),
    (patches.token_merging, {}, unet_patches.TokenMerging(0.3)),
    (patches.perturbed_attention, {}, unet_patches.PerturbedAttention(3.0)),
    (patches.self_attention_guidance, {}, unet_patches.SelfAttentionGuidance(0.5, 2.0)),
    (patches.differential_diffusion, {}, guidance_patches.DifferentialDiffusion(1.0)),
    (patches.perp_neg, {"empty_conditioning": EMPTY}, guidance_patches.PerpNeg(EMPTY, 1.0)),
    (patches.cfg_zero_star, {}, guidance_patches.CFGZeroStar()),
    (patches.cfg_norm, {}, guidance_patches.CFGNorm(1.0)),
    (patches.tangential_cfg, {}, guidance_patches.TCFG()),
    (patches.apg, {}, guidance_patches.APG(1.0, 5.0, 0.0)),
    (patches.operation_cfg, {"operation": TONES}, guidance_patches.OperationCFG(TONES)),
]  # fmt: skip
INPUTS: dict[str, list[str]] = {
    "ModelSamplingDiscrete": ["model", "sampling", "zsnr"],
    "ModelSamplingContinuousEDM": ["model", "sampling", "sigma_max", "sigma_min"],
    "RescaleCFG": ["model", "multiplier"],
    "FreeU": ["model", "b1", "b2", "s1", "s2"],
    "FreeU_V2": ["model", "b1", "b2", "s1", "s2"],
    "PatchModelAddDownscale": ["model", "block_number", "downscale_factor", "start_percent", "end_percent",
                               "downscale_after_skip", "downscale_method", "upscale_method"],
    "HyperTile": ["model", "tile_size", "swap_size", "max_depth", "scale_depth"],
    "TomePatchModel": ["model", "ratio"],
    "PerturbedAttentionGuidance": ["model", "scale"],
    "SelfAttentionGuidance": ["model", "scale", "blur_sigma"],
    "DifferentialDiffusion": ["model", "strength"],
    "PerpNeg": ["model", "empty_conditioning", "neg_scale"],
    "CFGZeroStar": ["model"],
    "CFGNorm": ["model", "strength"],
    "TCFG": ["model"],
    "APG": ["model", "eta", "norm_threshold", "momentum"],
    "LatentApplyOperationCFG": ["model", "operation"],
    "ModelComputeDtype": ["model", "dtype"],
}  # fmt: skip


def name(function: Any) -> str:
    return getattr(function, "__name__", "")


def patched(function: Callable[..., Any], **inputs: Any) -> ModelValue:
    found = function(model=MODEL, **inputs)
    return found if isinstance(found, ModelValue) else found.patched_model


@pytest.mark.parametrize(("function", "given", "expected"), DEFAULTS, ids=name)
def test_a_node_adds_its_patch_last(function: Callable[..., Any], given: dict[str, Any], expected: Any) -> None:
    before = MODEL.patches
    found = patched(function, **given)
    assert found.unet is MODEL.unet and found.patches == (*before, expected)
    assert MODEL.patches is before and len(before) == 1


@pytest.mark.parametrize(("function", "given", "expected"), DEFAULTS, ids=name)
def test_a_patched_model_is_stored_and_read_unchanged(
    function: Callable[..., Any], given: dict[str, Any], expected: Any
) -> None:
    structure, tensors = encode(patched(function, **given))
    found = decode(structure, tensors, ["nodes"])
    assert encode(found)[0] == structure and found.unet == MODEL.unet
    assert function is patches.perp_neg or found.patches == (*MODEL.patches, expected)


def test_the_nodes_have_comfyuis_names_and_inputs() -> None:
    functions = [*(function for function, _, _ in DEFAULTS), patches.compute_dtype]
    specs: list[NodeSpec] = [getattr(function, NODE_ATTRIBUTE) for function in functions]
    assert {spec.name: [item.name for item in spec.inputs] for spec in specs} == INPUTS
    assert {spec.outputs[0].port for spec in specs} == {"MODEL"}
    named = {spec.name for spec in specs if spec.outputs[0].name == "patched_model"}
    assert named == {"CFGZeroStar", "CFGNorm", "TCFG"}


@pytest.mark.parametrize(("chosen", "prediction"), [
    ("eps", "eps"), ("v_prediction", "v"), ("lcm", "lcm"), ("x0", "x0"), ("img_to_img", "image"),
])  # fmt: skip
def test_predictions_are_chosen_by_comfyuis_names(chosen: str, prediction: str) -> None:
    found = patched(patches.sampling_discrete, sampling=chosen, zsnr=True).patches[-1]
    assert (found.prediction, found.zero_snr) == (prediction, True)


def test_a_continuous_model_that_is_not_supported_is_a_problem() -> None:
    spec: NodeSpec = getattr(patches.sampling_continuous, NODE_ATTRIBUTE)
    check = spec.check
    assert check is not None and not list(check(sampling="edm"))
    (problem,) = check(sampling="cosmos_rflow")
    assert problem == (
        "sampling 'cosmos_rflow' is for models that are not supported; expected one of v_prediction, edm, eps"
    )
    for low, high in ((0.0, 1.0), (2.0, 1.0)):
        (problem,) = check(sampling="eps", sigma_min=low, sigma_max=high)
        assert str(problem).endswith("expected 0 < min < max")


def test_a_model_is_held_in_the_number_format_chosen() -> None:
    for chosen, dtype in (("default", "auto"), ("fp32", "fp32"), ("fp16", "fp16"), ("bf16", "bf16")):
        found = patches.compute_dtype(model=MODEL, dtype=chosen)
        assert found.unet.dtype == dtype and found.patches == MODEL.patches
        assert found.unet.fingerprint == MODEL.unet.fingerprint
    assert MODEL.unet.dtype == "auto"
