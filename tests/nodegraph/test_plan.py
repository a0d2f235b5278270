"""All problems of a document at once, each with node, input, what was expected and the nearest fix."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest

from nodegraph.errors import FileProblem, Kind, Problem, WorkflowError
from nodegraph.files import Folders
from nodegraph.graph import Graph
from nodegraph.keys import digest
from nodegraph.plan import Plan, Planner
from nodegraph.registry import Registry
from nodegraph.spec import NODE_ATTRIBUTE, node
from nodegraph.types import File, FileRef
from nodegraph.workflow import Workflow
from tests.nodegraph.trivial import REGISTRY, n


@node("Load", category="t")
def load(*, name: Annotated[FileRef, File("loras")], again: Annotated[FileRef | None, File("loras")] = None) -> int: ...


@node("Checked", category="t", check=lambda *, a=0, b=0: ["a must be below b"] if a >= b else [])
def checked(*, a: int, b: int) -> int: ...


def _refuse(**_: Any) -> list[str]:
    raise FileProblem("the lora is broken")


@node("Refused", category="t", check=_refuse)
def refused(*, a: int = 0) -> int: ...


def _lacking(*, files: Folders, name: str, **_: Any) -> list[str | FileProblem]:
    try:
        files.find("loras", name)
    except FileProblem as error:
        return [error]
    return []


@node(
    "Named", category="t", check=_lacking,
    fingerprint=lambda *, files, name, **_: ",".join(other for other in files.names("loras") if other == name),
)  # fmt: skip
def named(*, name: str) -> int: ...


@node("OwnFiles", category="t", check=lambda *, files: [f"files is {files}"])
def own_files(*, files: int) -> int: ...


@node("Outside", category="t", fingerprint=lambda *, a: str(STATE[0] + a))
def outside(*, a: int) -> int: ...


def _crash(**_: Any) -> Any:
    raise KeyError("oops")


@node("CrashingCheck", category="t", check=_crash)
def crashing_check(*, a: int = 0) -> int: ...


@node("CrashingState", category="t", fingerprint=_crash)
def crashing_state(*, a: int = 0) -> int: ...


STATE = [0]
ALL = REGISTRY.with_specs(
    [
        getattr(each, NODE_ATTRIBUTE)
        for each in (load, checked, refused, named, own_files, outside, crashing_check, crashing_state)
    ]
)


def plan(
    document: Any, targets: list[str] | None = None, folder: Path = Path("/nowhere"), registry: Registry = ALL
) -> Plan:
    return Planner(registry, Folders.of(folder)).plan(Graph.of(Workflow.of(document)), targets)


def problems(
    document: Any, targets: list[str] | None = None, folder: Path = Path("/nowhere"), registry: Registry = ALL
) -> list[Problem]:
    with pytest.raises(WorkflowError) as error:
        plan(document, targets, folder, registry)
    return list(error.value.problems)


def only(document: Any, targets: list[str] | None = None, **how: Any) -> Problem:
    found = problems(document, targets, **how)
    assert len(found) == 1, found
    return found[0]


def test_a_sound_document_has_its_steps_upstream_first() -> None:
    found = plan(
        {"out": n("Show", value=("m", 0)), "m": n("Mul", a=("c", "INT"), b="7"), "c": n("Const"), "loose": n("Fail")}
    )
    assert found.targets == ("out",)
    assert list(found.steps) == ["c", "m", "out"]
    assert found.steps["m"].arguments == {"a": ("c", 0), "b": 7}


def test_an_unknown_node_has_its_nearest() -> None:
    found = only({"3": n("Ad", a=1)}, ["3"])
    assert (found.node, found.what, found.fix) == ("3", "no node type 'Ad' is installed", "did you mean 'Add'?")
    assert (found.kind, found.type) == (Kind.MISSING_NODE, "invalid_prompt")
    assert "install the package that has it" in (only({"3": n("Qwertyuiop")}, ["3"]).fix or "")


def test_files_that_did_not_load_are_named_beside_an_unknown_node() -> None:
    registry = Registry(ALL.specs, {"/x/nodes.py": "SyntaxError"})
    assert "these node files did not load: /x/nodes.py" in (
        only({"3": n("Qwertyuiop")}, ["3"], registry=registry).fix or ""
    )


def test_an_unknown_node_nobody_needs_is_no_problem() -> None:
    assert list(plan({"out": n("Show", value=1), "x": n("Unknown", a=("out", 0))}).steps) == ["out"]


def test_a_missing_input_says_what_it_takes() -> None:
    found = only({"3": n("Add", b=1)}, ["3"])
    assert str(found) == "node 3 (Add) a: is missing; expected a value of type INT"
    assert found.type == "required_input_missing"


def test_a_mistyped_name_of_a_missing_input_is_named() -> None:
    found = only({"3": n("Join", a="x", bb="y")}, ["3"])
    assert (found.input, found.what) == ("b", "is missing")
    found = only({"3": n("Show", vlaue=1)}, ["3"])
    assert found.fix == "'vlaue' is not an input; rename it to 'value'"


def test_a_mistyped_name_of_an_optional_input_is_a_problem_and_other_names_are_not() -> None:
    document = {"3": n("Pick", a=1, b=2, limt=4, zzzzzzz=5)}
    found = only(document, ["3"])
    assert (found.input, found.what, found.fix) == ("limt", "is not an input", "did you mean 'limit'?")


def test_a_link_of_the_wrong_type_says_what_would_fit() -> None:
    found = only({"t": n("Text"), "3": n("Add", a=("t", 0))}, ["3"])
    assert (
        str(found) == "node 3 (Add) a: gets STRING from node t (Text); expected INT; link it to a node that gives INT"
    )
    assert found.type == "return_type_mismatch"


def test_out_of_range_and_wrong_type_say_the_range() -> None:
    found = only({"3": n("Pick", a=1, b=2, limit=4000)}, ["3"])
    assert (found.what, found.expected) == ("4000 is out of range", "a whole number from -1000 up to 1000")
    assert found.type == "value_bigger_than_max"
    found = only({"3": n("Const", value="many")}, ["3"])
    assert (found.what, found.expected, found.type) == (
        "'many' is of the wrong type",
        "a whole number",
        "invalid_input_type",
    )
    assert only({"3": n("Real", value=float("nan"))}, ["3"]).input == "value"


def test_an_unknown_choice_has_its_nearest() -> None:
    found = only({"3": n("Pick", a=1, b=2, mode="midle")}, ["3"])
    assert (
        str(found)
        == "node 3 (Pick) mode: 'midle' is unknown; expected one of left, right, middle; did you mean 'middle'?"
    )
    assert found.type == "value_not_in_list"


def test_a_circle_is_shown_with_the_problems_around_it() -> None:
    found = problems({
        "a": n("Add", a=("c", 0)), "b": n("Add", a=("a", 0), b="x"), "c": n("Add", a=("b", 0)), "out": n("Show",
        value=("c", 0)),
    })  # fmt: skip
    assert [problem.type for problem in found] == ["cycle", "invalid_input_type"]
    assert found[0].what.startswith("its links form a circle: ") and found[0].what.count("->") == 3


def test_a_link_to_nowhere_has_the_nearest_node() -> None:
    found = only({"loader": n("Const"), "3": n("Add", a=("lodaer", 0))}, ["3"])
    assert str(found) == (
        "node 3 (Add) a: links to node 'lodaer', which does not exist; expected a link to a node of this workflow; "
        "did you mean 'loader'?"
    )


@pytest.mark.parametrize("slot", [2, -1, "quotientt"])
def test_a_slot_that_is_not_there_lists_those_that_are(slot: Any) -> None:
    found = only({"d": n("DivMod", a=1), "3": n("Add", a=("d", slot))}, ["3"])
    assert found.what == f"links to output {slot!r} of node d (DivMod), which it does not have"
    assert found.expected == "0 (quotient), 1 (remainder)"
    assert found.fix == ("did you mean 'quotient'?" if isinstance(slot, str) else None)


def test_a_link_to_a_node_without_outputs_is_told() -> None:
    assert (
        only({"s": n("SaveText", value=1), "3": n("Add", a=("s", 0))}, ["3"]).expected == "nothing: it has no outputs"
    )


def test_a_missing_file_is_told_as_missing(tmp_path: Path) -> None:
    (tmp_path / "models" / "loras").mkdir(parents=True)
    (tmp_path / "models" / "loras" / "detail.safetensors").write_bytes(b"x")
    found = only({"3": n("Load", name="detial.safetensors")}, ["3"], folder=tmp_path)
    assert found.what == "'detial.safetensors' is not among the loras"
    assert found.fix == "did you mean 'detail.safetensors'?"
    assert (found.kind, found.input) == (Kind.MISSING_MODEL, "name")
    outside = only({"3": n("Load", name="../../x")}, ["3"], folder=tmp_path)
    assert "is not the name of a file inside the loras folder" in outside.what
    linked = only({"t": n("Text"), "3": n("Load", name=("t", 0))}, ["3"], folder=tmp_path)
    assert "must be known before the run" in linked.what
    step = plan({"3": n("Load", name="detail.safetensors")}, ["3"], tmp_path).steps["3"]
    assert step.arguments["again"] is None and step.arguments["name"].name == "detail.safetensors"


def test_a_nodes_own_check_speaks_and_only_about_sound_inputs() -> None:
    assert only({"3": n("Checked", a=5, b=2)}, ["3"]).what == "a must be below b"
    assert only({"3": n("Checked", a="x", b=2)}, ["3"]).type == "invalid_input_type"
    assert only({"3": n("Refused")}, ["3"]).what == "the lora is broken"


def test_a_check_and_a_fingerprint_may_look_into_the_data_folders(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "loras"
    folder.mkdir(parents=True)
    before = problems({"3": n("Named", name="x.safetensors")}, ["3"], tmp_path)
    assert [(problem.kind, problem.node) for problem in before] == [(Kind.MISSING_MODEL, "3")]
    assert before[0].what.startswith("'x.safetensors' is not among the loras")
    for name in ("x.safetensors", "y.safetensors"):
        (folder / name).write_bytes(b"x")
    step = plan({"3": n("Named", name="x.safetensors")}, ["3"], tmp_path).steps["3"]
    assert step.parts[1] == digest("fingerprint", "x.safetensors")


def test_an_input_named_files_stays_the_nodes_own() -> None:
    assert only({"3": n("OwnFiles", files=7)}, ["3"]).what == "files is 7"


def test_a_check_or_fingerprint_that_crashes_is_a_problem_among_the_others() -> None:
    found = problems({"1": n("CrashingCheck"), "2": n("CrashingState"), "3": n("Const", value="x")}, ["1", "2", "3"])
    assert [problem.what for problem in found] == [
        "its check failed: KeyError('oops')", "its fingerprint failed: KeyError('oops')", "'x' is of the wrong type",
    ]  # fmt: skip


def test_outside_state_is_in_the_key_and_asked_only_of_sound_nodes() -> None:
    STATE[0] = 0
    keys = [plan({"3": n("Outside", a=1)}, ["3"]).steps["3"].key]
    STATE[0] = 5
    keys.append(plan({"3": n("Outside", a=1)}, ["3"]).steps["3"].key)
    assert keys[0] != keys[1]
    assert only({"3": n("Outside")}, ["3"]).type == "required_input_missing"


def test_no_outputs_and_unknown_targets_are_told() -> None:
    assert only({"a": n("Const")}).type == "prompt_no_outputs"
    assert [problem.type for problem in problems({"a": n("Unknown")})] == ["invalid_prompt", "prompt_no_outputs"]
    found = only({"alpha": n("Const")}, ["alhpa"])
    assert (found.what, found.fix) == ("target 'alhpa' is not in it", "did you mean 'alpha'?")


def test_every_problem_of_a_document_is_told_at_once() -> None:
    found = problems({
        "1": n("Ad"), "2": n("Add"), "3": n("Pick", a=("9", 0), b=("t", 0), mode="lft", limit=1001), "t": n("Text"),
        "4": n("Const", value="x"), "5": n("DivMod", a=("4", 3)), "6": n("Load", name="none.safetensors"),
        "7": n("Show", value=("1", 0)), "8": n("Join", a=("t", 0), b=("5", 0)),
        **{f"s{i}": n("Show", value=(str(i), 0)) for i in (2, 3, 5, 6, 8)},
    })  # fmt: skip
    assert {(problem.node, problem.input) for problem in found} == {
        ("1", None), ("2", "a"), ("3", "a"), ("3", "b"), ("3", "mode"), ("3", "limit"), ("4", "value"), ("5", "a"),
        ("6", "name"), ("8", "b"),
    }  # fmt: skip


def test_a_literal_where_only_a_link_fits_is_told() -> None:
    def f(*, image: Annotated[object, "x"]) -> int: ...

    from nodegraph.spec import spec_of
    from nodegraph.types import Port

    f.__annotations__["image"] = Annotated[object, Port("IMAGE")]
    found = only({"3": n("F", image=5)}, ["3"], registry=Registry().with_specs([spec_of(f, "F")]))
    assert (found.what, found.expected) == ("5 is not a link", "[node id, output] giving IMAGE")


def test_a_plan_takes_over_what_did_not_change() -> None:
    planner = Planner(ALL, Folders.of(Path("/nowhere")))
    document = {"a": n("Const", value=1), "b": n("Add", a=("a", 0)), "c": n("Echo", value=1), "z": n("Real", value=0.0)}
    graph = Graph.of(Workflow.of(document))
    first = planner.plan(graph, ["b", "c", "z"])
    second = planner.plan(
        Graph.of(Workflow.of({**document, "c": n("Echo", value=True), "z": n("Real", value=-0.0)})),
        ["b", "c", "z"],
        first,
    )
    assert all(second.steps[name] is first.steps[name] for name in "ab")
    assert second.steps["c"].key != first.steps["c"].key
    assert second.steps["z"].key != first.steps["z"].key
    third = planner.plan(Graph.of(Workflow.of({**document, "a": n("Const", value=2)})), ["b", "c", "z"], first)
    assert third.steps["b"].key != first.steps["b"].key
