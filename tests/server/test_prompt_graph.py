"""Who needs whom in a submitted graph."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.prompt_graph import (
    class_type_of,
    dependents,
    inputs_of,
    outer,
    parent_of,
    sinks_of,
    sources,
    spared,
    title_of,
    unreached,
)
from tests.nodegraph.trivial import REGISTRY, n

DIAMOND = {
    "1": n("Const"), "2": n("Add", a=("1", 0)), "3": n("Mul", a=("1", 0), b=("2", 0)),
    "4": n("Show", value=("2", 0)), "5": n("Show", value=("3", 0)),
}  # fmt: skip
CHAIN = {"0": n("Const"), **{str(index): n("Add", a=(str(index - 1), 0)) for index in range(1, 5000)}}


@st.composite
def graphs(draw):
    """Up to eight nodes with links anywhere, also to themselves and to nothing."""
    count = draw(st.integers(1, 8))
    ends = st.lists(st.integers(0, count), max_size=3)
    return {
        str(index): n("Add", **{f"i{place}": (str(end), 0) for place, end in enumerate(draw(ends))})
        for index in range(count)
    }


def upstream(graph, name):
    """A node and all it needs, by the definition."""
    found = {name}
    while more := {end for each in found for end in sources(graph, each) if end in graph} - found:
        found |= more
    return found


def test_the_sinks_that_need_a_node_are_named_in_their_order():
    needed_by = dependents(DIAMOND, ["5", "4"])
    assert {name: needed_by(name, 9) for name in DIAMOND} == {
        "1": ["5", "4"], "2": ["5", "4"], "3": ["5"], "4": ["4"], "5": ["5"],
    }  # fmt: skip
    assert needed_by("1", 1) == ["5"]
    assert needed_by("9", 9) == []


@given(graphs())
def test_dependents_are_those_that_have_the_node_upstream(graph):
    needed_by = dependents(graph, graph)
    for name in graph:
        assert needed_by(name, 99) == [sink for sink in graph if name in upstream(graph, sink)]


@given(graphs(), st.sets(st.integers(0, 7), max_size=3))
def test_the_unreached_have_none_of_the_nodes_upstream(graph, numbers):
    nodes = [str(number) for number in numbers if str(number) in graph]
    wanted = [sink for sink in graph if not upstream(graph, sink) & set(nodes)]
    assert unreached(nodes, graph, list(graph)) == wanted


def test_long_chains_and_circles_need_no_recursion():
    assert dependents(CHAIN, ["4999"])("0", 9) == ["4999"]
    assert unreached(["0"], CHAIN, ["4999"]) == []
    ring = {**CHAIN, "0": n("Add", a=("4999", 0))}
    assert dependents(ring, ["7"])("4999", 9) == ["7"]
    assert len(spared(CHAIN, ["4999"], ["4999"])) == 4999


def test_what_only_cached_nodes_need_is_spared():
    assert spared(DIAMOND, ["4", "5"], ["3", "2"]) == ["1"]
    assert spared(DIAMOND, ["4", "5"], ["2"]) == []
    assert spared(DIAMOND, ["4", "5"], ["4", "5"]) == ["1", "2", "3"]
    assert spared(DIAMOND, None, ["4", "5"]) == ["1", "2", "3"]
    assert spared(DIAMOND, ["4"], ["4"]) == ["1", "2"]


def test_sinks_are_the_nodes_with_effects():
    assert sinks_of({**DIAMOND, "6": n("NoSuchNode"), "7": {}}, REGISTRY.get) == ["4", "5"]


@pytest.mark.parametrize(
    ("node", "around", "shown"),
    [("12:3", "12", "12"), ("12:4:3", "12:4", "12"), ("12.a.b", "12.a", "12"), ("12", "", "12"), ("8:1", "8", "8:1"),
     ("", "", ""), ("a.b", "a", "a.b")],
)  # fmt: skip
def test_a_node_made_inside_another_belongs_to_the_one_that_was_submitted(node, around, shown):
    assert parent_of(node) == around
    assert outer(node, {"12": {}, "a.b": {}}) == shown


@pytest.mark.parametrize("node", [None, 1, "x", [], {"inputs": []}, {"inputs": None, "_meta": 3, "class_type": 4}])
def test_malformed_nodes_are_taken_as_empty(node):
    graph = {"1": node}
    assert (class_type_of(graph, "1"), title_of(graph, "1"), inputs_of(graph, "1"), sources(graph, "1")) == (
        None, None, {}, [],
    )  # fmt: skip
