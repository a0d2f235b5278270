"""The node KSampler: its interface is ComfyUI's, and its file imports no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from nodegraph.spec import NODE_ATTRIBUTE, NodeSpec
from nodes.diffusion import names
from nodes.sampling import ksampler

SPEC: NodeSpec = getattr(ksampler, NODE_ATTRIBUTE)


def test_ksampler_has_comfyuis_inputs_in_order() -> None:
    assert SPEC.name == "KSampler" and SPEC.category == "sampling"
    assert [(item.name, item.port) for item in SPEC.inputs] == [
        ("model", "MODEL"), ("seed", "INT"), ("steps", "INT"), ("cfg", "FLOAT"), ("sampler_name", "COMBO"),
        ("scheduler", "COMBO"), ("positive", "CONDITIONING"), ("negative", "CONDITIONING"), ("latent_image", "LATENT"),
        ("denoise", "FLOAT"),
    ]  # fmt: skip
    assert [output.port for output in SPEC.outputs] == ["LATENT"]


def test_ksampler_has_comfyuis_defaults() -> None:
    defaults = {item.name: item.default for item in SPEC.inputs if not item.is_required}
    assert defaults == {
        "seed": 0, "steps": 20, "cfg": 8.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("seed", [0, 2**64 - 1], [-1, 2**64]),
        ("steps", [1, 10000], [0, 10001]),
        ("cfg", [0.0, 100.0], [-0.1, 100.5]),
        ("denoise", [0.0, 1.0], [-0.01, 1.01]),
        ("sampler_name", list(names.SAMPLERS), ["eulr"]),
        ("scheduler", list(names.SCHEDULERS), ["karas"]),
    ],
)
def test_ksampler_takes_comfyuis_ranges(name: str, good: list[object], bad: list[object]) -> None:
    literal = TypeAdapter(SPEC.by_name[name].literal)
    assert [literal.validate_python(value) for value in good] == good
    for value in bad:
        with pytest.raises(ValidationError):
            literal.validate_python(value)


def test_importing_the_node_imports_no_torch() -> None:
    program = "import sys, nodes.sampling; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
