"""What is in a key, what is not, and that encodings never meet."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodegraph.files import Folders
from nodegraph.graph import Graph
from nodegraph.keys import (
    KEY_BYTES,
    canonical,
    digest,
    file_part,
    input_tag,
    link_part,
    literal_part,
    node_key,
    node_prefix,
)
from nodegraph.plan import Planner
from nodegraph.registry import Registry
from nodegraph.workflow import Workflow
from tests.nodegraph.trivial import REGISTRY, n

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def exact(value: Any) -> str:
    """JSON text that tells 1 from 1.0 and True."""
    return json.dumps(value, sort_keys=True)


@given(JSON, JSON)
def test_equal_bytes_mean_equal_values_of_equal_type(one: Any, other: Any) -> None:
    assert (canonical(one) == canonical(other)) == (exact(one) == exact(other))


@given(st.lists(JSON, max_size=4), st.lists(JSON, max_size=4))
def test_encodings_are_self_delimiting(one: list[Any], other: list[Any]) -> None:
    joined = [b"".join(map(canonical, values)) for values in (one, other)]
    assert (joined[0] == joined[1]) == (exact(one) == exact(other))


@given(st.lists(st.text(max_size=3), max_size=4), st.lists(st.text(max_size=3), max_size=4))
def test_the_borders_of_digested_parts_count(one: list[str], other: list[str]) -> None:
    assert (digest("t", *one) == digest("t", *other)) == (one == other)


def test_tuples_are_lists_and_what_is_not_json_is_refused() -> None:
    assert canonical((1, "a")) == canonical([1, "a"])
    assert canonical("\ud800") != canonical("\ud801")
    assert len(digest("t", "\ud800")) == KEY_BYTES
    for wrong in (object(), {1, 2}, b"x", Path("a")):
        with pytest.raises(TypeError, match="has no canonical form"):
            canonical(wrong)


def test_the_kinds_of_parts_never_meet() -> None:
    tag = input_tag("a")
    parts = [
        literal_part(tag, "x"),
        file_part(tag, "x"),
        link_part(tag, b"x" * 16, 0),
        link_part(tag, b"x" * 16, 1),
        literal_part(input_tag("b"), "x"),
    ]
    assert len(set(parts)) == len(parts)
    assert node_prefix("a", "bc", b"") != node_prefix("ab", "c", b"")
    assert node_key(b"p", [parts[0], parts[1]]) != node_key(b"p", [parts[1], parts[0]])


def key(
    document: Any, name: str, registry: Registry = REGISTRY, folder: Path = Path("/nowhere"), **settings: bytes
) -> bytes | None:
    planner = Planner(registry, Folders.of(folder), **settings)  # type: ignore[arg-type]
    return planner.plan(Graph.of(Workflow.of(document)), [name]).steps[name].key


BASE = {"a": n("Const", value=1), "b": n("Const", value=2), "m": n("Mul", a=("a", 0), b=("b", 0))}


def test_ids_titles_order_and_positions_are_not_in_a_key() -> None:
    renamed = {
        "9": {"class_type": "Mul", "inputs": {"b": ["8", "INT"], "a": ["7", 0]}, "_meta": {"title": "Product"}},
        "8": n("Const", value=2), "7": n("Const", value=1, note="ignored"),
    }  # fmt: skip
    document = {"nodegraph": 1, "name": "other", "nodes": renamed, "ui": {"positions": {"7": [1, 2]}}}
    assert key(document, "9") == key(BASE, "m")


def test_a_default_written_out_is_the_same_as_none() -> None:
    assert (
        key({"a": n("Const", value=0)}, "a") == key({"a": n("Const")}, "a") == key({"a": n("Const", value=False)}, "a")
    )


def test_whatever_changes_a_result_is_in_the_key() -> None:
    version = replace(REGISTRY.specs["Mul"], version="other")
    others = Registry({**REGISTRY.specs, "Mul": version})
    found = [
        key(BASE, "m"), key(BASE, "m", others), key(BASE, "m", salt=b"fp16"), key(BASE, "a"), key(BASE, "b"),
        key({**BASE, "m": n("Mul", a=("b", 0), b=("a", 0))}, "m"), key({**BASE, "m": n("Add", a=("a", 0), b=("b",
        0))}, "m"),
        key({**BASE, "a": n("Const", value=3)}, "m"), key({**BASE, "m": n("Mul", a=("a", 0), b=2)}, "m"),
        key({**BASE, "m": n("Mul", a=("a", 0))}, "m"),
    ]  # fmt: skip
    assert len(set(found)) == len(found)


def test_slots_are_in_the_key() -> None:
    document = {
        "d": n("DivMod", a=7),
        "q": n("Add", a=("d", 0)),
        "r": n("Add", a=("d", 1)),
        "named": n("Add", a=("d", "remainder")),
    }
    assert key(document, "q") != key(document, "r") == key(document, "named")


def test_where_sinks_write_is_in_their_keys_alone() -> None:
    document = {**BASE, "s": n("Show", value=("m", 0)), "after": n("Add", a=("s", 0))}
    assert key(document, "s", sink_salt=b"x") != key(document, "s", sink_salt=b"y")
    assert key(document, "m", sink_salt=b"x") == key(document, "m", sink_salt=b"y")


def test_the_unused_branch_of_a_switch_is_in_no_key_before_the_run() -> None:
    document = {
        **BASE,
        "s": n("Switch", condition=True, on_true=("a", 0), on_false=("b", 0)),
        "out": n("Show", value=("s", 0)),
    }
    assert key(document, "out") is None


def test_a_node_that_always_runs_has_a_new_key_each_time() -> None:
    counter = iter(range(10))
    planner = Planner(REGISTRY, Folders.of(Path("/nowhere")), fresh=lambda: bytes([next(counter)]))
    graph = Graph.of(Workflow.of({"a": n("Always"), "b": n("Always"), "\ud800": n("Always")}))
    found = [step.key for _ in range(2) for step in planner.plan(graph, ["a", "b", "\ud800"]).steps.values()]
    assert len(set(found)) == 6
