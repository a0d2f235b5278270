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
from nodegraph.graph import Graph, Node, Ref
from nodegraph.spec import Input, NodeSpec, Output
from nodegraph.workflow import Workflow, split_address

PREFIX = "workflow:"


Find = Callable[[str], NodeSpec | None]


class Inlined(NamedTuple):
    """A graph without workflow nodes, and where the outputs of those that were there come from now."""

    graph: Graph
    forwards: Mapping[tuple[str, int | str], Ref]
    outputs: Mapping[str, tuple[str, ...]]

    def follow(self, ref: Ref) -> Ref:
        """A link into a workflow node as a link to the node inside that makes the value."""
        while (found := self.forwards.get((ref.node, ref.slot))) is not None:
            ref = found
        return ref


def inline(graph: Graph, load: Callable[[str], Workflow]) -> Inlined:
    """The graph with every workflow node replaced by what it stands for.

    Args:
        graph: as written.
        load: gives the document of a name; raises NodegraphError when there is none.

    Raises:
        WorkflowError: a document is missing, contains itself, or is given inputs it does not declare.
    """
    nodes: dict[str, Node] = dict(graph.nodes)
    if not any(node.class_type.startswith(PREFIX) for node in nodes.values()):
        return Inlined(graph, {}, {})
    problems: list[Problem] = []
    forwards: dict[tuple[str, int | str], Ref] = {}
    outputs: dict[str, tuple[str, ...]] = {}
    pending: list[tuple[str, tuple[str, ...]]] = [
        (name, ()) for name, node in nodes.items() if node.class_type.startswith(PREFIX)
    ]
    while pending:
        name, around = pending.pop()
        outer = nodes.pop(name)
        try:
            if outer.class_type in around:
                raise WorkflowError.of("it contains itself: " + " -> ".join([*around, outer.class_type]))
            inner = load(outer.class_type.removeprefix(PREFIX))
            body = list(_bind(outer, inner))
        except WorkflowError as error:
            problems += [replace(problem, node=name, class_type=outer.class_type) for problem in error.problems]
            continue
        except NodegraphError as error:
            problems.append(Problem(str(error), name, outer.class_type, kind=Kind.MISSING_NODE))
            continue
        outputs[name] = tuple(inner.outputs)
        for node in body:
            nodes[node.id] = node
            if node.class_type.startswith(PREFIX):
                pending.append((node.id, (*around, outer.class_type)))
        for slot, (output, place) in enumerate(inner.outputs.items()):
            target, output_name = split_address(place)
            forwards[name, slot] = forwards[name, output] = Ref(f"{name}:{target}", _slot(output_name))
    found = Inlined(graph, forwards, outputs)
    linked = {name: _forward(node, found, problems) for name, node in nodes.items()}
    if problems:
        raise WorkflowError(problems)
    return Inlined(Graph(linked), forwards, outputs)


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


def _bind(outer: Node, inner: Workflow) -> Iterable[Node]:
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
    for node in Graph.of(inner).nodes.values():
        inside = {
            name: Ref(f"{outer.id}:{value.node}", value.slot) if type(value) is Ref else value
            for name, value in node.inputs.items()
        }
        yield Node(f"{outer.id}:{node.id}", node.class_type, {**inside, **values.get(node.id, {})})


def _forward(node: Node, inlined: Inlined, problems: list[Problem]) -> Node:
    inputs = dict(node.inputs)
    for name, value in inputs.items():
        if type(value) is Ref:
            inputs[name] = found = inlined.follow(value)
            names = inlined.outputs.get(found.node)
            if names is not None:
                what = f"links to output {found.slot!r} of node {found.node}, which it does not have"
                problems.append(
                    Problem(what, node.id, node.class_type, name, ", ".join(names) or "nothing: it declares no outputs",
                            did_you_mean(str(found.slot), names), "bad_linked_input")
                )  # fmt: skip
    return Node(node.id, node.class_type, inputs)


def _slot(name: str) -> int | str:
    return int(name) if name.isdecimal() else name
