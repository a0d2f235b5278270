"""Problems of a workflow as ComfyUI tells them: the body of a refused POST /prompt, and the errors of single nodes.

Shapes and `type`s are ComfyUI's. Unlike there the order is that of the document, a circle and a link to nothing are
named, and every detail says what was expected and the nearest fix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from nodegraph.errors import Kind, Problem
from nodegraph.graph import Ref
from nodegraph.spec import Input
from nodegraph.types import accepts
from server.object_info import Files, input_config, listed_once
from server.prompt_graph import Find, class_type_of, dependents, inputs_of, outer, title_of, unreached

OPTIONS_SHOWN = 20
LINES = 50  # in the details of the whole; the nodes tell the rest
OUTPUTS_SHOWN = 100  # of those that need a node, so that a body is linear in its nodes
VALUE_SHOWN = 200  # characters of a value in a text

_MESSAGES: Mapping[str, str] = {
    "required_input_missing": "Required input is missing",
    "bad_linked_input": "Bad linked input, must be a length-2 list of [node_id, slot_index]",
    "return_type_mismatch": "Return type mismatch between linked nodes",
    "invalid_input_type": "Failed to convert an input value to a {port} value",
    "value_smaller_than_min": "Value {value} smaller than min of {bound}",
    "value_bigger_than_max": "Value {value} bigger than max of {bound}",
    "value_not_in_list": "Value not in list",
    "custom_validation_failed": "Custom validation failed for node",
    "dependency_cycle": "Dependency cycle detected",
}
_OWN_TYPES: Mapping[str, str] = {"cycle": "dependency_cycle"}  # all others that ComfyUI lacks are custom validation


class Submission(NamedTuple):
    """What was submitted.

    Attributes:
        graph: nodes by id, as ComfyUI's API format has them.
        sinks: ids of the nodes it is run for.
        find: a node type by its id.
        files: the names of the files of a kind.
    """

    graph: Mapping[str, Any]
    sinks: Sequence[str]
    find: Find
    files: Files


def no_prompt() -> dict[str, Any]:
    """The body of the answer to a request without a graph."""
    return _body("no_prompt", "No prompt provided", "No prompt provided")


def prompt_error(problems: Sequence[Problem], submission: Submission) -> dict[str, Any]:
    """The body with which ComfyUI refuses a graph: the error of the whole, and those of its nodes."""
    graph = submission.graph
    ordered = sorted(problems, key=_place(graph))
    errors = node_errors(ordered, submission)
    fatal = [problem for problem in ordered if _is_fatal(problem, graph)]
    if fatal:
        return _unrunnable(fatal, graph, errors)
    if ordered and all(problem.type == "prompt_no_outputs" for problem in ordered):
        return _body("prompt_no_outputs", "Prompt has no outputs", _lines(ordered))
    if ordered and all(problem.node is None for problem in ordered):
        return _body("invalid_prompt", "The prompt cannot be run as it is", _lines(ordered))
    message = "Prompt outputs failed validation"
    return _body("prompt_outputs_failed_validation", message, _lines(ordered), errors)


def node_errors(problems: Iterable[Problem], submission: Submission) -> dict[str, Any]:
    """The errors of each node that has any, in the order of the document; those of the whole are left out."""
    graph = submission.graph
    ordered = sorted((problem for problem in problems if problem.node is not None), key=_place(graph))
    if not ordered:
        return {}
    needed_by = dependents(graph, submission.sinks)
    submission = submission._replace(files=listed_once(submission.files))
    found: dict[str, Any] = {}
    for problem in ordered:
        name = problem.node or ""
        if name not in found:
            class_type = problem.class_type or class_type_of(graph, name) or ""
            outputs = needed_by(name, OUTPUTS_SHOWN)
            found[name] = {"errors": [], "dependent_outputs": outputs, "class_type": class_type}
        found[name]["errors"].append(_reason(problem, submission))
    return found


def sound_outputs(problems: Iterable[Problem], graph: Mapping[str, Any], sinks: Sequence[str]) -> list[str]:
    """The sinks that need no node with a problem, which ComfyUI runs although others failed.

    None where the document itself is wrong or has nodes of unknown types: ComfyUI then refuses all of it.
    """
    found = list(problems)
    if any(problem.node is None or _is_fatal(problem, graph) for problem in found):
        return []
    return unreached((problem.node or "" for problem in found), graph, sinks)


def _place(graph: Mapping[str, Any]) -> Callable[[Problem], int]:
    """Where in the document a problem is; those of the whole come first."""
    places = {name: index for index, name in enumerate(graph, 1)}
    return lambda problem: 0 if problem.node is None else places.get(outer(problem.node, graph), len(places) + 1)


def _is_fatal(problem: Problem, graph: Mapping[str, Any]) -> bool:
    """True for a node that has no type, or one that is not installed."""
    if problem.kind is Kind.MISSING_NODE:
        return True
    return problem.node is not None and problem.node in graph and class_type_of(graph, problem.node) is None


def _unrunnable(fatal: Sequence[Problem], graph: Mapping[str, Any], errors: dict[str, Any]) -> dict[str, Any]:
    name = fatal[0].node or ""
    class_type = fatal[0].class_type or class_type_of(graph, outer(name, graph))
    message = (
        "Cannot execute because a node is missing the class_type property."
        if class_type is None
        else f"Cannot execute because node {class_type} does not exist."
    )
    body = _body("invalid_prompt", message, f"Node ID '#{name}'\n{_lines(fatal)}", errors)
    body["error"]["extra_info"] = {"node_id": name, "class_type": class_type, "node_title": title_of(graph, name)}
    return body


def _lines(problems: Sequence[Problem]) -> str:
    rest = [f"and {len(problems) - LINES} more"] if len(problems) > LINES else []
    return "\n".join([*map(str, problems[:LINES]), *rest])


def _body(type: str, message: str, details: str, errors: dict[str, Any] | None = None) -> dict[str, Any]:
    error: dict[str, Any] = {"type": type, "message": message, "details": details, "extra_info": {}}
    return {"error": error, "node_errors": errors or {}}


class _Missing:
    """Stands for a value that the document does not have."""


_MISSING = _Missing()


def _reason(problem: Problem, submission: Submission) -> dict[str, Any]:
    """One error of a node; what is not known of it is left out."""
    name, place = problem.node or "", problem.input or ""
    spec = submission.find(problem.class_type or class_type_of(submission.graph, name) or "")
    item = None if spec is None else spec.by_name.get(place)
    value = inputs_of(submission.graph, name).get(place, _MISSING)
    type = _type(problem, value)
    extra: dict[str, Any] = {} if problem.input is None else {"input_name": place}
    message, details = _MESSAGES[type], _details(problem, " - " if type == "custom_validation_failed" else ": ")
    if type != "required_input_missing" and item is not None:
        config = input_config(item, submission.files)
        options = cast("list[str]", config[0]) if isinstance(config[0], list) else []
        extra["input_config"] = None if len(options) > OPTIONS_SHOWN else config
        message = _filled(message, problem, item, value, config[1])
        if type == "value_not_in_list":
            details = _not_in_list(problem, value, options)
    if isinstance(value, Ref):
        linked = list(value)
        if type == "return_type_mismatch":
            extra["linked_node"] = linked
            received = _port(value, submission)
            if received is not None and item is not None:
                extra["received_type"] = received
                if accepts(received, item.port):
                    message = "Values of different model families meet"
                else:
                    what = f"{place}, received_type({received}) mismatch input_type({item.port})"
                    details = "; ".join(filter(None, [what, problem.fix]))
        else:
            extra["received_value"] = linked
            message = "Bad linked input" if type == "bad_linked_input" else message
    elif value is not _MISSING:
        extra["received_value"] = value
    if type == "invalid_input_type":
        extra["exception_message"] = problem.what
    return {"type": type, "message": message, "details": details, "extra_info": extra}


def _type(problem: Problem, value: object) -> str:
    type = _OWN_TYPES.get(problem.type, problem.type)
    if type == "invalid_input_type" and isinstance(value, list):
        return "bad_linked_input"  # as ComfyUI, to which every list is a link
    return type if type in _MESSAGES else "custom_validation_failed"


def _filled(message: str, problem: Problem, item: Input, value: object, options: Mapping[str, Any]) -> str:
    """The message with its values; where the bound itself is excluded, the problem's own words."""
    bound = options.get("min" if problem.type == "value_smaller_than_min" else "max")
    if "{bound}" in message and value == bound:
        return f"Value {problem.what}"
    return message.format(port=item.port, value=_short(value), bound=bound)


def _details(problem: Problem, separator: str) -> str:
    words = [problem.what, problem.expected and f"expected {problem.expected}", problem.fix]
    text = "; ".join(filter(None, words))
    return text if problem.input is None else f"{problem.input}{separator}{text}"


def _not_in_list(problem: Problem, value: object, options: Sequence[str]) -> str:
    told = f"(list of length {len(options)})" if len(options) > OPTIONS_SHOWN else str(list(options))
    return "; ".join(filter(None, [f"{problem.input}: '{_short(value)}' not in {told}", problem.fix]))


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= VALUE_SHOWN else text[: VALUE_SHOWN - 3] + "..."


def _port(ref: Ref, submission: Submission) -> str | None:
    """The type of the output that a link comes from, where it is known."""
    spec = submission.find(class_type_of(submission.graph, ref.node) or "")
    slot = ref.slot if spec is None or isinstance(ref.slot, int) else spec.slots.get(ref.slot, -1)
    if spec is None or not isinstance(slot, int) or not 0 <= slot < len(spec.outputs):
        return None
    return spec.outputs[slot].port
