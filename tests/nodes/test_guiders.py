"""Guiders are prompts by side and scales; nothing is computed until something samples."""

from __future__ import annotations

import subprocess
import sys

import torch

from nodegraph.codec import decode, encode
from nodegraph.spec import NODE_ATTRIBUTE, NodeSpec
from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.checkpoints import Part
from nodes.diffusion.guidance_patches import CFGNorm
from nodes.guiders import basic_guider, dual_cfg_guider, make_cfg_guider, perp_neg_guider
from nodes.types import Cond, GuiderValue, ModelValue

CONFIG = UNetConfig(
    in_channels=4, out_channels=4, model_channels=32, channel_mult=(1,), num_res_blocks=(1,), transformer_depth=(1,),
    middle_depth=1, context_dim=8, num_heads=8, head_channels=None, use_linear=False,
)  # fmt: skip
MODEL = ModelValue(Part("a.safetensors", "d", "unet", "sd1", CONFIG), (CFGNorm(0.5),))
A, B, C = ((Cond(torch.full((1, 77, 8), float(i))),) for i in range(3))
MADE: dict[str, GuiderValue] = {
    "basic": basic_guider(model=MODEL, conditioning=A),
    "cfg": make_cfg_guider(model=MODEL, positive=A, negative=B, cfg=3.0),
    "dual": dual_cfg_guider(model=MODEL, cond1=A, cond2=B, negative=C, cfg_conds=3.0, cfg_cond2_negative=4.0),
    "dual_nested": dual_cfg_guider(
        model=MODEL, cond1=A, cond2=B, negative=C, cfg_conds=3.0, cfg_cond2_negative=4.0, style="nested"
    ),
    "perp_neg": perp_neg_guider(model=MODEL, positive=A, negative=B, empty_conditioning=C, cfg=3.0, neg_scale=2.0),
}


def test_each_guider_says_which_prompts_it_joins_and_how() -> None:
    assert [value.kind for value in MADE.values()] == list(MADE)
    assert all(value.model is MODEL for value in MADE.values())
    assert MADE["basic"].prompts == {"positive": A} and MADE["basic"].scales == ()
    assert MADE["cfg"].prompts == {"positive": A, "negative": B} and MADE["cfg"].scales == (3.0,)
    for kind in ("dual", "dual_nested"):
        assert MADE[kind].prompts == {"positive": A, "middle": B, "negative": C} and MADE[kind].scales == (3.0, 4.0)
    assert MADE["perp_neg"].prompts == {"positive": A, "negative": B, "empty": C}
    assert MADE["perp_neg"].scales == (3.0, 2.0)


def test_guiders_are_stored_and_read_unchanged() -> None:
    for value in MADE.values():
        structure, tensors = encode(value)
        found = decode(structure, tensors, ["nodes"])
        assert found.model == MODEL and found.kind == value.kind and found.scales == value.scales
        for side, conds in value.prompts.items():
            assert torch.equal(found.prompts[side][0].tokens, conds[0].tokens)


def test_the_nodes_have_comfyuis_inputs_and_defaults() -> None:
    functions = (basic_guider, make_cfg_guider, dual_cfg_guider, perp_neg_guider)
    specs: list[NodeSpec] = [getattr(function, NODE_ATTRIBUTE) for function in functions]
    assert {spec.name: [item.name for item in spec.inputs] for spec in specs} == {
        "BasicGuider": ["model", "conditioning"],
        "CFGGuider": ["model", "positive", "negative", "cfg"],
        "DualCFGGuider": ["model", "cond1", "cond2", "negative", "cfg_conds", "cfg_cond2_negative", "style"],
        "PerpNegGuider": ["model", "positive", "negative", "empty_conditioning", "cfg", "neg_scale"],
    }
    assert {spec.outputs[0].port for spec in specs} == {"GUIDER"}
    assert specs[3].by_name["neg_scale"].default == 1.0 and specs[2].by_name["cfg_cond2_negative"].default == 8.0
    assert specs[2].by_name["style"].choices == ("regular", "nested")


def test_importing_the_nodes_of_sampling_imports_no_torch() -> None:
    files = "guiders, noise, samplers, sigmas, model_patches, sampling"
    program = f"import sys; from nodes import {files}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
