"""Skipped and muted nodes, and reroutes: taken out of a graph before it is planned, so that no key knows of them.

A skipped node passes inputs on, by the rule of ComfyUI's bypass; a `Reroute` is one that passes on anything. A muted
node is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from nodegraph.errors import Problem, WorkflowError, did_you_mean
from nodegraph.graph import MUTE, REROUTE, SKIP, Gap, Graph, Node, Ref
from nodegraph.spec import MISSING, Input, NodeSpec
from nodegraph.types import ANY, bypassed

MODES = (SKIP, MUTE)


class Given(NamedTuple):
    """A value in place of a link, as a skipped node has it written."""

    value: Any


class Resolved(NamedTuple):
    """A graph in which every node runs as it is; `follow` gives what a link stands for, also one to a node left out."""

    graph: Graph
    follow: Callable[[Ref], Ref | Given | Gap]


def resolve(graph: Graph, find: Callable[[str], NodeSpec | None]) -> Resolved:
    """The graph without skipped and muted nodes and reroutes, its links led past them; linear in its size.

    What stands in the way of that stays, for planning to tell of it: circles, and skipped nodes of unknown types.

    Args:
        graph: without workflow nodes, but for skipped and muted ones.
        find: the node types at hand.

    Raises:
        WorkflowError: a mode is unknown; every one is named.
    """
    if not graph.modes:
        return Resolved(graph, _itself)
    unknown = [
        Problem(f"has the mode {mode!r}, which is unknown", name, graph.nodes[name].class_type, expected="skip or mute",
                fix=did_you_mean(str(mode), MODES) or "leave mode out of a node that runs as it is")
        for name, mode in graph.modes.items() if mode not in MODES
    ]  # fmt: skip
    if unknown:
        raise WorkflowError(unknown)
    ways = _Ways(graph, find)
    gaps: dict[tuple[str, str], Gap] = {}
    nodes = {name: ways.led(node, gaps) for name, node in graph.nodes.items() if name not in graph.modes}
    for name in ways.kept:  # grows: these may link to more of them
        nodes[name] = ways.led(graph.nodes[name], gaps)
    return Resolved(Graph(nodes, graph.modes, gaps), ways.follow)


def passed_on(spec: NodeSpec, slot: int) -> Input | None:
    """The input that a skipped node passes on for an output. Those that only take links come before widgets."""
    inputs = sorted(spec.inputs, key=lambda item: item.name in spec.widgets)
    place = bypassed(spec.outputs[slot].port, slot, [item.port for item in inputs])
    return None if place is None else inputs[place]


def _itself(ref: Ref) -> Ref:
    return ref


class _Ways:
    """Where links lead, each followed once; `kept` are the ids of nodes that have to stay, in order."""

    def __init__(self, graph: Graph, find: Callable[[str], NodeSpec | None]) -> None:
        self.graph, self.find = graph, find
        self.ends: dict[Ref, Ref | Given | Gap] = {}
        self.kept: list[str] = []
        self._known: set[str] = set()

    def led(self, node: Node, gaps: dict[tuple[str, str], Gap]) -> Node:
        """A node with its links led past those left out; what brings nothing goes to `gaps`."""
        modes = self.graph.modes
        if not any(type(value) is Ref and value.node in modes for value in node.inputs.values()):
            return node
        inputs: dict[str, Any] = {}
        for name, value in node.inputs.items():
            end = self.follow(value) if type(value) is Ref else value
            if type(end) is Gap:
                gaps[node.id, name] = end
            else:
                inputs[name] = end.value if type(end) is Given else end
        return Node(node.id, node.class_type, inputs)

    def follow(self, ref: Ref) -> Ref | Given | Gap:
        """What a link stands for; a link to a node that stays, or to an output that is not there, for itself."""
        path: dict[Ref, None] = {}
        at: Ref | Given | Gap = ref
        while type(at) is Ref and at.node in self.graph.modes:
            known = self.ends.get(at)
            if known is not None:
                at = known
                break
            if at in path:
                refs = list(path)
                circle = refs[refs.index(at) :]
                self._keep(step.node for step in circle)
                self.ends |= {step: step for step in circle}
                path = dict.fromkeys(refs[: refs.index(at)])
                break
            path[at] = None
            step = self._step(at)
            if step is None:
                break
            at = step
        self.ends |= dict.fromkeys(path, at)
        return at

    def _step(self, ref: Ref) -> Ref | Given | Gap | None:
        """What a link to a node that is left out brings; None where that is not known."""
        node = self.graph.nodes[ref.node]
        label = f"node {node.id} ({node.class_type})"
        if self.graph.modes[node.id] == MUTE:
            return Gap(f"{label} is muted", "unmute it, or connect another node", node.id)
        if node.class_type == REROUTE:
            gap = Gap(f"{label} has nothing connected", "connect it", node.id, "value")
            return _brought(node, "value", MISSING, gap) if ref.slot in (0, ANY) else None
        spec = self.find(node.class_type)
        if spec is None:
            self._keep([node.id])
            return None
        slot = spec.slot(ref.slot)
        if slot is None:
            return None
        item, port = passed_on(spec, slot), spec.outputs[slot].port
        what = f"{label} is skipped and passes on no {port}"
        if item is None:
            return Gap(what, f"connect a node that gives {port}, or unskip it", node.id)
        has_default = item.literal is not None and item.file is None and item.default is not None
        gap = Gap(what, f"connect its {item.name}, or unskip it", node.id, item.name)
        return _brought(node, item.name, item.default if has_default else MISSING, gap)

    def _keep(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self._known:
                self._known.add(name)
                self.kept.append(name)


def _brought(node: Node, name: str, default: Any, gap: Gap) -> Ref | Given | Gap:
    value = node.inputs.get(name, default)
    if value is MISSING:
        return gap
    return value if type(value) is Ref else Given(value)
