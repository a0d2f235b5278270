"""Node types as ComfyUI's `/object_info` tells them, from which its frontend builds menus, sockets and widgets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from nodegraph.graph import REROUTE
from nodegraph.spec import MISSING, Input, NodeSpec

Files = Callable[[str], list[str]]
FURTHEST = 2**53 - 1
"""Largest whole number of JavaScript. Where no bound is told ComfyUI's canvas takes 0 and 2048 and clamps to them."""


def object_info(registry: Iterable[NodeSpec], files: Files) -> dict[str, Any]:
    """ComfyUI's description of every node type, by id; the files of each kind are listed once.

    Reroute is not among them, as ComfyUI's frontend has one of its own.

    Args:
        registry: the node types.
        files: the names of the files of a kind.
    """
    once = listed_once(files)
    return {spec.name: entry(spec, once) for spec in registry if spec.name != REROUTE}


def entry(spec: NodeSpec, files: Files) -> dict[str, Any]:
    """ComfyUI's description of one node type.

    Args:
        spec: the node type.
        files: the names of the files of a kind.
    """
    required = {item.name: input_config(item, files) for item in spec.inputs if _is_required(item)}
    optional = {item.name: input_config(item, files) for item in spec.inputs if not _is_required(item)}
    return {
        "input": {"required": required, "optional": optional, "hidden": {}},
        "input_order": {"required": list(required), "optional": list(optional), "hidden": []},
        "output": [output.port for output in spec.outputs],
        "output_is_list": [output.is_each for output in spec.outputs],
        "output_name": [output.name for output in spec.outputs],
        "name": spec.name,
        "display_name": spec.title,
        "description": spec.doc,
        "python_module": _python_module(spec.module),
        "category": spec.category,
        "output_node": spec.kind == "sink",
    }


def input_config(item: Input, files: Files) -> list[Any]:
    """An input as ComfyUI describes it: `[type, options]`, where the type of a choice is the list of what there is."""
    options: dict[str, Any] = {}
    if has_widget(item):
        options |= _bounds(item) | _display(item)
    elif item.port in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"):
        options["forceInput"] = True  # else the canvas makes a widget of such a type
    if item.default is not MISSING and item.default is not None:
        options["default"] = item.default
    if item.is_lazy:
        options["lazy"] = True
    if tooltip := item.widget.tooltip or item.doc:
        options["tooltip"] = tooltip
    if item.file is not None:
        if item.file.kind in ("output", "temp"):
            options["image_folder"] = item.file.kind
        return [list(files(item.file.kind)), options]
    return [item.port if item.choices is None else list(item.choices), options]


def listed_once(files: Files) -> Files:
    """The same names of files, with each kind looked up on disk when first asked for and then kept."""
    listed: dict[str, list[str]] = {}

    def once(kind: str) -> list[str]:
        if kind not in listed:
            listed[kind] = files(kind)
        return listed[kind]

    return once


def has_widget(item: Input) -> bool:
    """True when people set the input on the node itself, False when only a link fits or nothing stands for its value.

    An input that may be empty has none, since a widget always has a value.
    """
    return item.literal not in (None, Any) and item.default is not None


def _is_required(item: Input) -> bool:
    """ComfyUI requires what has a widget, default or not: its canvas orders widgets by that, and files name none."""
    return item.default is MISSING or has_widget(item)


def _bounds(item: Input) -> dict[str, Any]:
    """The range and step of a number. A bound that is itself excluded is told as it is: planning says so in words."""
    if item.port not in ("INT", "FLOAT"):
        return {}
    limits, widget = item.limits, item.widget
    found: dict[str, Any] = {
        "min": limits.get("ge", limits.get("gt", -FURTHEST)),
        "max": limits.get("le", limits.get("lt", FURTHEST)),
    }
    step = widget.step or limits.get("multiple_of")
    if step is not None:
        found["step"] = step
    if widget.round is not None:
        found["round"] = widget.round
    elif item.port == "FLOAT" and _places(item.default) > _places(step or 0.5):
        # The canvas rounds to the digits of the step, 0.5 by default, and would change such a default when touched.
        found["round"] = float(Decimal(1).scaleb(-_places(item.default)))
    return found


def _places(value: Any) -> int:
    """Decimal places of a number."""
    if not isinstance(value, (int, float)):
        return 0
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _display(item: Input) -> dict[str, Any]:
    widget = item.widget
    found = {
        "multiline": widget.multiline, "dynamicPrompts": widget.dynamic_prompts, "display": widget.display,
        "control_after_generate": widget.control_after_generate, "image_upload": widget.image_upload,
        "label_on": widget.label_on, "label_off": widget.label_off,
    }  # fmt: skip
    return {name: value for name, value in found.items() if value not in (None, False)}


def _python_module(module: str) -> str:
    """Where ComfyUI would have the node from: `nodes` for built-in ones, else the pack."""
    pack = re.sub(r"^nodegraph_user_[0-9a-f]+_", "", module.partition(".")[0])
    return "nodes" if pack == "nodes" else f"custom_nodes.{pack or 'workflows'}"
