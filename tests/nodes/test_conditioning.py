"""Conditioning nodes: combining prompts, and the options that say where and when they apply."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from nodegraph.codec import decode, encode
from nodegraph.memory import nbytes, tensors
from nodegraph.spec import MISSING, NODE_ATTRIBUTE
from nodes import conditioning as nodes
from nodes.types import Cond

INTERFACES = {
    nodes.combine: {"conditioning_1": MISSING, "conditioning_2": MISSING},
    nodes.average: {"conditioning_to": MISSING, "conditioning_from": MISSING, "conditioning_to_strength": 1.0},
    nodes.concat: {"conditioning_to": MISSING, "conditioning_from": MISSING},
    nodes.set_area: {"conditioning": MISSING, "width": 64, "height": 64, "x": 0, "y": 0, "strength": 1.0},
    nodes.set_area_percentage: {
        "conditioning": MISSING, "width": 1.0, "height": 1.0, "x": 0.0, "y": 0.0, "strength": 1.0,
    },
    nodes.set_area_strength: {"conditioning": MISSING, "strength": 1.0},
    nodes.set_mask: {"conditioning": MISSING, "mask": MISSING, "strength": 1.0, "set_cond_area": MISSING},
    nodes.zero_out: {"conditioning": MISSING},
    nodes.set_timestep_range: {"conditioning": MISSING, "start": 0.0, "end": 1.0},
}  # fmt: skip


def cond(*rows: float, pooled: float | None = None, **options: Any) -> Cond:
    """A prompt whose token i has the value of row i in all of its 4 features."""
    tokens = torch.tensor(rows)[None, :, None].repeat(1, 1, 4)
    return Cond(tokens, None if pooled is None else torch.full((1, 2), pooled), options)


def rows(value: Cond) -> list[float]:
    return value.tokens[0, :, 0].tolist()


@pytest.mark.parametrize("function", INTERFACES, ids=lambda function: function.__name__)
def test_inputs_and_defaults_are_comfyuis(function: Any) -> None:
    spec = getattr(function, NODE_ATTRIBUTE)
    assert {item.name: item.default for item in spec.inputs} == INTERFACES[function]
    assert [output.name for output in spec.outputs] == ["CONDITIONING"]


def test_combining_keeps_all_prompts_in_order() -> None:
    one, two, three = cond(1.0), cond(2.0), cond(3.0)
    assert nodes.combine(conditioning_1=(one, two), conditioning_2=(three,)) == (one, two, three)


def test_an_average_blends_tokens_and_pooled_with_the_first_prompt() -> None:
    to, source = (cond(1.0, 3.0, pooled=1.0, strength=2.0), cond(5.0)), (cond(3.0, 5.0, pooled=3.0), cond(99.0))
    one, two = nodes.average(conditioning_to=to, conditioning_from=source, conditioning_to_strength=0.25)
    assert rows(one) == [2.5, 4.5] and one.pooled is not None and one.pooled.tolist() == [[2.5, 2.5]]
    assert one.options == {"strength": 2.0}
    assert rows(two) == [3.5] and two.pooled is not None and two.pooled.tolist() == [[3.0, 3.0]]


def test_an_average_fills_a_shorter_prompt_with_zeros_and_cuts_a_longer_one() -> None:
    (longer,) = nodes.average(
        conditioning_to=(cond(4.0, 8.0),), conditioning_from=(cond(2.0),), conditioning_to_strength=0.5
    )
    (shorter,) = nodes.average(
        conditioning_to=(cond(4.0, pooled=1.0),), conditioning_from=(cond(2.0, 6.0),), conditioning_to_strength=0.5
    )
    assert rows(longer) == [3.0, 4.0] and longer.pooled is None
    assert rows(shorter) == [3.0] and shorter.pooled is not None and shorter.pooled.tolist() == [[1.0, 1.0]]


def test_concatenating_adds_the_tokens_of_the_first_prompt() -> None:
    to, source = (cond(1.0, pooled=7.0), cond(2.0)), (cond(3.0, 4.0, pooled=9.0), cond(99.0))
    one, two = nodes.concat(conditioning_to=to, conditioning_from=source)
    assert (rows(one), rows(two)) == ([1.0, 3.0, 4.0], [2.0, 3.0, 4.0])
    assert one.pooled is to[0].pooled and two.pooled is None


@pytest.mark.parametrize("blend", [nodes.average, nodes.concat])
def test_prompts_of_other_models_and_empty_ones_are_refused(blend: Any) -> None:
    wide = (Cond(torch.zeros(1, 2, 8)),)
    with pytest.raises(ValueError, match="4 and 8 features; encode both with the CLIP of one model"):
        blend(conditioning_to=(cond(1.0),), conditioning_from=wide)
    with pytest.raises(ValueError, match="conditioning_from is empty"):
        blend(conditioning_to=(cond(1.0),), conditioning_from=())


def test_an_area_is_told_in_latent_pixels_or_fractions() -> None:
    (area,) = nodes.set_area(conditioning=(cond(1.0),), width=512, height=260, x=64, y=15, strength=0.5)
    assert area.options == {"area": (32, 64, 1, 8), "strength": 0.5, "set_area_to_bounds": False}
    (part,) = nodes.set_area_percentage(conditioning=(cond(1.0),), width=0.5, height=0.25, x=0.1, y=0.2, strength=2.0)
    assert part.options == {
        "area": ("percentage", 0.25, 0.5, 0.2, 0.1), "strength": 2.0, "set_area_to_bounds": False,
    }  # fmt: skip


def test_options_are_added_to_every_prompt_and_leave_the_others() -> None:
    before = (cond(1.0, width=512), cond(2.0, strength=3.0))
    after = nodes.set_area_strength(conditioning=before, strength=0.5)
    assert [each.options for each in after] == [{"width": 512, "strength": 0.5}, {"strength": 0.5}]
    assert [each.options for each in before] == [{"width": 512}, {"strength": 3.0}]


@pytest.mark.parametrize(("choice", "is_bound"), [("default", False), ("mask bounds", True)])
def test_a_mask_is_kept_as_a_batch(choice: Any, is_bound: bool) -> None:
    mask = torch.rand(8, 6)
    (one,) = nodes.set_mask(conditioning=(cond(1.0),), mask=mask, strength=0.7, set_cond_area=choice)
    assert torch.equal(one.options.pop("mask"), mask[None])
    assert one.options == {"mask_strength": 0.7, "set_area_to_bounds": is_bound}
    (batch,) = nodes.set_mask(conditioning=(cond(1.0),), mask=mask[None], strength=1.0, set_cond_area=choice)
    assert batch.options["mask"].shape == (1, 8, 6)


def test_zeroing_out_keeps_shapes_and_options() -> None:
    one, two = nodes.zero_out(conditioning=(cond(1.0, 2.0, pooled=3.0, width=8), cond(4.0)))
    assert rows(one) == [0.0, 0.0] and one.pooled is not None and one.pooled.tolist() == [[0.0, 0.0]]
    assert one.options == {"width": 8} and rows(two) == [0.0] and two.pooled is None


def test_a_range_of_time_is_an_option() -> None:
    (one,) = nodes.set_timestep_range(conditioning=(cond(1.0),), start=0.2, end=0.8)
    assert one.options == {"start_percent": 0.2, "end_percent": 0.8}


def test_the_cache_keeps_tensors_in_options() -> None:
    value = nodes.set_mask(
        conditioning=nodes.set_area_percentage(conditioning=(cond(1.0),)), mask=torch.rand(1, 4, 4),
        set_cond_area="default",
    )  # fmt: skip
    (again,) = decode(*encode(value), {"nodes"})
    mask = again.options.pop("mask")
    assert torch.equal(mask, value[0].options["mask"]) and len(list(tensors(value))) == 2
    assert again.options == {name: item for name, item in value[0].options.items() if name != "mask"}
    assert nbytes(value) >= mask.nbytes + again.tokens.nbytes


def test_importing_the_nodes_imports_no_torch() -> None:
    program = "import sys, nodes.conditioning, nodes.text; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
