"""Links of a graph in ComfyUI's API format: who needs whom, without recursion, in time linear in its nodes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from nodegraph.graph import Graph, Node, Ref, input_value
from nodegraph.spec import NodeSpec

Find = Callable[[str], NodeSpec | None]


def class_type_of(graph: Mapping[str, Any], node: str) -> str | None:
    """A node's type; None where it has none or the graph has no such node."""
    found = _fields(graph.get(node)).get("class_type")
    return found if isinstance(found, str) else None


def title_of(graph: Mapping[str, Any], node: str) -> str | None:
    """The title that the canvas gave a node, if any."""
    found = _fields(_fields(graph.get(node)).get("_meta")).get("title")
    return found if isinstance(found, str) else None


def inputs_of(graph: Mapping[str, Any], node: str) -> dict[str, Any]:
    """A node's inputs, its links as `Ref`; empty where the graph has no such node or it is malformed."""
    found = _fields(_fields(graph.get(node)).get("inputs"))
    return {name: input_value(value) for name, value in found.items()}


def sources(graph: Mapping[str, Any], node: str) -> list[str]:
    """Ids that a node's inputs link to."""
    return [value.node for value in inputs_of(graph, node).values() if type(value) is Ref]


def outer(node: str, graph: Mapping[str, Any]) -> str:
    """The node of the graph that a node made inside it belongs to: `12` of `12:3` and of `12.again`."""
    name = node
    while name not in graph:
        parent = parent_of(name)
        if not parent:
            return node
        name = parent
    return name


def parent_of(node: str) -> str:
    """The node around a node, by its id; empty for one that is in no other."""
    return re.sub(r"(?:^|[.:])[^.:]*$", "", node)


def sinks_of(graph: Mapping[str, Any], find: Find) -> list[str]:
    """Ids of the nodes that have effects, in the order of the document."""
    specs = ((name, find(class_type_of(graph, name) or "")) for name in graph)
    return [name for name, spec in specs if spec is not None and spec.kind == "sink"]


def dependents(graph: Mapping[str, Any], sinks: Iterable[str]) -> Callable[[str, int], list[str]]:
    """A function from a node to the first so many of the sinks that need it, itself among them.

    A node inside another is looked up by the outer one. Sets of sinks are the bits of a number.
    """
    import networkx  # of use only where something is wrong

    names = [name for name in dict.fromkeys(sinks) if name in graph]
    known = dict.fromkeys(graph, 0) | {name: 1 << index for index, name in enumerate(names)}
    links = Graph({name: Node(name, "", inputs_of(graph, name)) for name in graph}).digraph
    knots = networkx.condensation(links)  # the nodes of a circle all need each other
    for knot in reversed(list(networkx.topological_sort(knots))):
        members = cast("Iterable[str]", knots.nodes[knot]["members"])
        bits = 0
        for name in members:
            bits |= known[name]
            for user in links.successors(name):
                bits |= known[user]
        known.update(dict.fromkeys(members, bits))

    def needed_by(node: str, limit: int) -> list[str]:
        bits = known.get(outer(node, graph), 0)
        found: list[str] = []
        while bits and len(found) < limit:
            lowest = bits & -bits
            found.append(names[lowest.bit_length() - 1])
            bits ^= lowest
        return found

    return needed_by


def unreached(nodes: Iterable[str], graph: Mapping[str, Any], sinks: Sequence[str]) -> list[str]:
    """The sinks that need none of these nodes."""
    users: dict[str, list[str]] = {}
    for name in graph:
        for source in sources(graph, name):
            users.setdefault(source, []).append(name)
    reached = _closure((outer(node, graph) for node in nodes), lambda name: users.get(name, ()))
    return [name for name in sinks if name not in reached]


def spared(graph: Mapping[str, Any], targets: Sequence[str] | None, cached: Iterable[str]) -> list[str]:
    """The nodes that nobody looks at, as everything after them on the way to the targets is cached.

    Args:
        graph: nodes by id.
        targets: ids of what the graph is run for; None stands for the nodes that nothing links to.
        cached: ids of nodes whose result is at hand.
    """
    known = set(cached)
    if targets is None:
        used = {source for name in graph for source in sources(graph, name)}
        targets = [name for name in graph if name not in used]
    looked_at = _closure(targets, lambda name: () if name in known else sources(graph, name))
    before = _closure(known, lambda name: sources(graph, name))
    return [name for name in graph if name in before and name not in looked_at and name not in known]


def _closure(start: Iterable[str], onward: Callable[[str], Iterable[str]]) -> set[str]:
    found = set(start)
    stack = list(found)
    while stack:
        for name in onward(stack.pop()):
            if name not in found:
                found.add(name)
                stack.append(name)
    return found


def _fields(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
