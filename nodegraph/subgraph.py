"""Workflows as nodes: a node of type `workflow:NAME` stands for the document NAME, linked, not copied.

Before planning, each such node is replaced by the nodes of its document, with ids `outer:inner`, as ComfyUI names the
nodes of its subgraphs. So what is inside is checked before anything runs, and shares keys with the same work outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from nodegraph.errors import (
    DefinitionError,
    Kind,
    NodegraphError,
    Problem,
    WorkflowError,
    did_you_mean,
)
from nodegraph.graph import Gap, Graph, Node, Ref
from nodegraph.modes import Given, resolve
from nodegraph.spec import Input, NodeSpec, Output
from nodegraph.workflow import Workflow, split_address

PREFIX = "workflow:"
Find = Callable[[str], NodeSpec | None]
Forwards = Mapping[tuple[str, int | str], Ref]


class Inlined(NamedTuple):
    """A graph without workflow nodes, skipped and muted nodes and reroutes, and where their outputs come from now."""

    graph: Graph
    forwards: Forwards
    outputs: Mapping[str, tuple[str, ...]]
    past: Callable[[Ref], Ref | Given | Gap]

    def follow(self, ref: Ref) -> Ref | Given | Gap:
        """A link into what is no longer there as a link to the node that makes the value."""
        return self.past(_forwarded(ref, self.forwards))

    def output(self, place: str) -> Ref | Given | Gap:
        """What the address of an output stands for."""
        node, output = split_address(place)
        return self.follow(Ref(node, _slot(output)))

    def makers(self, workflow: Workflow, outputs: Iterable[str]) -> list[str]:
        """The nodes that make these declared outputs.

        Raises:
            WorkflowError: some of them bring nothing.
        """
        ends = {name: self.output(workflow.outputs[name]) for name in outputs}
        problems = [_nothing(f"output {name!r}", end) for name, end in ends.items() if not isinstance(end, Ref)]
        if problems:
            raise WorkflowError(problems)
        return [end.node for end in ends.values() if isinstance(end, Ref)]

    def target(self, name: str, workflow: Workflow) -> str:
        """The node to run for a target as the user names it: an id, a declared output, or a title only one node has.

        Raises:
            WorkflowError: it brings nothing, or several nodes have the title.
        """
        if name in self.graph.nodes:
            return name
        if name in workflow.outputs:
            return self.makers(workflow, [name])[0]
        titled = [key for key, node in workflow.nodes.items() if (node.meta or {}).get("title") == name]
        if name not in workflow.nodes and len(titled) > 1:
            what = f"target {name!r} is the title of nodes {', '.join(titled)}"
            raise WorkflowError.of(what, "the id of one of them")
        found = titled[0] if titled and name not in workflow.nodes else name
        end = self.follow(Ref(found, 0)) if found in self.graph.modes else Ref(found, 0)
        if not isinstance(end, Ref):
            raise WorkflowError([_nothing(f"target {name!r}", end)])
        return end.node


def inline(graph: Graph, load: Callable[[str], Workflow], find: Find) -> Inlined:
    """The graph with every workflow node replaced by what it stands for, then every skipped node and reroute.

    Args:
        graph: as written.
        load: gives the document of a name; raises NodegraphError when there is none.
        find: gives a node type by its id.

    Raises:
        WorkflowError: a document is missing, contains itself, or is given inputs it does not declare; a mode is
            unknown.
    """
    nodes: dict[str, Node] = dict(graph.nodes)
    modes = graph.modes
    if not any(node.class_type.startswith(PREFIX) and node.id not in modes for node in nodes.values()):
        resolved = resolve(graph, find)
        return Inlined(resolved.graph, {}, {}, resolved.follow)
    problems: list[Problem] = []
    forwards: dict[tuple[str, int | str], Ref] = {}
    outputs: dict[str, tuple[str, ...]] = {}
    modes = dict(modes)
    pending: list[tuple[str, tuple[str, ...]]] = [
        (name, ()) for name, node in nodes.items() if node.class_type.startswith(PREFIX) and name not in modes
    ]
    while pending:
        name, around = pending.pop()
        outer = nodes.pop(name)
        try:
            if outer.class_type in around:
                raise WorkflowError.of("it contains itself: " + " -> ".join([*around, outer.class_type]))
            inner = load(outer.class_type.removeprefix(PREFIX))
            body = _bind(outer, inner)
        except WorkflowError as error:
            problems += [replace(problem, node=name, class_type=outer.class_type) for problem in error.problems]
            continue
        except NodegraphError as error:
            problems.append(Problem(str(error), name, outer.class_type, kind=Kind.MISSING_NODE))
            continue
        outputs[name] = tuple(inner.outputs)
        modes |= body.modes
        for node in body.nodes.values():
            nodes[node.id] = node
            if node.class_type.startswith(PREFIX) and node.id not in modes:
                pending.append((node.id, (*around, outer.class_type)))
        for slot, (output, place) in enumerate(inner.outputs.items()):
            target, output_name = split_address(place)
            forwards[name, slot] = forwards[name, output] = Ref(f"{name}:{target}", _slot(output_name))
    linked = {name: _forward(node, forwards, outputs, problems) for name, node in nodes.items()}
    if problems:
        raise WorkflowError(problems)
    resolved = resolve(Graph(linked, modes), find)
    return Inlined(resolved.graph, forwards, outputs, resolved.follow)


def spec_of_workflow(name: str, workflow: Workflow, find: Find) -> NodeSpec:
    """The interface of a workflow as a node: its declared inputs and outputs, typed by what they bind.

    Args:
        name: its name in the library.
        workflow: the document.
        find: gives a node type by its id.

    Raises:
        DefinitionError: it declares no outputs, or binds what does not exist.
    """
    if not workflow.outputs:
        raise DefinitionError(f'workflow {name!r} declares no outputs; add "outputs": {{"image": "8.IMAGE"}}')
    inputs = tuple(input_of(workflow, declared, find) for declared in workflow.inputs)
    outputs = tuple(
        Output(declared, _output_port(workflow, place, find)) for declared, place in workflow.outputs.items()
    )
    return NodeSpec(
        PREFIX + name, workflow.name or name, "workflows", workflow.doc, inputs, outputs, _inert, workflow=workflow
    )


def input_of(workflow: Workflow, name: str, find: Find) -> Input:
    """A declared input: type, limits and choices of the first node input it binds; default as the document has it.

    Raises:
        DefinitionError: what it binds does not exist.
    """
    declared = workflow.inputs[name]
    node, field = split_address(declared.bind[0])
    spec = find(workflow.nodes[node].class_type)
    bound = spec.by_name.get(field) if spec else None
    if bound is None:
        fix = f"; {did_you_mean(field, spec.by_name) or ''}" if spec else ""
        raise DefinitionError(f"input {name!r} binds {declared.bind[0]!r}, which is no input of a known node{fix}")
    default: Any = workflow.nodes[node].inputs.get(field, bound.default)
    changes: dict[str, Any] = {"name": name, "doc": declared.doc or bound.doc}
    if not isinstance(default, list):
        changes["default"] = default
    return replace(bound, **changes)


def _output_port(workflow: Workflow, place: str, find: Find) -> str:
    node, output = split_address(place)
    spec = find(workflow.nodes[node].class_type)
    slot = (int(output) if output.isdecimal() else spec.slots.get(output)) if spec else None
    if spec is None or slot is None or slot >= len(spec.outputs):
        raise DefinitionError(f"output {place!r} is no output of a known node")
    return spec.outputs[slot].port


def _inert(**_: Any) -> None:
    raise NotImplementedError("a workflow node is replaced by its nodes before anything runs")


def _bind(outer: Node, inner: Workflow) -> Graph:
    """The nodes of a document under the id of the node that stands for it, with its inputs put in place."""
    unknown = [name for name in outer.inputs if name not in inner.inputs]
    if unknown:
        names = ", ".join(inner.inputs) or "none"
        raise WorkflowError([
            Problem("is not an input", input=name, expected=names, fix=did_you_mean(name, inner.inputs))
            for name in unknown
        ])  # fmt: skip
    values: dict[str, dict[str, Any]] = {}
    for name, value in outer.inputs.items():
        for place in inner.inputs[name].bind:
            node, field = split_address(place)
            values.setdefault(node, {})[field] = value
    missing = [name for name, item in inner.inputs.items() if item.required and name not in outer.inputs]
    if missing:
        raise WorkflowError([Problem("is missing", input=name, expected="a value or a link") for name in missing])
    graph = Graph.of(inner)
    nodes: dict[str, Node] = {}
    for node in graph.nodes.values():
        id = f"{outer.id}:{node.id}"
        inside = {
            name: Ref(f"{outer.id}:{value.node}", value.slot) if type(value) is Ref else value
            for name, value in node.inputs.items()
        }
        nodes[id] = Node(id, node.class_type, {**inside, **values.get(node.id, {})})
    return Graph(nodes, {f"{outer.id}:{name}": mode for name, mode in graph.modes.items()})


def _forwarded(ref: Ref, forwards: Forwards) -> Ref:
    """A link into a workflow node as a link to the node inside that makes the value."""
    while (found := forwards.get((ref.node, ref.slot))) is not None:
        ref = found
    return ref


def _forward(
    node: Node, forwards: Forwards, outputs: Mapping[str, tuple[str, ...]], problems: list[Problem]
) -> Node:  # fmt: skip
    inputs = dict(node.inputs)
    for name, value in inputs.items():
        if type(value) is Ref:
            inputs[name] = found = _forwarded(value, forwards)
            names = outputs.get(found.node)
            if names is not None:
                what = f"links to output {found.slot!r} of node {found.node}, which it does not have"
                problems.append(
                    Problem(what, node.id, node.class_type, name, ", ".join(names) or "nothing: it declares no outputs",
                            did_you_mean(str(found.slot), names), "bad_linked_input")
                )  # fmt: skip
    return Node(node.id, node.class_type, inputs)


def _nothing(what: str, end: Given | Gap) -> Problem:
    """What is wanted and that no node makes."""
    if isinstance(end, Gap):
        return Problem(f"{what} brings nothing, as {end.what}", fix=end.fix)
    return Problem(f"{what} is a plain value that skipped nodes pass on", expected="the result of a node")


def _slot(name: str) -> int | str:
    return int(name) if name.isdecimal() else name
