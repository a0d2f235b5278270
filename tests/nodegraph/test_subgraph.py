"""Workflows as nodes: linked, checked and cached as if written out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodegraph.errors import DefinitionError, WorkflowError
from nodegraph.session import Session
from nodegraph.spec import NODE_ATTRIBUTE, node
from nodegraph.subgraph import input_of, spec_of_workflow
from nodegraph.types import Lazy
from nodegraph.workflow import Workflow
from tests.nodegraph import trivial
from tests.nodegraph.trivial import REGISTRY, n, run

SCALE = {
    "nodegraph": 1, "name": "Scale", "doc": "Three times, and what is left.",
    "nodes": {"m": n("Mul", a=1, b=0), "d": n("DivMod", a=("m", 0), b=2), "e": n("Echo", value=("m", 0))},
    "inputs": {"x": {"bind": ["m.a"], "doc": "The number."}, "by": {"bind": ["d.b", "m.b"], "required": True}},
    "outputs": {"product": "m.INT", "left": "d.remainder", "same": "e.0"},
}  # fmt: skip


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    (tmp_path / "workflows").mkdir()
    save(tmp_path, "scale", SCALE)
    with trivial.session(tmp_path) as made:
        yield made


def save(home: Path, name: str, document: Any) -> None:
    path = home / "workflows" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def problems(session: Session, document: Any, targets: list[str] | None = None) -> str:
    with pytest.raises(WorkflowError) as error:
        session.prepare(Workflow.of(document), targets)
    return str(error.value)


def test_a_workflow_is_a_node(session: Session) -> None:
    document = {
        "c": n("Const", value=7), "w": n("workflow:scale", x=("c", 0), by=4), "p": n("Show", value=("w", "product")),
        "l": n("Show", value=("w", 1)), "s": n("Show", value=("w", "same")),
    }  # fmt: skip
    found = run(session, document)
    product = 3 * 7 + 5 * 4
    assert found.values == {"p": product, "l": product % 4, "s": product}
    assert sorted(found.ran) == ["c", "l", "p", "s", "w:d", "w:e", "w:m"]


def test_it_shares_keys_with_the_same_work_outside(session: Session) -> None:
    run(session, {"w": n("workflow:scale", x=7, by=4), "p": n("Show", value=("w", 0))})
    outside = run(session, {"m": n("Mul", a=7, b=4), "p": n("Show", value=("m", 0))})
    assert (outside.ran, outside.cached) == ([], ["p"])
    twice = run(
        session,
        {
            "w": n("workflow:scale", x=7, by=4),
            "v": n("workflow:scale", x=("w", 0), by=4),
            "p": n("Show", value=("v", 0)),
        },
    )
    assert twice.ran == ["v:m", "p"]


def test_an_edit_of_the_linked_document_is_seen(session: Session) -> None:
    document = {"w": n("workflow:scale", x=7, by=4), "p": n("Show", value=("w", 0))}
    assert run(session, document).values == {"p": 41}
    save(session.folders.home, "scale", {**SCALE, "nodes": {**SCALE["nodes"], "m": n("Add", a=1, b=0)}})  # type: ignore[dict-item]
    changed = run(session, document)
    assert (changed.values, changed.ran) == ({"p": 11}, ["w:m", "p"])


def test_workflows_nest_and_forward(session: Session) -> None:
    outer = {
        "nodegraph": 1, "nodes": {"in": n("workflow:scale", x=2, by=3), "a": n("Add", a=("in", "product"))},
        "inputs": {"n": {"bind": ["in.x"]}}, "outputs": {"sum": "a.INT", "raw": "in.left"},
    }  # fmt: skip
    save(session.folders.home, "deep/outer", outer)
    document = {
        "o": n("workflow:deep/outer", n=5),
        "x": n("Show", value=("o", "sum")),
        "y": n("Show", value=("o", "raw")),
    }
    found = run(session, document)
    assert found.values == {"x": 3 * 5 + 5 * 3 + 1, "y": 0}
    assert sorted(found.ran) == ["o:a", "o:in:d", "o:in:m", "x", "y"]


def test_declared_outputs_may_come_from_inside(session: Session) -> None:
    document = {
        "nodegraph": 1,
        "nodes": {"w": n("workflow:scale", by=4)},
        "outputs": {"left": "w.left", "number": "w.0"},
    }
    running = session.submit(session.prepare(Workflow.of(document), wants_outputs=True), wants_values=True)
    assert dict(running.result()) == {"left": 3, "number": 23}


def test_one_that_contains_itself_is_told_at_once(session: Session) -> None:
    body = {"nodegraph": 1, "nodes": {str(i): n("workflow:b") for i in range(3)}, "outputs": {"x": "0.x"}}
    save(session.folders.home, "a", body)
    save(session.folders.home, "b", {**body, "nodes": {str(i): n("workflow:a") for i in range(3)}})
    found = problems(session, {"w": n("workflow:a"), "out": n("Show", value=("w", 0))})
    assert "node w:0:0 (workflow:a): it contains itself: workflow:a -> workflow:b -> workflow:a" in found
    assert len(found.splitlines()) == 9


def test_wrong_uses_are_told(session: Session) -> None:
    save(session.folders.home, "broken", {"nodegraph": 7})
    found = problems(session, {
        "1": n("workflow:scale", y=1, by=1), "2": n("workflow:scale"), "3": n("workflow:none"),
        "4": n("workflow:broken"),
    })  # fmt: skip
    assert "node 1 (workflow:scale) y: is not an input; expected x, by" in found
    assert "node 2 (workflow:scale) by: is missing; expected a value or a link" in found
    assert "node 3 (workflow:none): 'none.json' is not among the workflows" in found
    assert "node 4 (workflow:broken): the document has version 7" in found


def test_problems_inside_are_told_before_anything_runs(session: Session) -> None:
    found = problems(session, {"w": n("workflow:scale", x="many", by=2), "out": n("Show", value=("w", 0))})
    assert "node w:m (Mul) a: 'many' is of the wrong type" in found


def test_an_output_it_does_not_have_is_told(session: Session) -> None:
    found = problems(session, {"w": n("workflow:scale", by=2), "out": n("Show", value=("w", "porduct"))})
    assert "node out (Show) value: links to output 'porduct' of node w, which it does not have" in found
    assert "expected product, left, same; did you mean 'product'?" in found


def test_a_workflow_may_be_expanded_at_run_time(session: Session) -> None:
    @node("Apply", category="t")
    async def apply(*, ctx: Any, value: Lazy[int], times: int) -> int:
        for i in range(times):
            value = ctx.expand("workflow:scale", name=str(i), x=value, by=1)[0]
        return value  # type: ignore[return-value]

    session.registry = REGISTRY.with_specs([getattr(apply, NODE_ATTRIBUTE)])
    document = {"a": n("Apply", value=2, times=2), "out": n("Show", value=("a", 0))}
    found = run(session, document)
    assert found.values == {"out": 3 * (3 * 2 + 5) + 5}
    assert found.ran == ["a", "a.0:m", "a.1:m", "out"]
    more = run(session, {**document, "a": n("Apply", value=2, times=3)})
    assert (more.values, more.ran) == ({"out": 3 * 38 + 5}, ["a", "a.2:m", "out"])


def test_its_interface_is_that_of_what_it_binds() -> None:
    workflow = Workflow.of(SCALE)
    spec = spec_of_workflow("scale", workflow, REGISTRY.get)
    assert (spec.name, spec.title, spec.doc) == ("workflow:scale", "Scale", "Three times, and what is left.")
    assert [(item.name, item.port, item.default, item.doc) for item in spec.inputs] == [
        ("x", "INT", 1, "The number."),
        ("by", "INT", 2, ""),
    ]
    assert [(output.name, output.port) for output in spec.outputs] == [
        ("product", "INT"),
        ("left", "INT"),
        ("same", "*"),
    ]
    with pytest.raises(DefinitionError, match="declares no outputs"):
        spec_of_workflow("x", Workflow.of({"1": n("Const")}), REGISTRY.get)
    wrong = Workflow.of({**SCALE, "inputs": {"x": {"bind": ["m.aa"]}}, "outputs": {"y": "m.9"}})
    with pytest.raises(DefinitionError, match=r"binds 'm\.aa', which is no input"):
        input_of(wrong, "x", REGISTRY.get)
    with pytest.raises(DefinitionError, match=r"output 'm\.9' is no output of a known node"):
        spec_of_workflow("x", wrong.model_copy(update={"inputs": {}}), REGISTRY.get)
