"""What is wrong with a submitted graph, as ComfyUI's clients read it; the problems are those of the real planner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import pytest

from nodegraph.errors import Kind, Problem, WorkflowError
from nodegraph.files import Folders
from nodegraph.graph import Graph
from nodegraph.plan import Planner
from nodegraph.registry import Registry
from nodegraph.spec import NODE_ATTRIBUTE, node
from nodegraph.types import File, FileRef, Port
from nodegraph.workflow import Workflow
from server.comfy_errors import LINES, OUTPUTS_SHOWN, Submission, no_prompt, node_errors, prompt_error, sound_outputs
from server.prompt_graph import sinks_of
from tests.nodegraph.trivial import REGISTRY, n


@node("Load", category="t")
def load(*, name: Annotated[FileRef, File("loras")]) -> Annotated[object, Port("MODEL")]: ...


@node("Use", category="t", kind="sink")
def use(*, model: Annotated[object, Port("MODEL")], at: int = 0) -> None: ...


@node("Checked", category="t", check=lambda *, a=0, b=0: ["a must be below b"] if a >= b else [])
def checked(*, a: int, b: int) -> int: ...


NODES = REGISTRY.with_specs([getattr(each, NODE_ATTRIBUTE) for each in (load, use, checked)])
BUILT_IN = Registry().with_entry_points()


def submitted(graph: Any, registry: Registry = NODES, names: tuple[str, ...] = ()) -> Submission:
    return Submission(graph, sinks_of(graph, registry.get), registry.get, lambda kind: list(names))


def problems_of(graph: Any, home: Path = Path("/nowhere"), registry: Registry = NODES) -> tuple[Problem, ...]:
    """What the planner finds."""
    try:
        Planner(registry, Folders.of(home)).plan(Graph.of(Workflow.of(graph)))
    except WorkflowError as error:
        return error.problems
    return ()


def refused(graph: Any, registry: Registry = NODES, names: tuple[str, ...] = ()) -> dict[str, Any]:
    """The body of the answer."""
    problems = problems_of(graph, registry=registry)
    assert problems
    body = prompt_error(problems, submitted(graph, registry, names))
    assert set(body) == {"error", "node_errors"}
    assert set(body["error"]) == {"type", "message", "details", "extra_info"}
    for found in body["node_errors"].values():
        assert set(found) == {"errors", "dependent_outputs", "class_type"}
        assert all(set(error) == {"type", "message", "details", "extra_info"} for error in found["errors"])
    return json.loads(json.dumps(body))


def only_error(graph: Any, node: str = "1", **options: Any) -> dict[str, Any]:
    """The one error of a node."""
    body = refused(graph, **options)
    assert body["error"]["type"] == "prompt_outputs_failed_validation"
    assert list(body["node_errors"]) == [node]
    (error,) = body["node_errors"][node]["errors"]
    return error


def test_a_missing_input_is_named():
    error = only_error({"1": n("Add"), "2": n("Show", value=("1", 0))})
    assert (error["type"], error["message"]) == ("required_input_missing", "Required input is missing")
    assert error["details"] == "a: is missing; expected a value of type INT"
    assert error["extra_info"] == {"input_name": "a"}


def test_a_value_out_of_range_names_the_bound():
    graph = {"1": n("KSampler", **{**SAMPLER, "steps": 0, "denoise": 2.5}), "2": n("PreviewAny", source=("1", 0))}
    body = refused({**graph, **LOADERS}, BUILT_IN)
    small, big = body["node_errors"]["1"]["errors"]
    assert (small["type"], small["message"]) == ("value_smaller_than_min", "Value 0 smaller than min of 1")
    assert small["details"].startswith("steps: 0 is out of range; expected a whole number from 1")
    assert small["extra_info"]["received_value"] == 0
    assert small["extra_info"]["input_config"][0] == "INT"
    assert small["extra_info"]["input_config"][1]["min"] == 1
    assert (big["type"], big["message"]) == ("value_bigger_than_max", "Value 2.5 bigger than max of 1.0")


def test_a_bound_that_is_itself_excluded_is_told_in_words():
    graph = {"1": n("KarrasScheduler", sigma_max=0.0), "2": n("PreviewAny", source=("1", 0))}
    error = only_error(graph, registry=BUILT_IN)
    assert error["type"] == "value_smaller_than_min"
    assert error["message"] == "Value 0.0 is out of range"
    assert "above 0" in error["details"]


def test_a_value_of_the_wrong_type_is_told_with_what_it_should_be():
    error = only_error({"1": n("Add", a="abc"), "2": n("Show", value=("1", 0))})
    assert (error["type"], error["message"]) == (
        "invalid_input_type", "Failed to convert an input value to a INT value",
    )  # fmt: skip
    assert error["details"] == "a: 'abc' is of the wrong type; expected a whole number"
    assert error["extra_info"]["received_value"] == "abc"
    assert error["extra_info"]["exception_message"] == "'abc' is of the wrong type"


def test_an_unknown_choice_is_told_with_the_list_and_the_nearest():
    error = only_error({"1": n("Pick", a=1, b=2, mode="lft"), "2": n("Show", value=("1", 0))})
    assert (error["type"], error["message"]) == ("value_not_in_list", "Value not in list")
    assert error["details"] == "mode: 'lft' not in ['left', 'right', 'middle']; did you mean 'left'?"
    assert error["extra_info"]["input_config"] == [["left", "right", "middle"], {"default": "left"}]


def test_of_a_long_list_only_the_length_is_told():
    body = refused({"1": n("KSampler", **{**SAMPLER, "sampler_name": "eulr"}), **LOADERS,
                    "2": n("PreviewAny", source=("1", 0))}, BUILT_IN)  # fmt: skip
    (error,) = body["node_errors"]["1"]["errors"]
    assert error["details"].startswith("sampler_name: 'eulr' not in (list of length ")
    assert error["details"].endswith("did you mean 'euler'?")
    assert error["extra_info"] == {"input_name": "sampler_name", "input_config": None, "received_value": "eulr"}


def test_a_missing_file_is_no_entry_of_the_list_of_files():
    graph = {"1": n("Load", name="cat.safetensors"), "2": n("Use", model=("1", 0))}
    error = only_error(graph, names=("dog.safetensors",))
    assert error["type"] == "value_not_in_list"
    assert error["details"].startswith("name: 'cat.safetensors' not in ['dog.safetensors']; ")


def test_files_are_listed_once_for_all_errors():
    asked: list[str] = []
    graph = {str(index): n("Load", name="x.safetensors") for index in range(50)}
    graph |= {f"s{index}": n("Use", model=(str(index), 0)) for index in range(50)}

    def names(kind: str) -> list[str]:
        asked.append(kind)
        return []

    prompt_error(problems_of(graph), submitted(graph)._replace(files=names))
    assert asked == ["loras"]


def test_a_link_of_the_wrong_type_names_both_types():
    error = only_error({"1": n("Use", model=("2", 0)), "2": n("Const")})
    assert (error["type"], error["message"]) == ("return_type_mismatch", "Return type mismatch between linked nodes")
    assert error["details"] == (
        "model, received_type(INT) mismatch input_type(MODEL); link it to a node that gives MODEL"
    )
    assert error["extra_info"] == {
        "input_name": "model", "input_config": ["MODEL", {}], "received_type": "INT", "linked_node": ["2", 0],
    }  # fmt: skip


def test_models_of_two_families_are_no_mismatch_of_types():
    graph = {"1": n("Use", model=("2", 0)), "2": n("Load", name="x")}
    what = "model is of SDXL (from node 2) but clip of SD1 (from node 3)"
    problem = Problem(what, "1", "Use", "model", "both of one family", None, "return_type_mismatch")
    (error,) = node_errors([problem], submitted(graph))["1"]["errors"]
    assert error["message"] == "Values of different model families meet"
    assert error["details"] == f"model: {what}; expected both of one family"


def test_a_link_to_a_node_that_is_not_there_is_named():
    error = only_error({"1": n("Show", value=("9", 0))})
    assert (error["type"], error["message"]) == ("bad_linked_input", "Bad linked input")
    assert error["details"].startswith("value: links to node '9', which does not exist; expected a link to a node")
    assert error["extra_info"]["received_value"] == ["9", 0]


def test_a_list_that_is_no_link_is_a_bad_link():
    error = only_error({"1": n("Add", a=["1", 0, 0]), "2": n("Show", value=("1", 0))})
    assert error["type"] == "bad_linked_input"
    assert error["message"] == "Bad linked input, must be a length-2 list of [node_id, slot_index]"
    error = only_error({"1": n("Use", model="x")})
    assert (error["type"], error["extra_info"]["received_value"]) == ("bad_linked_input", "x")
    assert error["message"] == "Bad linked input, must be a length-2 list of [node_id, slot_index]"


def test_the_check_of_a_node_and_a_misspelt_input_are_custom_validation():
    error = only_error({"1": n("Checked", a=3, b=2), "2": n("Show", value=("1", 0))})
    assert (error["type"], error["message"]) == (
        "custom_validation_failed", "Custom validation failed for node",
    )  # fmt: skip
    assert (error["details"], error["extra_info"]) == ("a must be below b", {})
    error = only_error({"1": n("SaveText", value=1, prefx="a")})
    assert (error["type"], error["details"]) == (
        "custom_validation_failed", "prefx - is not an input; did you mean 'prefix'?",
    )  # fmt: skip
    assert error["extra_info"]["received_value"] == "a"


def test_a_circle_is_shown():
    graph = {"1": n("Add", a=("2", 0)), "2": n("Add", a=("1", 0)), "3": n("Show", value=("1", 0))}
    body = refused(graph)
    ((name, found),) = body["node_errors"].items()
    assert found["dependent_outputs"] == ["3"]
    assert found["errors"][0]["type"] == "dependency_cycle"
    assert "1 -> 2 -> 1" in found["errors"][0]["details"] or "2 -> 1 -> 2" in found["errors"][0]["details"]
    assert "form a circle" in body["error"]["details"]
    assert name in graph


def test_an_unknown_node_type_is_refused_as_comfyui_does_with_the_nearest():
    graph = {"3": {**n("Shaw", value=("1", 0)), "_meta": {"title": "See"}}, "1": n("Const")}
    body = refused(graph)
    error = body["error"]
    assert (error["type"], error["message"]) == ("invalid_prompt", "Cannot execute because node Shaw does not exist.")
    assert error["details"].startswith("Node ID '#3'\n")
    assert "did you mean 'Show'?" in error["details"]
    assert error["extra_info"] == {"node_id": "3", "class_type": "Shaw", "node_title": "See"}


def test_a_node_without_a_type_is_refused_as_comfyui_does():
    body = refused({"1": {"inputs": {}}})
    assert body["error"]["type"] == "invalid_prompt"
    assert body["error"]["message"] == "Cannot execute because a node is missing the class_type property."
    assert body["error"]["details"].startswith("Node ID '#1'\n")


def test_a_graph_without_outputs_is_refused_as_comfyui_does():
    body = refused({"1": n("Const")})
    assert (body["error"]["type"], body["error"]["message"]) == ("prompt_no_outputs", "Prompt has no outputs")
    assert "add a SaveImage" in body["error"]["details"]
    assert body["node_errors"] == {}


@pytest.mark.parametrize("graph", [[], "x", 3, {"1": "not a node"}, {"nodes": [], "links": []}])
def test_what_is_no_workflow_is_refused_in_words(graph):
    nodes: Any = graph if isinstance(graph, dict) else {}
    body = prompt_error(problems_of(graph), submitted(nodes))
    assert body["error"]["type"] == "invalid_prompt"
    assert body["error"]["details"]


def test_no_prompt_has_a_body_of_its_own():
    assert no_prompt() == {
        "error": {"type": "no_prompt", "message": "No prompt provided", "details": "No prompt provided",
                  "extra_info": {}},
        "node_errors": {},
    }  # fmt: skip


def test_errors_come_in_the_order_of_the_document():
    names = ["9", "10", "2", "b", "a", "1"]
    graph = {name: n("Add") for name in names} | {f"s{name}": n("Show", value=(name, 0)) for name in reversed(names)}
    body = refused(graph)
    assert list(body["node_errors"]) == names
    assert [line.split()[1] for line in body["error"]["details"].splitlines()] == names
    assert [found["dependent_outputs"] for found in body["node_errors"].values()] == [[f"s{name}"] for name in names]


def test_an_answer_to_a_large_graph_stays_linear():
    count = 2000
    graph = {str(index): n("Add", b=(str(index - 1), 0)) if index else n("Add") for index in range(count)}
    graph |= {f"s{index}": n("Show", value=(str(index), 0)) for index in range(count)}
    body = refused(graph)
    assert len(body["node_errors"]) == count
    assert max(len(found["dependent_outputs"]) for found in body["node_errors"].values()) == OUTPUTS_SHOWN
    assert body["error"]["details"].splitlines()[-1] == f"and {count - LINES} more"


def test_outputs_that_need_no_faulty_node_are_sound():
    graph = {
        "1": n("Const"), "2": n("Add"), "3": n("Show", value=("1", 0)), "4": n("Show", value=("2", 0)),
        "5": n("Mul", a=("1", 0), b=("2", 0)), "6": n("Show", value=("5", 0)), "7": n("Show", value=1),
    }  # fmt: skip
    problems = problems_of(graph)
    assert sound_outputs(problems, graph, ["7", "6", "4", "3"]) == ["7", "3"]
    assert node_errors(problems, submitted(graph))["2"]["dependent_outputs"] == ["4", "6"]
    Planner(NODES, Folders.of(Path("/nowhere"))).plan(Graph.of(Workflow.of(graph)), ["7", "3"])


def test_no_output_is_sound_where_the_whole_is_wrong_or_a_type_is_missing():
    graph = {"1": n("Show", value=1), "2": n("Show", value=("3", 0)), "3": n("NoSuchNode")}
    assert sound_outputs(problems_of(graph), graph, ["1", "2"]) == []
    assert sound_outputs([Problem("it is wrong")], graph, ["1", "2"]) == []
    assert sound_outputs([], graph, ["1", "2"]) == ["1", "2"]


def test_outputs_that_need_a_circle_are_not_sound():
    graph = {
        "1": n("Add", a=("2", 0)), "2": n("Add", a=("1", 0)), "3": n("Show", value=("2", 0)), "4": n("Show", value=1),
        "5": n("Show", value=("1", 0)),
    }  # fmt: skip
    assert sound_outputs(problems_of(graph), graph, ["3", "4", "5"]) == ["4"]


def test_a_problem_inside_a_workflow_node_counts_for_the_node_around_it():
    graph = {"1": n("workflow:blur"), "2": n("Show", value=("1", 0)), "3": n("Show", value=1)}
    problem = Problem("is missing", "1:4", "Add", "a", "a value of type INT", None, "required_input_missing")
    found = node_errors([problem], submitted(graph)._replace(sinks=["2", "3"]))
    assert found["1:4"]["dependent_outputs"] == ["2"]
    assert found["1:4"]["class_type"] == "Add"
    assert sound_outputs([problem], graph, ["2", "3"]) == ["3"]


def test_a_workflow_that_is_not_there_is_refused_as_an_unknown_node():
    graph = {"1": n("workflow:blur"), "2": n("Show", value=("1", 0))}
    problem = Problem("'blur' is not among the workflows", "1", "workflow:blur", kind=Kind.MISSING_NODE)
    body = prompt_error([problem], submitted(graph))
    assert body["error"]["message"] == "Cannot execute because node workflow:blur does not exist."


def test_a_huge_value_is_shortened_in_the_text():
    graph = {"1": n("Pick", a=1, b=2, mode="x" * 5000), "2": n("Show", value=("1", 0))}
    assert len(only_error(graph)["details"]) < 400


LOADERS = {
    "m": n("CheckpointLoaderSimple", ckpt_name="x.safetensors"), "l": n("EmptyLatentImage"),
    "p": n("CLIPTextEncode", clip=("m", 1), text="a"),
}  # fmt: skip
SAMPLER = {"model": ("m", 0), "positive": ("p", 0), "negative": ("p", 0), "latent_image": ("l", 0)}
