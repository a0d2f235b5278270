"""Node types as ComfyUI tells them: against ComfyUI's own table, and input by input."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from nodegraph.registry import Registry
from nodegraph.spec import NodeSpec, spec_of
from nodegraph.types import Each, File, FileRef, Lazy, Port, Widget
from server.object_info import FURTHEST, entry, object_info
from tests.parity.interfaces import REDUCED
from tests.parity.test_interfaces import EXCEPTIONS

THEIRS: dict[str, dict[str, Any]] = json.loads(REDUCED.read_text("utf-8"))
OURS: dict[str, NodeSpec] = dict(Registry().with_entry_points().specs)
Anything = Annotated[object, Port("*")]
Either = Annotated[object, Port("IMAGE,MASK")]
FILES = {"checkpoints": ["a.safetensors", "b.ckpt"], "input": ["cat.png"], "output": ["dog.png"]}
OPTIONAL_IN_COMFYUI = {  # with a widget and a default: a signature cannot tell them from those that are required
    ("DifferentialDiffusion", "strength"), ("RegexReplace", "case_insensitive"), ("RegexReplace", "multiline"),
    ("RegexReplace", "dotall"), ("RegexReplace", "count"), ("CLIPLoader", "device"), ("DualCLIPLoader", "device"),
}  # fmt: skip
EXCLUDED_BOUNDS = {place for place in EXCEPTIONS if place[2] == "min"} - {("LatentFromBatch", "batch_index", "min")}


def files(kind: str) -> list[str]:
    return FILES.get(kind, [])


def of(function: Callable[..., Any]) -> dict[str, Any]:
    return entry(spec_of(function, "Test"), files)


def shown(name: str) -> dict[str, list[Any]]:
    found = entry(OURS[name], files)["input"]
    return {**found["required"], **found["optional"]}


def differences(name: str) -> dict[tuple[str, str, str], str]:
    """Where what we tell of a node is unlike ComfyUI's table, by (node, input, field)."""
    info, ours = entry(OURS[name], files), shown(name)
    found: dict[tuple[str, str, str], str] = {}
    for item in THEIRS[name]["inputs"]:
        place, (kind, options) = item["name"], ours[item["name"]]
        got = {"type": "COMBO" if isinstance(kind, list) else kind, "required": place in info["input"]["required"]}
        got |= {field: options.get(field) for field in ("default", "min", "max")}
        if "options" in item and isinstance(kind, list):
            got["options"] = kind[: len(dict.fromkeys(item["options"]))]
            item = item | {"options": list(dict.fromkeys(item["options"]))}
        for field in ("type", "required", "default", "min", "max", "options"):
            wanted, given = item.get(field), got.get(field)
            if field == "default" and "default" not in item:
                continue  # told where ComfyUI tells none: the canvas would take the first option, 0 or ""
            if field in ("min", "max") and field not in item:
                assert given in (None, FURTHEST, -FURTHEST)
            elif given != wanted:
                found[name, place, field] = f"{given!r}, in ComfyUI {wanted!r}"
    return found


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_a_node_is_told_as_comfyui_tells_it(name):
    allowed = set(EXCEPTIONS) - EXCLUDED_BOUNDS | {(*place, "required") for place in OPTIONAL_IN_COMFYUI}
    assert {place: text for place, text in differences(name).items() if place not in allowed} == {}


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_the_inputs_of_a_node_come_in_the_order_of_comfyui(name):
    order = entry(OURS[name], files)["input_order"]
    theirs = THEIRS[name]["inputs"]
    names = [item["name"] for item in theirs if item["required"]]
    names += [item["name"] for item in theirs if not item["required"]]
    widgets = [item for item in [*order["required"], *order["optional"]] if item in names]
    assert widgets == names


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_the_outputs_of_a_node_are_those_of_comfyui(name):
    info = entry(OURS[name], files)
    outputs = zip(info["output_name"], info["output"], info["output_is_list"], strict=True)
    if (name, "", "outputs") not in EXCEPTIONS:
        assert [list(output) for output in outputs] == THEIRS[name]["outputs"]


def test_every_difference_allowed_is_there():
    found = {place for name in THEIRS for place in differences(name)}
    assert {(*place, "required") for place in OPTIONAL_IN_COMFYUI} <= found
    assert EXCLUDED_BOUNDS.isdisjoint(found)


def test_all_node_types_are_told_as_json_and_each_kind_of_file_is_listed_once():
    asked: list[str] = []

    def names(kind: str) -> list[str]:
        asked.append(kind)
        return files(kind)

    found = object_info(OURS.values(), names)
    assert list(found) == [name for name in OURS if name != "Reroute"]  # the frontend has one of its own
    assert sorted(asked) == sorted(set(asked))
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_node_has_every_field_that_the_frontend_reads():
    found = entry(OURS["KSampler"], files)
    assert found["input_order"]["required"][:10] == [
        "model", "seed", "steps", "cfg", "sampler_name", "scheduler", "positive", "negative", "latent_image", "denoise",
    ]  # fmt: skip
    assert found["input_order"]["hidden"] == []
    assert (found["output"], found["output_name"], found["output_is_list"]) == (["LATENT"], ["LATENT"], [False])
    assert (found["name"], found["display_name"]) == ("KSampler", "KSampler")
    assert (found["category"], found["output_node"], found["python_module"]) == ("sampling", False, "nodes")
    assert found["description"].startswith(OURS["KSampler"].doc.split(".")[0])


def test_a_seed_is_told_whole_and_offers_to_change_after_each_run():
    kind, options = shown("KSampler")["seed"]
    assert (kind, options["control_after_generate"], options["max"]) == ("INT", True, 2**64 - 1)


def test_a_number_has_its_step_and_rounding():
    assert shown("KSampler")["cfg"][1].items() >= {"min": 0.0, "max": 100.0, "step": 0.1, "round": 0.01}.items()


def test_a_prompt_is_edited_in_lines_with_dynamic_prompts():
    kind, options = shown("CLIPTextEncode")["text"]
    assert (kind, options["multiline"], options["dynamicPrompts"]) == ("STRING", True, True)


def test_a_checkpoint_is_chosen_among_the_files():
    assert shown("CheckpointLoaderSimple")["ckpt_name"][0] == FILES["checkpoints"]


def test_a_picture_is_uploaded_to_the_folder_that_its_node_reads():
    kind, options = shown("LoadImage")["image"]
    assert (kind, options["image_upload"], "image_folder" in options) == (FILES["input"], True, False)
    kind, options = shown("LoadImageOutput")["image"]
    assert (kind, options["image_folder"]) == (FILES["output"], "output")


def test_a_node_that_saves_is_an_output_node():
    assert entry(OURS["SaveImage"], files)["output_node"] is True


def test_an_input_with_a_default_that_only_links_fit_is_optional():
    def link(*, mask: Annotated[Any, Port("MASK")] = None, text: Annotated[str, Port("STRING")] | None = None) -> int:
        return 0

    assert of(link)["input"]["required"] == {}
    assert of(link)["input"]["optional"] == {"mask": ["MASK", {}], "text": ["STRING", {"forceInput": True}]}


def test_an_input_that_may_be_empty_is_optional_and_a_socket():
    def node(*, steps: int | None = None) -> int:
        return 0

    assert of(node)["input"]["optional"] == {"steps": ["INT", {"forceInput": True}]}


def test_an_input_with_a_widget_and_a_default_is_required():
    def node(*, name: str = "x", flag: Annotated[bool, Widget(label_on="yes", label_off="no")] = False) -> int:
        return 0

    required = of(node)["input"]["required"]
    assert required == {
        "name": ["STRING", {"default": "x"}],
        "flag": ["BOOLEAN", {"label_on": "yes", "label_off": "no", "default": False}],
    }


def test_a_number_without_limits_is_not_clamped_by_the_canvas():
    def node(*, low: int, high: Annotated[float, Field(gt=0)] = 1.0) -> int:
        return 0

    required = of(node)["input"]["required"]
    assert required["low"] == ["INT", {"min": -FURTHEST, "max": FURTHEST}]
    assert required["high"] == ["FLOAT", {"min": 0, "max": FURTHEST, "default": 1.0}]


def test_a_default_finer_than_the_step_is_not_rounded_away():
    def node(
        *, sigma: Annotated[float, Widget(step=0.01)] = 14.614642, tiny: float = 1e-7, half: float = 0.5, cfg: float = 8
    ) -> int:
        return 0

    rounds = {name: options.get("round") for name, (_, options) in of(node)["input"]["required"].items()}
    assert rounds == {"sigma": 1e-6, "tiny": 1e-7, "half": None, "cfg": None}


def test_multiples_are_the_step_of_the_canvas():
    def node(*, width: Annotated[int, Field(ge=16, le=64, multiple_of=8)] = 16) -> int:
        return 0

    assert of(node)["input"]["required"]["width"][1] == {"min": 16, "max": 64, "step": 8, "default": 16}


def test_any_unions_choices_files_and_lists_are_told_as_comfyui_writes_them():
    def node(
        *, a: Any, b: Anything, c: Either, mode: Literal["one", "two"] = "two", file: Annotated[FileRef, File("loras")]
    ) -> Each[Annotated[object, Port("IMAGE")]]:
        return Each()

    found = of(node)
    required = found["input"]["required"]
    assert [required[name][0] for name in ("a", "b", "c")] == ["*", "*", "IMAGE,MASK"]
    assert required["mode"] == [["one", "two"], {"default": "two"}]
    assert required["file"] == [[], {}]
    assert found["output_is_list"] == [True]


def test_a_lazy_input_says_so_and_its_docstring_is_the_tooltip():
    async def node(*, value: Lazy[Any]) -> Any:
        """Forward it.

        Args:
            value: What to forward.
        """
        return value

    assert of(node)["input"]["required"] == {"value": ["*", {"lazy": True, "tooltip": "What to forward."}]}
    assert of(node)["description"] == "Forward it."


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("nodes.image", "nodes"),
        ("my_pack.nodes.blur", "custom_nodes.my_pack"),
        ("nodegraph_user_0a1b2c3d4e5f_blur", "custom_nodes.blur"),
        ("", "custom_nodes.workflows"),
    ],
)
def test_a_node_is_told_by_the_pack_it_comes_from(module, told):
    def node() -> int:
        return 0

    assert entry(replace(spec_of(node, "Test"), module=module), files)["python_module"] == told
