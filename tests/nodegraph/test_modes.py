"""Skipped and muted nodes and reroutes: what takes their place, and what is told where nothing does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodegraph.checks import problems_of
from nodegraph.documents import comfy_graph, from_text
from nodegraph.errors import WorkflowError
from nodegraph.graph import Graph, Ref
from nodegraph.modes import Given, resolve
from nodegraph.registry import Registry
from nodegraph.running import Function
from nodegraph.session import Session, Settings
from nodegraph.workflow import Workflow
from tests.nodegraph import trivial
from tests.nodegraph.trivial import n, run

BUILT_IN = Registry().with_entry_points()
REGISTRY = Registry({**BUILT_IN.specs, **trivial.REGISTRY.specs})


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with trivial.session(tmp_path, REGISTRY) as made:
        yield made


def skip(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {**n(class_type, **inputs), "mode": "skip"}


def mute(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {**n(class_type, **inputs), "mode": "mute"}


def resolved(document: Any) -> dict[str, Any]:
    """The inputs of each node that is left."""
    graph = resolve(Graph.of(Workflow.of(document)), REGISTRY.get).graph
    return {name: dict(node.inputs) for name, node in graph.nodes.items()}


def told(session: Session, document: Any, targets: list[str] | None = None) -> str:
    with pytest.raises(WorkflowError) as error:
        session.prepare(Workflow.of(document), targets)
    return str(error.value)


def test_a_graph_without_any_is_left_as_it_is() -> None:
    graph = Graph.of(Workflow.of({"a": n("Const", value=1), "b": n("Echo", value=("a", 0))}))
    found = resolve(graph, REGISTRY.get)
    assert found.graph is graph and found.follow(Ref("a", 0)) == Ref("a", 0)


def test_a_reroute_stands_for_what_is_linked_to_it() -> None:
    document = {
        "a": n("DivMod", a=7), "r": n("Reroute", value=("a", "remainder")), "s": n("Reroute", value=("r", "*")),
        "b": n("Echo", value=("s", 0)), "loose": n("Reroute"), "c": n("Reroute", value=5),
        "d": n("Echo", value=("c", 0)),
    }  # fmt: skip
    assert resolved(document) == {"a": {"a": 7}, "b": {"value": Ref("a", "remainder")}, "d": {"value": 5}}


@pytest.mark.parametrize(
    ("node", "slot", "expected"),
    [
        (skip("PorterDuffImageComposite", source=("p", 0), source_alpha=("q", 0)), 0, Ref("p", 0)),
        (skip("PorterDuffImageComposite", source=("p", 0), source_alpha=("q", 0)), "MASK", Ref("q", 0)),
        (skip("KSampler", model=("m", 0), latent_image=("l", 0)), 0, Ref("l", 0)),
        (skip("Add", a=("p", 0), b=("q", 0)), 0, Ref("p", 0)),
        (skip("DivMod", a=("p", 0), b=("q", 0)), 1, Ref("q", 0)),
        (skip("Add", a=3, b=("q", 0)), 0, 3),
        (skip("Const"), 0, 0),
        (skip("Echo", value=("p", 0)), 0, Ref("p", 0)),
        (skip("Switch", condition=("c", 0), on_true=("p", 0), on_false=("q", 0)), 0, Ref("p", 0)),
        (skip("PreviewAny", source=("p", 0)), 0, Ref("p", 0)),
        (skip("Reroute", value=("p", 0)), 0, Ref("p", 0)),
        (skip("VAEDecode", samples=("p", 0), vae=("q", 0)), 0, None),
        (skip("PorterDuffImageComposite", source=("p", 0), destination_alpha=("q", 0)), 1, None),
        (mute("Echo", value=("p", 0)), 0, None),
        (mute("Reroute", value=("p", 0)), 0, None),
        (mute("Unheard", value=("p", 0)), 3, None),
    ],
)
def test_a_skipped_node_passes_on_its_first_input_of_the_type(node: Any, slot: Any, expected: Any) -> None:
    assert resolved({"x": node, "y": n("Echo", value=("x", slot))})["y"] == (
        {} if expected is None else {"value": expected}
    )


def test_what_is_left_out_does_not_run_and_what_needs_it_does(session: Session) -> None:
    document = {
        "a": n("Const", value=4), "b": skip("Add", a=("a", 0), b=9), "c": mute("Show", value=("b", 0)),
        "d": skip("Show", value=("b", 0)), "e": n("Show", value=("b", 0)),
    }  # fmt: skip
    found = run(session, document)
    assert found.values == {"e": 4} and sorted(found.ran) == ["a", "e"]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (mute("Const"), "node 5 (Const) is muted; expected a value of type INT; unmute it, or connect another node"),
        (skip("VAEDecode"), "node 5 (VAEDecode) is skipped and passes on no IMAGE; expected a value of type INT; "
                            "connect a node that gives IMAGE, or unskip it"),
        (skip("VAEEncode", pixels=("x", 0)), "node 5 (VAEEncode) is skipped and passes on no LATENT; "),
        (skip("KSampler"), "node 5 (KSampler) is skipped and passes on no LATENT; expected a value of type INT; "
                           "connect its latent_image, or unskip it"),
        (n("Reroute"), "node 5 (Reroute) has nothing connected; expected a value of type INT; connect it"),
        (n("Reroute", value=("6", 0)), "node 6 (Const) is muted; "),
    ],
)  # fmt: skip
def test_an_input_that_gets_nothing_is_missing_and_told_with_why(session: Session, node: Any, message: str) -> None:
    document = {"5": node, "6": mute("Const"), "7": n("Add", a=("5", 0)), "8": n("Show", value=("7", 0))}
    assert told(session, document).startswith(f"node 7 (Add) a: is missing, as {message}")


def test_an_input_with_a_default_has_that_where_it_gets_nothing(session: Session) -> None:
    document = {"5": mute("Const"), "7": n("Add", a=1, b=("5", 0)), "8": n("Show", value=("7", 0))}
    assert run(session, document).values == {"8": 2}


def test_a_skipped_node_of_an_unknown_type_is_told_where_it_is_needed(session: Session) -> None:
    document = {"5": skip("Unheard", value=("6", 0)), "6": n("Reroute"), "7": n("Add", a=1, b=("5", 0)),
                "8": n("Show", value=("7", 0)), "9": n("Show", value=3)}  # fmt: skip
    assert told(session, document).startswith("node 5: no node type 'Unheard' is installed")
    assert run(session, document, ["9"]).values == {"9": 3}


def test_a_slot_that_is_not_there_is_told(session: Session) -> None:
    for node in (skip("Add", a=1), n("Reroute", value=1)):
        document = {"5": node, "7": n("Add", a=1, b=("5", 3)), "8": n("Show", value=("7", 0))}
        assert "links to output 3 of node 5, which is skipped and has no such output" in told(session, document)


def test_a_circle_is_told_where_it_is_needed(session: Session) -> None:
    circle = {"1": n("Reroute", value=("2", 0)), "2": skip("Echo", value=("3", 0)), "3": n("Reroute", value=("1", 0)),
              "4": n("Reroute", value=("1", 0))}  # fmt: skip
    needed = {**circle, "8": n("Show", value=("4", 0))}
    assert "its links form a circle: " in told(session, needed)
    assert run(session, {**circle, "9": n("Show", value=3)}).values == {"9": 3}


@pytest.mark.parametrize("mode", ["bypass", "Skip", 4, True, "", [], {"a": 1}])
def test_an_unknown_mode_is_told_with_those_there_are(session: Session, mode: Any) -> None:
    document = {"5": {**n("Const"), "mode": mode}, "8": n("Show", value=("5", 0))}
    found = told(session, document)
    assert found.startswith(f"node 5 (Const): has the mode {mode!r}, which is unknown; expected skip or mute; ")
    assert [str(problem) for problem in problems_of(Workflow.of(document), session)] == [found]


@pytest.mark.parametrize("mode", ["skip", "mute"])
def test_a_mode_survives_a_round_trip(mode: str) -> None:
    node = {"class_type": "Const", "inputs": {}, "mode": mode, "_meta": {"title": "One"}}
    workflow = Workflow.of({"nodegraph": 1, "nodes": {"1": node, "2": {**node, "mode": None}}})
    again = from_text(workflow.with_values({"1.value": 3}).dumps(), REGISTRY).as_json()["nodes"]
    assert again["1"] == {**node, "inputs": {"value": 3}} and "mode" not in again["2"]


def test_twenty_thousand_reroutes_are_followed(session: Session) -> None:
    chain = {str(i): n("Reroute", value=(str(i - 1), 0)) for i in range(1, 20_000)}
    ends = {f"e{i}": n("Echo", value=(str(i), 0)) for i in range(1, 20_000, 100)}
    document = {
        "show": n("Show", value=("19999", 0)),
        **dict(reversed(chain.items())),
        "0": n("Const", value=3),
        **ends,
    }
    assert all(inputs == {"value": Ref("0", 0)} for name, inputs in resolved(document).items() if name[0] == "e")
    found = run(session, document)
    assert found.values == {"show": 3} and found.ran == ["0", "show"]


def test_what_has_to_stay_is_found_in_linear_time() -> None:
    chain = {str(i): skip("Unheard", value=(str(i - 1), 0)) for i in range(20_000)}
    circle = {f"c{i}": n("Reroute", value=(f"c{(i + 1) % 20_000}", 0)) for i in range(20_000)}
    ends = {"a": n("Echo", value=("19999", 0)), "b": n("Echo", value=("c7", 0))}
    assert len(resolved({**chain, **circle, **ends})) == 40_002


def test_targets_and_outputs_go_through_what_is_skipped(session: Session) -> None:
    nodes = {"1": n("Const", value=2), "2": n("Reroute", value=("1", 0)), "3": skip("Add", a=("2", 0)),
             "4": mute("Const"), "5": n("Reroute", value=6), "9": skip("Show", value=("1", 0))}  # fmt: skip
    outputs = {"sum": "3.INT", "muted": "4.0", "plain": "5.0"}
    workflow = Workflow.of({"nodegraph": 1, "nodes": nodes, "outputs": outputs})
    for targets in (["3"], ["2"], ["sum"]):
        prepared = session.prepare(workflow, targets)
        assert prepared.plan.targets == ("1",) and prepared.outputs == {"sum": Ref("1", 0)}
    assert "target '4' brings nothing, as node 4 (Const) is muted; unmute it" in told(
        session, workflow.as_json(), ["4"]
    )
    everything = told(session, workflow.as_json())
    assert "output 'muted' brings nothing, as node 4 (Const) is muted" in everything
    assert "output 'plain' is a plain value that skipped nodes pass on; expected the result of a node" in everything
    assert [str(problem) for problem in problems_of(workflow, session)] == everything.splitlines()


def test_a_function_goes_through_what_is_skipped(session: Session) -> None:
    nodes = {"1": n("Reroute"), "2": skip("Mul", a=("1", 0)), "3": n("Add", a=("2", 0), b=1),
             "4": n("Reroute", value=("3", 0))}  # fmt: skip
    document = {"nodegraph": 1, "nodes": nodes, "inputs": {"x": {"bind": ["1.value"], "required": True}},
                "outputs": {"y": "4.0"}}  # fmt: skip
    workflow = Workflow.of(document)
    assert Function(session, workflow, "f")(x=41).y == 42
    assert problems_of(workflow, session) == []
    open_end = Workflow.of({**document, "inputs": {}})
    assert [problem.node for problem in problems_of(open_end, session)] == ["3"]


INNER = {
    "nodegraph": 1,
    "nodes": {"in": n("Reroute"), "s": skip("Mul", a=("in", 0), b=5), "a": n("Add", a=("s", 0), b=1),
              "m": mute("Show", value=("a", 0)), "out": n("Reroute", value=("a", 0))},
    "inputs": {"x": {"bind": ["in.value"]}}, "outputs": {"sum": "out.0", "same": "s.INT"},
}  # fmt: skip


def test_the_inside_of_a_workflow_may_skip_and_a_workflow_may_be_skipped(session: Session, tmp_path: Path) -> None:
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "inner.json").write_text(json.dumps(INNER))
    document = {
        "c": n("Const", value=7), "w": n("workflow:inner", x=("c", 0)), "p": n("Show", value=("w", "sum")),
        "q": n("Show", value=("w", "same")),
    }  # fmt: skip
    found = run(session, document)
    assert found.values == {"p": 8, "q": 7} and sorted(found.ran) == ["c", "p", "q", "w:a"]
    skipped = run(session, {**document, "w": skip("workflow:inner", x=("c", 0))})
    assert skipped.values == {"p": 7, "q": 7}
    literal = run(session, {**document, "w": n("workflow:inner", x=20)})
    assert literal.values == {"p": 21, "q": 20}
    muted = told(session, {**document, "w": mute("workflow:inner", x=("c", 0))})
    assert muted.startswith("node p (Show) value: is missing, as node w (workflow:inner) is muted; expected a value")
    gone = {"w": mute("workflow:gone"), "p": n("Show", value=("w", 0))}
    assert "node w (workflow:gone) is muted" in told(session, gone)


def test_a_loop_over_a_workflow_goes_through_what_it_skips(tmp_path: Path) -> None:
    (tmp_path / "workflows").mkdir()
    identity = {**INNER, "outputs": {"same": "s.INT"}}
    for name, inner in (("inner", INNER), ("identity", identity)):
        (tmp_path / "workflows" / f"{name}.json").write_text(json.dumps(inner))
    with Session(Settings(home=tmp_path, device="cpu", cache_dir=None), registry=REGISTRY) as session:
        for name, expected in (("inner", 5), ("identity", 2)):
            for value in ({"value": ("1", 0)}, {"value": 2}):
                loop = {"1": n("Const", value=2), "2": n("Repeat", workflow=f"{name}.json", times=3, **value),
                        "3": n("Show", value=("2", 0))}  # fmt: skip
                assert run(session, loop).values == {"3": expected}


def test_comfyui_is_given_a_graph_without_any() -> None:
    document = {
        "1": n("DivMod", a=7), "2": n("Reroute", value=("1", "remainder")), "3": skip("Echo", value=("2", 0)),
        "4": mute("Const"), "5": n("Add", a=("3", 0), b=("4", 0)), "6": n("Echo", value={"__value__": ["1", 0]}),
        "7": skip("Echo", value={"__value__": ["1", 0]}), "8": n("Echo", value=("7", 0)),
    }  # fmt: skip
    workflow = Workflow.of(document)
    assert comfy_graph(workflow, REGISTRY.get) == {
        "1": n("DivMod", a=7), "5": n("Add", a=("1", 1)), "6": n("Echo", value={"__value__": ["1", 0]}),
        "8": n("Echo", value={"__value__": ["1", 0]}),
    }  # fmt: skip
    assert workflow.api() == document


def test_a_value_in_place_of_a_link_is_told_apart() -> None:
    graph = Graph.of(Workflow.of({"1": n("Reroute", value=3), "2": skip("Const")}))
    follow = resolve(graph, REGISTRY.get).follow
    assert (follow(Ref("1", 0)), follow(Ref("2", "INT"))) == (Given(3), Given(0))
