"""The document: round trips, what is told when it is wrong, and its declared interface."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodegraph.errors import WorkflowError
from nodegraph.workflow import Workflow, split_address
from tests.nodegraph.trivial import n

API = {
    "3": {"class_type": "Add", "inputs": {"a": ["4", 0], "b": 2}, "_meta": {"title": "Sum"}},
    "4": n("Const", value=1),
}
FULL = {
    "nodegraph": 1, "name": "full", "doc": "All of it.", "nodes": API,
    "inputs": {"start": {"bind": ["4.value"], "doc": "Where to begin."}, "more": {"bind": ["3.b"], "required": True}},
    "outputs": {"sum": "3.INT"}, "requires": {"models": []}, "ui": {"positions": {"3": [1, 2]}},
}  # fmt: skip

names = st.text(st.characters(codec="utf-8", exclude_characters="."), min_size=1, max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=5,
)  # fmt: skip
extras = st.dictionaries(names.map("x_{}".format), values, max_size=2)
bodies = st.builds(
    lambda kind, inputs, extra, meta: {"class_type": kind, "inputs": inputs, **extra,
    **({"_meta": meta} if meta else {})},
    names, st.dictionaries(names, values, max_size=3), extras, st.dictionaries(names, values, max_size=2),
)  # fmt: skip


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    nodes = draw(st.dictionaries(names, bodies, min_size=1, max_size=4))
    places = st.sampled_from(sorted(nodes)).map("{}.a".format)
    inputs = draw(
        st.dictionaries(
            names,
            st.builds(lambda bind, extra: {"bind": bind, **extra}, st.lists(places, min_size=1, max_size=2), extras),
            max_size=2,
        )
    )
    outputs = draw(st.dictionaries(names, places, max_size=2))
    rest = {
        key: value
        for key, value in {"inputs": inputs, "outputs": outputs, "name": draw(st.text(max_size=4))}.items()
        if value
    }
    return {"nodegraph": 1, "nodes": nodes, **rest, **draw(extras)}


def what(document: Any) -> str:
    with pytest.raises(WorkflowError) as error:
        Workflow.parse(document) if isinstance(document, (str, bytes)) else Workflow.of(document)
    return str(error.value)


@given(documents())
def test_a_document_survives_a_round_trip_with_what_is_not_known(document: dict[str, Any]) -> None:
    workflow = Workflow.of(document)
    assert json.dumps(workflow.as_json(), sort_keys=True) == json.dumps(document, sort_keys=True)
    text = workflow.dumps()
    assert Workflow.parse(text).dumps() == text
    assert Workflow.parse(text.encode()).as_json() == workflow.as_json()


def test_unknown_fields_stay_even_when_empty() -> None:
    document = {
        "nodegraph": 1,
        "nodes": {"1": {"class_type": "X", "inputs": {}, "future": None, "meta": {"x": 1}}},
        "future": {},
        "other": None,
        "third": "",
    }
    assert Workflow.of(document).as_json() == document


def test_a_bare_api_graph_is_a_workflow() -> None:
    assert Workflow.of(API).api() == API
    assert Workflow.of({"prompt": API, "client_id": "x"}).api() == API
    assert Workflow.parse(json.dumps(FULL)).api() == API


def test_saved_text_has_one_node_a_line() -> None:
    lines = Workflow.of(FULL).dumps().splitlines()
    assert '  "3": {"class_type": "Add", "inputs": {"a": ["4", 0], "b": 2}, "_meta": {"title": "Sum"}},' in lines
    assert json.loads("\n".join(lines)) == {**FULL, "requires": {"models": []}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"1": }', "not JSON at line 1, column 7: Expecting value"),
        ('{\n "1": 2,\n}', "not JSON at line 3, column 1|not JSON at line 2"),
        ("", "the file is empty"),
        (b"\xff\xfe", "not text: byte 0 is not UTF-8"),
        ('{"a": 1, "b": 2, "a": 3}', "names 'a' twice"),
        ('{"1": {"class_type": "X", "inputs": {"a": NaN}}}', "NaN is not JSON"),
        ('{"1": {"class_type": "X", "inputs": {"a": -Infinity}}}', "-Infinity is not JSON"),
        ('{"1": {"class_type": "X", "inputs": {"a": ' + "1" * 5000 + "}}}", "not JSON: Exceeds the limit"),
        ("[" * 100_000, "nested too deeply|Expecting value"),
        ("[]", "the document is a JSON array; expected an object with nodes"),
        ('"x"', "JSON string"),
        ("null", "JSON null"),
        ("true", "JSON boolean"),
        ("3", "JSON number"),
    ],
)
def test_text_that_is_no_document_is_told(text: str | bytes, message: str) -> None:
    found = what(text)
    assert any(part in found for part in message.split("|")), found


def test_a_byte_order_mark_is_allowed() -> None:
    assert Workflow.parse(b"\xef\xbb\xbf" + json.dumps(API).encode()).api() == API


def test_a_file_of_comfyuis_editor_is_no_workflow_without_the_node_types() -> None:
    found = what({"last_node_id": 3, "nodes": [], "links": []})
    assert "ComfyUI's editor" in found and "open it as a file or a picture" in found


def test_versions_are_checked() -> None:
    assert "has version 2" in what({"nodegraph": 2, "nodes": {}}) and "update nodegraph" in what(
        {"nodegraph": 2, "nodes": {}}
    )
    for wrong in (0, "1", 1.0, True, None):
        assert "is no version" in what({"nodegraph": wrong, "nodes": {}})


def test_every_node_that_is_wrong_is_named() -> None:
    found = what(
        {"1": {"inputs": {}}, "2": {"class_type": 5}, "3": {"class_type": "X", "inputs": []}, "4": 7, "5": n("Const")}
    )
    assert [line.partition(":")[0] for line in found.splitlines()] == ["node 1", "node 2", "node 3", "node 4"]
    assert "node 1: has no class_type" in found
    assert "it has no nodes" in what({"nodegraph": 1})


def test_a_declaration_that_points_nowhere_is_told() -> None:
    found = what({**FULL, "inputs": {"x": {"bind": ["44.value", "3.a"]}}, "outputs": {"y": "9.INT"}})
    assert "inputs.x: '44.value' names no node" in found and "did you mean '4'?" in found
    assert "outputs.y: '9.INT' names no node" in found
    assert "bind" in what({**FULL, "inputs": {"x": {"bind": []}}})


def test_declared_inputs_are_set_and_the_old_document_stays() -> None:
    workflow = Workflow.of(FULL)
    changed = workflow.with_inputs({"start": 9, "more": [1, 2]})
    assert changed.nodes["4"].inputs == {"value": 9}
    assert changed.nodes["3"].inputs["b"] == {"__value__": [1, 2]}
    assert workflow.api() == API


def test_wrong_and_missing_inputs_are_told_at_once() -> None:
    with pytest.raises(WorkflowError) as error:
        Workflow.of(FULL).with_inputs({"strat": 1})
    assert "it has no input 'strat'; expected one of start, more; did you mean 'start'?" in str(error.value)
    assert "input 'more' has no value" in str(error.value)


def test_values_are_set_by_address() -> None:
    workflow = Workflow.of({"12:5": n("Const", value=1)})
    assert workflow.with_values({"12:5.value": 2}).nodes["12:5"].inputs == {"value": 2}
    with pytest.raises(WorkflowError, match=r"'9\.value' names no node input"):
        workflow.with_values({"9.value": 1})
    assert (split_address("12:5.text"), split_address("a.b.c"), split_address("x")) == (
        ("12:5", "text"),
        ("a.b", "c"),
        ("x", ""),
    )
    assert split_address("12:5.input_blocks.0.") == ("12:5", "input_blocks.0.")
