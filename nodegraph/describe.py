"""Inputs of nodes and workflows in words and as JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nodegraph.errors import DefinitionError
from nodegraph.spec import MISSING, Input, NodeSpec
from nodegraph.subgraph import PREFIX, Find, input_of
from nodegraph.workflow import Workflow

METAVARS = {"INT": "INT", "FLOAT": "NUMBER", "BOOLEAN": "true|false", "STRING": "TEXT"}
KINDS = {"INT": "whole number", "FLOAT": "number", "BOOLEAN": "true or false", "STRING": "text", "*": "any value"}
SCHEMA_TYPES = {"INT": "integer", "FLOAT": "number", "BOOLEAN": "boolean", "STRING": "string", "COMBO": "string"}
SCHEMA_LIMITS = {
    "ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum", "multiple_of": "multipleOf",
}  # fmt: skip
DETAIL_LIMITS = {
    "ge": "min", "gt": "exclusive_min", "le": "max", "lt": "exclusive_max", "multiple_of": "multiple_of",
}  # fmt: skip
HINTS = (
    "step", "round", "multiline", "display", "control_after_generate", "image_upload", "dynamic_prompts", "label_on",
    "label_off", "tooltip",
)  # fmt: skip


def is_value(item: Input) -> bool:
    """True when a document may write a value for it; else it only takes a link."""
    return item.literal is not None


def metavar(item: Input) -> str:
    """What stands for its value in help."""
    if item.file is not None:
        return "FILE"
    return "NAME" if item.choices is not None else METAVARS.get(item.port, "VALUE")


def kind(item: Input) -> str:
    """Its type in words, without limits."""
    if item.file is not None:
        return f"file of {item.file.kind}"
    if item.choices is not None:
        return "one of " + ", ".join(item.choices)
    return KINDS.get(item.port, f"value of type {item.port}") if is_value(item) else f"link to {item.port}"


def limits(item: Input) -> str:
    """`1 to 10000`, `above 0`, or nothing."""
    found = item.limits
    low = f"{_number(found['ge'])}" if "ge" in found else f"above {_number(found['gt'])}" if "gt" in found else ""
    high = f"{_number(found['le'])}" if "le" in found else f"below {_number(found['lt'])}" if "lt" in found else ""
    if "ge" in found and "le" in found:
        spoken = f"{low} to {high}"
    else:
        low = f"from {low}" if "ge" in found else low
        high = f"up to {high}" if "le" in found else high
        spoken = f"{low}, {high}" if low and high else low or high
    steps = f"in steps of {_number(found['multiple_of'])}" if "multiple_of" in found else ""
    return ", ".join(filter(None, [spoken, steps]))


def expected(item: Input) -> str:
    """Type and limits: `whole number 1 to 10000`."""
    return f"{kind(item)} {limits(item)}".rstrip()


def default(item: Input) -> str:
    """`default 20`, or `required`."""
    if item.is_required:
        return "required"
    value = item.default
    text = "true" if value is True else "false" if value is False else "none" if value is None else str(value)
    text = " ".join(text.split())
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"default {text!r}" if isinstance(value, str) and (not text or " " in text) else f"default {text}"


def schema(item: Input, *, is_required: bool) -> dict[str, Any]:
    """An input as JSON Schema."""
    found: dict[str, Any] = {}
    if item.port in SCHEMA_TYPES:
        found["type"] = SCHEMA_TYPES[item.port]
    if item.choices is not None:
        found["enum"] = list(item.choices)
    found |= {SCHEMA_LIMITS[name]: value for name, value in item.limits.items()}
    if not item.is_required and not is_required and item.default is not None:
        found["default"] = item.default
    if item.file is not None:
        found["x-file"] = item.file.kind
    if not is_value(item):
        found["x-link"] = item.port
    if item.doc:
        found["description"] = item.doc
    return found


def of_node(spec: NodeSpec) -> dict[str, Any]:
    """A node type as JSON: its inputs as JSON Schema, its outputs by slot."""
    inputs = {
        item.name: {
            "port": item.port, "required": item.is_required, "link_only": not is_value(item),
            **schema(item, is_required=False),
        }
        for item in spec.inputs
    }  # fmt: skip
    return {**_summary(spec), "inputs": inputs, "outputs": _outputs(spec)}


def in_detail(spec: NodeSpec) -> dict[str, Any]:
    """A node type as JSON with all that an editor shows: inputs in order, with hints for their widgets."""
    name = spec.name.removeprefix(PREFIX) if spec.workflow is not None else None
    return {**_summary(spec), "workflow": name,
            "inputs": [_input_in_detail(item) for item in spec.inputs], "outputs": _outputs(spec)}  # fmt: skip


def declared_inputs(workflow: Workflow, find: Find) -> dict[str, Input | None]:
    """Declared inputs by name; None where the node type is not known.

    Args:
        workflow: the document.
        find: gives a node type by its id.
    """
    found: dict[str, Input | None] = {}
    for name in workflow.inputs:
        try:
            found[name] = input_of(workflow, name, find)
        except DefinitionError:
            found[name] = None
    return found


def of_inputs(workflow: Workflow, declared: Mapping[str, Input | None]) -> dict[str, Any]:
    """The declared inputs as a JSON Schema of an object."""
    found: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"}
    if workflow.name:
        found["title"] = workflow.name
    if workflow.doc:
        found["description"] = workflow.doc
    found["properties"] = {
        name: {} if item is None else schema(item, is_required=workflow.inputs[name].required)
        for name, item in declared.items()
    }
    found["required"] = [name for name in declared if workflow.inputs[name].required]
    return {**found, "additionalProperties": False}


def _summary(spec: NodeSpec) -> dict[str, Any]:
    return {"name": spec.name, "title": spec.title, "category": spec.category, "doc": spec.doc, "kind": spec.kind,
            "module": spec.module}  # fmt: skip


def _outputs(spec: NodeSpec) -> list[dict[str, Any]]:
    return [{"name": output.name, "port": output.port, "is_list": output.is_each} for output in spec.outputs]


def _input_in_detail(item: Input) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": item.name, "port": item.port, "required": item.is_required, "link_only": not is_value(item),
        "is_list": item.is_list, "is_lazy": item.is_lazy, "doc": item.doc,
    }  # fmt: skip
    if is_value(item) and item.default is not MISSING and _is_json(item.default):
        found["default"] = item.default
    if item.choices is not None:
        found["choices"] = list(item.choices)
    if item.file is not None:
        found["file"] = item.file.kind
    found |= {DETAIL_LIMITS[name]: value for name, value in item.limits.items() if _is_json(value)}
    hints = {name: getattr(item.widget, name) for name in HINTS}
    return found | {name: value for name, value in hints.items() if value not in (None, False)}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:g}"
