"""Links, orders and circles."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodegraph.graph import CycleError, Graph, Ref, links
from nodegraph.workflow import Workflow
from tests.nodegraph.trivial import n


def graph(**nodes: dict[str, object]) -> Graph:
    return Graph.of(Workflow.of(dict(nodes)))


def test_links_are_told_from_literals() -> None:
    found = graph(
        a=n("Const"),
        b={"class_type": "X", "inputs": {
            "number": ["a", 0], "name": ["a", "INT"], "float": ["a", 1.0], "wrapped": {"__value__": ["a", 0]},
            "bool": ["a", True],
            "half": ["a", 0.5], "three": ["a", 0, 1], "int": [1, 0], "text": "a", "none": None, "dict": {"x": 1},
        }},
    ).nodes["b"].inputs  # fmt: skip
    assert found["number"] == Ref("a", 0) and found["name"] == Ref("a", "INT") and found["float"] == Ref("a", 1)
    assert [name for name, value in found.items() if type(value) is Ref] == ["number", "name", "float"]
    assert found["wrapped"] == ["a", 0] and type(found["wrapped"]) is list
    assert found["dict"] == {"x": 1}


def test_an_order_has_upstream_first_and_ends_a_branch_before_the_next() -> None:
    found = graph(
        out=n("X", a=("l2", 0), b=("r2", 0)), l2=n("X", a=("l1", 0)), l1=n("X", a=("base", 0)), r2=n("X", a=("r1", 0)),
        r1=n("X", a=("base", 0)), base=n("X"), loose=n("X"),
    )  # fmt: skip
    assert found.order(["out"]) == ["base", "l1", "l2", "r1", "r2", "out"]
    assert found.order(["nothing", "loose", "r1"]) == ["loose", "base", "r1"]


def test_links_to_nowhere_are_left_to_planning() -> None:
    assert graph(a=n("X", a=("gone", 0))).order(["a"]) == ["a"]


def test_a_circle_is_named_in_the_direction_of_its_links() -> None:
    found = graph(a=n("X", a=("c", 0)), b=n("X", a=("a", 0)), c=n("X", a=("b", 0)), d=n("X", a=("c", 0)))
    with pytest.raises(CycleError) as error:
        found.order(["d"])
    path = error.value.path
    assert path[0] == path[-1] and sorted(path[1:]) == ["a", "b", "c"]
    assert all(one in links(found.nodes[other]) for one, other in pairwise(path))
    assert len(found.cycles(["a", "b", "c", "d"])) == 1
    assert found.rough_order(["d"])[-1] == "d"


def test_a_node_that_feeds_itself_is_a_circle() -> None:
    found = graph(a=n("X", a=("a", 0)))
    with pytest.raises(CycleError, match="a -> a"):
        found.order(["a"])
    assert found.cycles(["a"]) == [["a", "a"]]


def test_a_chain_of_a_hundred_thousand_is_ordered() -> None:
    nodes = {str(i): n("X", **({"a": (str(i - 1), 0)} if i else {})) for i in range(100_000)}
    assert Graph.of(Workflow.of(nodes)).order(["99999"]) == [str(i) for i in range(100_000)]


@given(st.lists(st.lists(st.integers(0, 30), max_size=4), min_size=1, max_size=12))
def test_an_order_holds_each_node_once_and_after_its_sources(edges: list[list[int]]) -> None:
    size = len(edges)
    nodes = {
        str(i): n("X", **{f"i{k}": (str(edge % i), 0) for k, edge in enumerate(own) if i})
        for i, own in enumerate(edges)
    }
    found = Graph.of(Workflow.of(nodes))
    order = found.order([str(size - 1), "0"])
    place = {name: index for index, name in enumerate(order)}
    assert len(place) == len(order)
    assert all(place[source] < place[name] for name in order for source in links(found.nodes[name]))
