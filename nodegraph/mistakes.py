"""What is wrong with a node of a document, as problems: what, where, what was expected, and the nearest fix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from nodegraph.errors import Problem, did_you_mean, nearest
from nodegraph.graph import Gap, Graph, Node, Ref
from nodegraph.spec import Input, NodeSpec
from nodegraph.types import accepts

if TYPE_CHECKING:
    from nodegraph.plan import Step


def report_link(
    node: Node, item: Input, ref: Ref, source: Step | None, slot: int | None, graph: Graph, problems: list[Problem]
) -> None:
    """A link to nowhere, to an output that does not exist, or of a type that does not fit."""

    def add(what: str, expected: str, fix: str | None, kind: str) -> None:
        problems.append(Problem(what, node.id, node.class_type, item.name, expected, fix, kind))

    if ref.node in graph.modes and ref.node not in graph.nodes:
        what = f"links to output {ref.slot!r} of node {ref.node}, which is skipped and has no such output"
        add(what, f"a link to {item.port}", None, "bad_linked_input")
    elif ref.node not in graph.nodes and source is None:
        add(f"links to node {ref.node!r}, which does not exist", "a link to a node of this workflow",
            did_you_mean(ref.node, graph.nodes), "bad_linked_input")  # fmt: skip
    elif item.file is not None:
        add(
            "is linked, but which file it is must be known before the run",
            "the name of a file",
            "write the name here",
            "bad_linked_input",
        )
    elif source is None:
        return  # the source is an unknown node, already reported, or part of a circle
    elif slot is None:
        names = [output.name for output in source.spec.outputs]
        expected = ", ".join(f"{index} ({name})" for index, name in enumerate(names)) or "nothing: it has no outputs"
        add(f"links to output {ref.slot!r} of node {ref.node} ({source.spec.name}), which it does not have",
            expected, did_you_mean(str(ref.slot), names), "bad_linked_input")  # fmt: skip
    else:
        port = source.spec.outputs[slot].port
        fits = [
            f"[{source.id!r}, {output.name!r}]" for output in source.spec.outputs if accepts(output.port, item.port)
        ]
        fix = f"link it to {fits[0]}" if fits else f"link it to a node that gives {item.port}"
        add(f"gets {port} from node {source.id} ({source.spec.name})", item.port, fix, "return_type_mismatch")


def missing(node: Node, item: Input, gap: Gap | None) -> Problem:
    """An input that the document must give and does not; `gap` says why a link to it brings nothing."""
    near = next((name for name in node.inputs if nearest(name, [item.name])), None)
    fix = f"{near!r} is not an input; rename it to {item.name!r}" if near else None
    expected = f"a link to {item.port}" if item.literal is None else f"a value of type {item.port}"
    what, fix = ("is missing", fix) if gap is None else (f"is missing, as {gap.what}", gap.fix)
    return Problem(what, node.id, node.class_type, item.name, expected, fix, "required_input_missing")


def not_a_link(node: Node, item: Input, value: Any) -> Problem:
    """A literal where only a link fits."""
    what = f"{_short(value)} is not a link"
    return Problem(
        what, node.id, node.class_type, item.name, f"[node id, output] giving {item.port}", type="bad_linked_input"
    )


def misspelt(node: Node, spec: NodeSpec) -> list[Problem]:
    """Names that are no inputs but nearly are; others are ignored, as clients add names of their own."""
    free = [item.name for item in spec.inputs if item.name not in node.inputs and not item.is_required]
    return [
        Problem("is not an input", node.id, node.class_type, name, fix=f"did you mean {near!r}?", type="unknown_input")
        for name in node.inputs
        if name not in spec.by_name and len(name) > 2 and (near := nearest(name, free))
    ]


_TYPES = {
    "greater_than_equal": "value_smaller_than_min", "greater_than": "value_smaller_than_min",
    "less_than_equal": "value_bigger_than_max", "less_than": "value_bigger_than_max",
    "literal_error": "value_not_in_list",
}  # fmt: skip
_NAMES = {"INT": "a whole number", "FLOAT": "a number", "STRING": "a text", "BOOLEAN": "true or false"}


def literal_problems(node: Node, spec: NodeSpec, error: ValidationError) -> list[Problem]:
    """What pydantic found wrong with a node's literals."""
    problems: list[Problem] = []
    for item in error.errors(include_url=False):
        found = spec.by_name[str(item["loc"][0])]
        kind = _TYPES.get(item["type"], "invalid_input_type")
        value = node.inputs[found.name]
        fix = None
        if found.choices is not None:
            what, fix = f"{_short(value)} is unknown", did_you_mean(str(value), found.choices)
            shown = ", ".join(found.choices[:20]) + (", ..." if len(found.choices) > 20 else "")
            expected = f"one of {shown}"
        else:
            what = f"{_short(value)} is {'out of range' if kind.startswith('value_') else 'of the wrong type'}"
            expected = _NAMES.get(found.port, found.port) + _range(found.limits)
        problems.append(Problem(what, node.id, spec.name, found.name, expected, fix, kind))
    return problems


def _range(limits: Mapping[str, float]) -> str:
    words = {"ge": "from {}", "gt": "above {}", "le": "up to {}", "lt": "below {}", "multiple_of": "in steps of {}"}
    said = [words[name].format(limits[name]) for name in words if name in limits]
    return (" " + " ".join(said)) if said else ""


def _short(value: Any) -> str:
    text = re.sub(r"\s+", " ", repr(value))
    return text if len(text) <= 60 else text[:57] + "..."
